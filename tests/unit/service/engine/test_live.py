"""Live changes over an opened version: products, vectors, token states and signals."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shelfwise.service.engine.live
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.encoders.base import as_token_encoder
from shelfwise.retrieval.errors import (
    ChangeError,
    EncoderError,
    EncoderUnavailableError,
    SettingError,
    UnknownProductError,
)
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.index.token_states import PADDING, ProductTokens, quantise_tokens
from shelfwise.retrieval.records import Availability, Product
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import Connection, Snapshot, open_snapshot
from tests import catalogs, oracle
from tests.catalogs import ids
from tests.conftest import ENCODER
from tests.encoders import BrokenEncoder
from tests.machine import full_disk, within
from tests.versions import reseal

KETTLE = Product(
    "kettle-1",
    "enamel whistling kettle",
    brand="Torvald",
    price=49.0,
    category=("Kitchen", "Kettles"),
    identifiers={"ean": ("4006381333931",)},
    attributes={"capacity": 2.5},
    availability=Availability.IN_STOCK,
)


class TestPatch:
    def test_patched_price_encodes_nothing(self, live: SearchEngine) -> None:
        product = live.snapshot.products[7]
        live.close()
        store = Store(live.root)
        connection = Connection(store)
        with SearchEngine(store, open_snapshot(store, connection, encoder=BrokenEncoder(live)), connection) as broken:
            assert broken.patch(product.id, price=1.0).products == 1
            with pytest.raises(EncoderError):
                broken.patch(product.id, title="another title")
            assert broken.product(product.id).title == product.title
            assert Journal(store.root).last() == 1

    def test_numeric_value_follows_the_patched_quantity(self, live: SearchEngine) -> None:
        """Regression: the old number remained, so filters and sorting used the previous weight."""
        product = live.snapshot.products[7]
        live.patch(product.id, **{"attributes.parcel": "1,5 kg"})
        assert live.product(product.id).attributes["parcel_g"] == 1_500.0
        live.patch(product.id, **{"attributes.parcel": "2 kg"})
        assert ids(live.search("", filters="parcel_g = 2000")) == [product.id]
        live.patch(product.id, **{"attributes.parcel": None})
        assert live.product(product.id).attributes == product.attributes

    def test_refused_change_leaves_no_trace(self, live: SearchEngine) -> None:
        product = live.snapshot.products[7]
        with pytest.raises(UnknownProductError, match="'nope'"):
            live.patch("nope", price=1.0)
        with pytest.raises(ChangeError, match="price"):
            live.patch(product.id, price=-1.0)
        with pytest.raises(ChangeError, match="prize"):
            live.patch(product.id, prize=1.0)
        assert live.product(product.id) == product
        assert Journal(live.root).last() == 0


def test_durable_change_succeeds_if_it_cannot_be_applied_yet(live: SearchEngine) -> None:
    """Regression: on a disk full except for the journal, a call raised ValueError although its change was stored."""
    product = live.snapshot.products[7]
    with full_disk(room=1_000):
        assert live.patch(product.id, price=12345.5).sequence == 1
        assert "live changes are not loaded" in live.notices[0]
    assert within(10, lambda: live.product(product.id).price == 12345.5)
    assert ids(live.search("", filters="price = 12345.5")) == [product.id]
    assert live.notices == ()
    assert live.patch(product.id, price=12346.5).sequence == 2


def test_full_disk_delays_a_new_version(live: SearchEngine, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: opening was tried once, and the older version served until the next start of the program."""
    monkeypatch.setattr(shelfwise.service.engine.live, "_AGAIN_SECONDS", 0.1)
    store = Store(root)
    shutil.copytree(store.version_folder("v000001"), store.version_folder("v000002"))
    reseal(root, "v000002", lambda manifest: msgspec.structs.replace(manifest, version="v000002"))
    live.patch(live.snapshot.products[7].id, price=12345.5)
    with full_disk(room=1_000):
        store.rollback("v000002")
        assert within(10, lambda: any("cannot be opened" in notice for notice in live.notices))
    assert within(10, lambda: live.manifest.version == "v000002" and not live.notices)
    assert live.search("", filters="price = 12345.5").total == 1


class TestLostEncoder:
    """The encoder's stored files are damaged: words alone find products, live ones too, and a rebuild repairs it."""

    @pytest.fixture
    def lost(self, live: SearchEngine, root: Path) -> Path:
        live.patch(live.snapshot.products[7].id, title="a brass sextant")
        live.upsert([KETTLE])
        live.close()
        path = next((root / "encoders").iterdir()) / "model.onnx"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        return root

    def test_keyword_search_finds_live_changes_and_page_is_degraded(self, lost: Path) -> None:
        with SearchEngine.open(lost) as opened:
            (notice,) = opened.notices
            assert "model.onnx has another checksum" in notice
            assert "only keyword search works until a rebuild" in notice
            page = opened.search("whistling kettle")
            assert (ids(page)[0], page.degraded) == (KETTLE.id, ("dense",))
            assert opened.search("sextant").hits[0].product.title == "a brass sextant"
            assert opened.search("cordless drill").total > 0

    def test_operations_without_the_encoder_work(self, lost: Path) -> None:
        with SearchEngine.open(lost) as opened:
            products = opened.snapshot.products
            assert opened.similar(products.id_of(3)).hits
            assert opened.similar(KETTLE.id).degraded == ("dense",)
            assert opened.patch(KETTLE.id, price=31.5).products == 1
            with pytest.raises(EncoderUnavailableError, match=r"model\.onnx .*; a rebuild stores the encoder again"):
                opened.patch(KETTLE.id, title="another kettle")
            assert opened.product(KETTLE.id) == dataclasses.replace(KETTLE, price=31.5)

    def test_rebuild_restores_the_encoder_and_keeps_live_changes(
        self, lost: Path, demo: DemoFiles, cache: Path
    ) -> None:
        """Regression: no version was found intact, so the changes merged into it were treated as none."""
        with SearchEngine.open(lost) as opened:
            rebuild(lost, RebuildOptions((str(demo.products),), cache, encoder=ENCODER, synonyms=demo.synonyms))
            opened.refresh()
            assert opened.notices == ()
            assert opened.product(KETTLE.id) == KETTLE
            page = opened.search("teapot that whistles", stage="dense")
            assert (ids(page)[0], page.degraded) == (KETTLE.id, ())


class TestOtherEngines:
    def test_engine_without_reload_answers_from_the_version(self, live: SearchEngine, root: Path) -> None:
        live.upsert([KETTLE])
        with SearchEngine.open(root, follow=False) as still:
            assert "kettle-1" not in ids(still.search("whistling kettle"))
            with pytest.raises(SettingError, match="follow=False"):
                still.delete([KETTLE.id])

    def test_unreadable_journal_is_reported_and_searches_work(self, root: Path) -> None:
        with SearchEngine.open(root) as other:
            other.upsert([KETTLE])
        for name in (JOURNAL, COPY):
            (root / name).write_bytes(b"no journal at all" * 100)
        with SearchEngine.open(root) as opened:
            assert "live changes are not loaded" in opened.notices[0]
            assert opened.search("drill").hits


@settings(max_examples=settings().max_examples // 6)
@given(base=catalogs.products(minimum=2, maximum=8), data=st.data())
def test_random_changes_match_a_rebuilt_index(
    base: list[Product], data: st.DataObject, build_index: Callable[..., Path]
) -> None:
    there = {product.id: product for product in base}
    with SearchEngine.open(build_index(base)) as engine:
        for _ in range(3):
            upserted = data.draw(catalogs.products(minimum=0, maximum=4))
            deleted = data.draw(st.lists(st.sampled_from(sorted({*there, "none"})), max_size=2))
            engine.upsert(upserted)
            engine.delete(deleted)
            there |= {product.id: product for product in upserted}
            there = {product_id: each for product_id, each in there.items() if product_id not in deleted}
            assert sorted(ids(engine.search("", size=100))) == sorted(there)
            for text in ("price < 10", "brand = bosch", "category = Tools", "NOT availability = in_stock"):
                tree = parse_filter(text)
                assert tree is not None
                fits = [key for key, each in there.items() if oracle.matches(tree, oracle.product_values(each))]
                page = engine.search("", size=100, filters=text, facets=["brand"])
                assert sorted(ids(page)) == sorted(fits)
                brands = sum(bool(there[key].brand) for key in fits)
                assert sum(each.count for each in page.facets["brand"].counts) == brands
            for product in there.values():
                nearest = engine.search(product.title, stage="dense", size=100)
                assert sorted(ids(nearest)) == sorted(there)


def gathered(snapshot: Snapshot, *rows: int) -> ProductTokens:
    assert snapshot.states is not None
    return snapshot.states.gather(np.array(rows))


def expected(snapshot: Snapshot, product: Product) -> ProductTokens:
    encoder = as_token_encoder(snapshot.encoder)
    assert encoder is not None
    assert snapshot.states is not None
    tokens = encoder.encode_products_with_tokens([encoder_text(product)])[1]
    return quantise_tokens(tokens, snapshot.states.dimension).gather(np.array([0]))


def same(one: ProductTokens, other: ProductTokens) -> bool:
    """Whether the first products of both have the same tokens, whatever their padding."""
    length = int((other.ids[0] >= 0).sum())
    padded = (one.ids[0, length:] == PADDING).all() and not one.states[0, length:].any()
    return bool(
        padded
        and np.array_equal(one.ids[0, :length], other.ids[0, :length])
        and np.array_equal(one.states[0, :length], other.states[0, :length])
    )


def test_a_new_product_has_states_and_signals_at_once(live: SearchEngine) -> None:
    before = live.snapshot.states
    live.upsert([KETTLE])
    snapshot = live.snapshot
    assert before is not None
    assert snapshot.states is not None
    assert snapshot.states.idf is before.idf
    assert (snapshot.states.encoder, snapshot.states.dimension) == (live.manifest.encoder, before.dimension)
    row = snapshot.products.row_of(KETTLE.id)
    assert row == live.manifest.products
    assert same(gathered(snapshot, row), expected(snapshot, KETTLE))
    assert same(gathered(snapshot, row, 0, 5), expected(snapshot, KETTLE))
    result = snapshot.signals.at(np.array([row]))
    assert (result.price[0], result.availability[0]) == (49, 1)
    assert np.isnan(result.rating[0])


def test_changed_text_has_new_states_and_others_keep_theirs(live: SearchEngine) -> None:
    before = live.snapshot
    changed = dataclasses.replace(before.products[7], title="oak bookshelf with five boards")
    live.upsert([changed])
    assert same(gathered(live.snapshot, 7), expected(live.snapshot, changed))
    assert not same(gathered(live.snapshot, 7), gathered(before, 7))
    for row in (6, 8):
        assert same(gathered(live.snapshot, row, 7), gathered(before, row))
    assert same(gathered(before, 7), expected(before, before.products[7]))


def test_a_price_keeps_states_and_changes_signals(live: SearchEngine) -> None:
    before = live.snapshot
    live.patch(before.products[7].id, price=12345.5)
    assert same(gathered(live.snapshot, 7), gathered(before, 7))
    assert live.snapshot.signals.at(np.array([7])).price.tolist() == [12345.5]
    assert before.signals.at(np.array([7])).price[0] != 12345.5
