"""Incremental rebuilds equal full rebuilds, whatever happened before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import shelfwise.retrieval.index.tantivy
from shelfwise.indexer.cleaning.spelling import SpellingNormalizer
from shelfwise.indexer.feeds.base import NoteHandler, Record
from shelfwise.indexer.feeds.reader import RecordReader
from shelfwise.indexer.incremental import Inspection, UnchangedProducts, UpdateMerge
from shelfwise.indexer.quality.findings import Findings
from shelfwise.indexer.quality.norms import Norm, Norms, PriceNorm
from shelfwise.indexer.rejects import REJECTED_FILE
from shelfwise.retrieval.errors import EmptyCatalogError, InputError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import load_json
from shelfwise.retrieval.store.manifest import (
    FIELDS_FILE,
    PENDING_UPDATES_FILE,
    QUALITY_FILE,
    SYNONYMS_FILE,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
)
from shelfwise.retrieval.store.products import PRODUCTS_FILE, product_from_json, product_to_json
from shelfwise.retrieval.updates.changes import Delete, Patch, PendingUpdate, Upsert
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.service.cli.verify import verify_version
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.versions import roll_back
from tests.histories import Expected, Round, histories
from tests.unit.indexer.conftest import Shop

QUERIES = ("drill", "cordless 12v saw", "无线电钻", "bosch red", "")
FILTERS = ("price < 10", "category = Drills", "brand = bosch", "colour = red")
FACETS = ("brand", "category", "price")


def roll_back_by(index: Shop, places: int) -> str:
    names = index.store.versions()
    with index.store.lock("rollback"):
        return roll_back(index.store, names[max(0, len(names) - 1 - places)]).version


def replay(index: Shop, history: list[Round]) -> Expected:
    expected = Expected()
    for each in history:
        if each.changes:
            index.change(*each.changes)
            expected.change(each.changes)
        if each.rollback:
            expected.roll_back(roll_back_by(index, each.rollback))
        expected.rebuild(each.feed, index.rebuild(each.feed, force=True).version)
        assert index.products == expected.published
    return expected


def full_rebuild(index: Shop, feed: Sequence[Product], expected: Expected) -> None:
    index.rebuild(feed, force=True)
    if changes := expected.pending():
        index.change(*changes)
        index.rebuild(feed, force=True)


def held(index: Shop) -> dict[str, Any]:
    folder, catalog = index.folder, load_json(index.folder / FIELDS_FILE, FieldCatalog)
    place = str(index.root.parent).encode()  # each index reads its feed from its own folder
    report = msgspec.json.decode((index.root / QUALITY_FILE).read_bytes().replace(place, b""))
    return {
        "products": (folder / PRODUCTS_FILE).read_bytes(),
        "pending": (folder / PENDING_UPDATES_FILE).read_bytes(),
        "synonyms": (folder / SYNONYMS_FILE).read_bytes(),
        "rejected": (index.root / REJECTED_FILE).read_bytes().replace(place, b""),
        "keys": np.load(folder / TEXT_KEYS_FILE).tobytes(),
        "vectors": np.load(folder / VECTORS_FOLDER / VECTORS_FILE).tobytes(),
        "fields": {name: (info.kinds, info.products) for name, info in catalog.fields.items()},
        **{f"report: {name}": value for name, value in report.items() if name != "created"},
    }


def answered(engine: SearchEngine) -> list[object]:
    plain = [_answer(engine, text, stage) for text in QUERIES for stage in ("bm25", "dense", "merged")]
    filtered = [_answer(engine, text, "merged", filters) for text in QUERIES[-2:] for filters in FILTERS]
    return [*plain, *filtered, _answer(engine, "drill", "merged", sort="price")]


def _answer(engine: SearchEngine, text: str, stage: str, filters: str = "", sort: str = "") -> object:
    try:
        page = engine.search(text, stage=stage, size=50, filters=filters, facets=FACETS, sort=sort)
    except InputError as error:  # no product has the field, or all have it as a number
        return str(error)
    return [(hit.product.id, hit.score) for hit in page.hits], page.total, page.facets


# Shrinking an example takes minutes of rebuilds.
@settings(max_examples=settings().max_examples // 12, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(data=st.data())
def test_incremental_rebuilds_equal_a_full_rebuild(
    data: st.DataObject, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lived, fresh = (Shop(tmp_path_factory.mktemp("history") / "index", cache) for _ in range(2))
    history = data.draw(histories())
    expected = replay(lived, history)
    if not expected.published:
        return
    full_rebuild(fresh, history[-1].feed, expected)
    assert held(lived) == held(fresh)
    with SearchEngine.open(lived.root, follow=False) as one, SearchEngine.open(fresh.root, follow=False) as other:
        assert answered(one) == answered(other)
    assert verify_version(lived.store, lived.store.current(), NullProgress()).problems == ()


DRILL = Product("1", "cordless drill", brand="Bosch", category=("Tools", "Drills"), price=99.0, language="en")
HOSE = Product("2", "garden hose", price=20.0, language="en")
CATALOG = (DRILL, HOSE)
NOW = datetime(2026, 5, 4, tzinfo=UTC)


def folded(
    update: PendingUpdate, feed: Product | None, settler: SpellingNormalizer | None = None
) -> tuple[Product | None, bool]:
    folding = UpdateMerge({update.id: update}, 1)
    if settler is not None:
        folding = folding.use_spelling(settler)
    line = folding.merge(update.id.encode(), None if feed is None else product_to_json(feed))
    return None if line is None else product_from_json(line), bool(folding.pending)


def replaced(product: Product, **values: object) -> Product:
    return dataclasses.replace(product, **values)  # type: ignore[arg-type]


CHEAP = replaced(DRILL, price=79.0)


class TestMerge:
    def test_normalised_spelling_is_not_a_feed_change(self) -> None:
        settler = SpellingNormalizer({"BOSCH": "Bosch"}, {"tools": "Tools"})
        respelled = replaced(DRILL, brand="BOSCH", category=("tools", "Drills"))
        assert folded(PendingUpdate("1", DRILL, None), respelled, settler) == (None, True)

    @pytest.mark.parametrize(
        "respelled", [{"brand": "BOSCH"}, {"brand": "Bosch GmbH"}, {"category": ("tools", "DRILLS")}]
    )
    def test_deleted_product_stays_deleted_after_spelling_normalisation(self, respelled: dict[str, object]) -> None:
        now = replaced(DRILL, **respelled)
        assert folded(PendingUpdate("1", DRILL, None), now, SpellingNormalizer({}, {})) == (None, True)
        cheaper = PendingUpdate("1", DRILL, CHEAP)
        assert folded(cheaper, now, SpellingNormalizer({}, {})) == (replaced(now, price=79.0), True)

    def test_brand_of_a_live_change_keeps_its_spelling(self) -> None:
        by_hand = PendingUpdate("1", DRILL, replaced(DRILL, brand="BOSCH"))
        assert folded(by_hand, DRILL, SpellingNormalizer({}, {})) == (replaced(DRILL, brand="BOSCH"), True)


def pending(shop: Shop) -> int:
    with Journal(shop.root) as journal:
        return len(list(journal.since(0)))


class TestRebuilds:
    def test_category_from_a_live_change_lasts_while_the_update_is_pending(self, built: Shop) -> None:
        garden = replaced(HOSE, category=("Garden",))
        built.rebuild([DRILL, garden], force=True)
        built.change(Patch("2", {"category": ("Drills",)}))
        found = []
        for feed in (garden, replaced(HOSE, category=("Tools",))):
            built.rebuild([DRILL, feed], force=True)
            with SearchEngine.open(built.root) as engine:
                hits = engine.search("", filters="category = Drills").hits
                found.append(([hit.product.id for hit in hits], sorted(engine.snapshot.catalog.category_roots)))
        assert found == [(["2"], ["drills", "garden", "tools"]), (["1"], ["tools"])]

    def test_pending_update_survives_rebuilds_and_is_published_once(self, built: Shop) -> None:
        built.change(Patch("1", {"price": 79.0}))
        assert [built.rebuild(CATALOG, force=True).published for _ in range(3)] == [True, False, False]
        assert built.products == [CHEAP, HOSE]

    def test_deleting_every_product_publishes_nothing(self, built: Shop) -> None:
        built.change(Delete("1"), Delete("2"))
        for force in (False, True):
            with pytest.raises(EmptyCatalogError, match=r"built\.jsonl: all of its products were deleted by live"):
                built.rebuild(CATALOG, force=force)
        assert [path.name for path in (built.root / "versions").iterdir()] == ["v000001"]
        built.change(Upsert(DRILL))
        assert built.rebuild(CATALOG, force=True).products == 1

    def test_only_the_few_changes_are_read_and_indexed(
        self, fresh: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[int] = []
        read_product = RecordReader.read_product

        def counted(reader: RecordReader, record: Record, note: NoteHandler) -> Product:
            read.append(record.line)
            return read_product(reader, record, note)

        monkeypatch.setattr(RecordReader, "read_product", counted)
        monkeypatch.setattr(shelfwise.retrieval.index.tantivy, "FEWEST_EXTENDED", 0)
        feed = [replaced(DRILL, id=f"p{n:02}", title=f"cordless drill {n}", price=9.0 + n) for n in range(40)]
        other = [replaced(feed[3], price=99.0, title="cordless saw"), *feed[5:], replaced(DRILL, id="p4a")]
        fresh.rebuild(feed)
        read.clear()
        fresh.rebuild(other)
        assert len(read) == 2
        fresh.change(Patch("p20", {"price": 1.0}), Upsert(replaced(DRILL, id="zz")), Delete("p21"))
        whole = Shop(tmp_path / "whole" / "index", fresh.cache)
        whole.root.parent.mkdir()
        whole.rebuild(other)
        whole.change(Patch("p20", {"price": 1.0}), Upsert(replaced(DRILL, id="zz")), Delete("p21"))
        assert held(fresh) == held(whole)
        with SearchEngine.open(fresh.root, follow=False) as one, SearchEngine.open(whole.root, follow=False) as another:
            assert [found(each) for each in answered(one)] == [found(each) for each in answered(another)]
        assert verify_version(fresh.store, fresh.store.current(), NullProgress()).problems == ()
        fresh.rebuild(other, full=True)
        assert len(read) > 2 * len(other)

    @pytest.mark.parametrize(
        ("product", "stays"),
        [
            (DRILL, True),
            (replaced(DRILL, updated=NOW - timedelta(days=300)), True),
            (replaced(DRILL, updated=NOW - timedelta(days=366)), False),
            (replaced(DRILL, expires=NOW - timedelta(hours=1)), False),
            (replaced(DRILL, price=90_000.0, currency="EUR"), False),
            (replaced(DRILL, category=(), price=90_000.0, currency="EUR"), True),
            (replaced(DRILL, brand="BOSCH"), False),
        ],
    )
    def test_product_is_inspected_again_if_findings_may_differ(self, product: Product, stays: bool) -> None:
        before, now = (Norms({("tools",): Norm(prices={"EUR": PriceNorm("tools", price, 20.0)})}) for price in (90, 99))
        bits = np.zeros((1, 1), np.uint8)
        inspection = Inspection(Path(), (), (NOW - timedelta(days=2)).timestamp(), before, Findings(), bits)
        unchanged = UnchangedProducts(inspection, SpellingNormalizer({"BOSCH": "Bosch"}, {}), now, NOW)
        line = product_to_json(product)
        assert unchanged.has(0, line, line, 0) == stays
        assert not unchanged.has(-1, b"", line, 0)
        assert not unchanged.has(0, line, line, 1)


def found(answer: object) -> object:
    """Results without the scores, which a few deleted documents change: sorted ids, total and facets."""
    match answer:
        case (list(hits), total, facets):
            return sorted(each for each, _ in hits), total, facets
    return answer


class TestJournalPruning:
    def test_journal_drops_changes_contained_in_all_versions(self, built: Shop) -> None:
        built.change(Patch("1", {"price": 79.0}))
        assert pending(built) == 1
        counts = []
        for price in (21.0, 22.0, 23.0):
            built.rebuild([DRILL, replaced(HOSE, price=price)], keep=2, force=True)
            counts.append(pending(built))
        assert counts == [1, 0, 0]
        built.change(Patch("1", {"price": 69.0}))
        with SearchEngine.open(built.root) as engine:
            assert engine.product("1").price == 69.0
            assert engine.upsert([replaced(HOSE, id="3")]).sequence == 3

    def test_journal_keeps_changes_while_a_version_is_unreadable(self, built: Shop) -> None:
        built.change(Upsert(replaced(HOSE, id="3")))
        built.rebuild(CATALOG, force=True)
        manifest = built.store.version_folder("v000001") / "manifest.json"
        manifest.write_bytes(b"{}")
        built.rebuild([DRILL, replaced(HOSE, price=1.0)], force=True)
        assert pending(built) == 1
