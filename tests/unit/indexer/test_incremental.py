"""Rebuilding what changed gives what building everything gives, whatever happened before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from indexer.build import RebuildOptions, RebuildReport, rebuild
from indexer.rejects import REJECTED_FILE
from retrieval.errors import InputError
from retrieval.index.vectors import VECTORS_FILE
from retrieval.progress import NullProgress
from retrieval.store.manifest import (
    FIELDS_FILE,
    PENDING_UPDATES_FILE,
    QUALITY_FILE,
    SYNONYMS_FILE,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
    read_fields,
)
from retrieval.store.products import PRODUCTS_FILE, ProductStore
from retrieval.store.versions import Store
from retrieval.updates.changes import Change
from retrieval.updates.journal import Journal
from service.cli.verify import verify_version
from service.engine.engine import SearchEngine
from service.engine.versions import roll_back
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.histories import Expected, Round, histories

QUERIES = ("drill", "cordless 12v saw", "无线电钻", "bosch red", "")
FILTERS = ("price < 10", "category = Drills", "brand = bosch", "colour = red")
FACETS = ("brand", "category", "price")


class Index:
    """An index, and the one feed that all its versions come from."""

    def __init__(self, root: Path, feed: Path, cache: Path) -> None:
        self.store = Store(root)
        self._feed = feed
        self._cache = cache

    @property
    def folder(self) -> Path:
        """That of the version that serves."""
        return self.store.version_folder(self.store.current())

    def rebuild(self) -> RebuildReport:
        options = RebuildOptions(
            (str(self._feed),), self._cache, encoder=ENCODER, runtime="onnx-int8", workers=1, force=True
        )
        return rebuild(self.store.root, options)

    def change(self, changes: list[Change] | tuple[Change, ...]) -> None:
        with Journal(self.store.root) as journal:
            journal.append(changes, above=self.store.serving()[0].last_merged_change)

    def roll_back(self, places: int) -> str:
        names = self.store.versions()
        name = names[max(0, len(names) - 1 - places)]
        with self.store.lock("rollback"):
            return roll_back(self.store, name).version


def relive(index: Index, feed: Path, history: list[Round]) -> Expected:
    """Has an index go through a history, and checks its products after each rebuild."""
    expected = Expected()
    for each in history:
        if each.changes:
            index.change(each.changes)
            expected.change(each.changes)
        if each.rollback:
            expected.roll_back(index.roll_back(each.rollback))
        write_feed(feed, each.feed)
        expected.rebuild(each.feed, index.rebuild().version)
        products = ProductStore(index.folder)
        assert [products[row] for row in range(len(products))] == expected.published
    return expected


def from_nothing(index: Index, expected: Expected) -> None:
    """Builds the last feed, and what stands of the live changes, in a directory of its own."""
    index.rebuild()
    if changes := expected.standing():
        index.change(changes)
        index.rebuild()


def held(index: Index) -> dict[str, Any]:
    """What the files of the serving version say, but for names, times and the places of fields."""
    folder, catalog = index.folder, read_fields(index.folder / FIELDS_FILE)
    report = msgspec.json.decode((index.store.root / QUALITY_FILE).read_bytes())
    return {
        "products": (folder / PRODUCTS_FILE).read_bytes(),
        "standing": (folder / PENDING_UPDATES_FILE).read_bytes(),
        "synonyms": (folder / SYNONYMS_FILE).read_bytes(),
        "rejected": (index.store.root / REJECTED_FILE).read_bytes(),
        "keys": np.load(folder / TEXT_KEYS_FILE).tobytes(),
        "vectors": np.load(folder / VECTORS_FOLDER / VECTORS_FILE).tobytes(),
        "fields": {name: (info.kinds, info.products) for name, info in catalog.fields.items()},
        **{f"report: {name}": value for name, value in report.items() if name != "created"},
    }


def answered(engine: SearchEngine) -> list[object]:
    """What searches answer: ids, scores to the last digit, totals and facets."""
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
def test_any_history_gives_the_index_that_its_last_feed_and_standing_changes_give(
    data: st.DataObject, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("history")
    feed = folder / "feed.jsonl"
    lived, fresh = Index(folder / "lived", feed, cache), Index(folder / "fresh", feed, cache)
    expected = relive(lived, feed, data.draw(histories()))
    if not expected.published:
        return
    from_nothing(fresh, expected)
    assert held(lived) == held(fresh)
    with (
        SearchEngine.open(lived.store.root, follow=False) as one,
        SearchEngine.open(fresh.store.root, follow=False) as other,
    ):
        assert answered(one) == answered(other)
    assert verify_version(lived.store, lived.store.current(), NullProgress()).problems == ()
