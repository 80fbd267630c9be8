"""Live changes over an opened version."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import service.engine.live
from indexer.build import RebuildOptions, rebuild
from indexer.cleaning.cleaner import Cleaner
from retrieval.errors import (
    ChangeError,
    EncoderError,
    EncoderUnavailableError,
    QueryError,
    SettingError,
    UnknownProductError,
)
from retrieval.filters.parser import parse_filter
from retrieval.records import AttributeValue, Availability, Page, Product
from retrieval.store.versions import Store
from retrieval.updates.changes import Patch, apply_change
from retrieval.updates.journal import Journal
from retrieval.updates.journal_files import COPY, JOURNAL
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from service.engine.live import add_measures
from service.engine.snapshot import Connection, open_snapshot
from tests import catalogs, oracle
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.encoders import BrokenEncoder
from tests.machine import full_disk
from tests.versions import reseal

KETTLE = Product(
    "kettle-1",
    "enamel whistling kettle",
    brand="Torvald",
    price=49.0,
    category=("Kitchen", "Kettles"),
    identifiers={"ean": ("4006381333931",)},
    attributes={"capacity": 2.5},
)


@pytest.fixture
def own_index(demo_index: Path, tmp_path: Path) -> Path:
    """A copy of the demo index that a test may change."""
    return Path(shutil.copytree(demo_index, tmp_path / "own"))


@pytest.fixture
def live(own_index: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(own_index) as opened:
        yield opened


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within the second that other processes are promised; ten for a busy machine."""
    until = time.monotonic() + 10
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return holds()


class TestPatch:
    def test_a_price_is_found_by_its_filter_at_once(self, live: SearchEngine) -> None:
        product = live.snapshot.products[7]
        changed = live.patch(product.id, price=12345.5, availability="backorder")
        assert (changed.sequence, changed.products) == (1, 1)
        assert ids(live.search("", filters="price = 12345.5 AND availability = backorder")) == [product.id]
        expected = dataclasses.replace(product, price=12345.5, availability=Availability.BACKORDER)
        assert live.product(product.id) == expected

    def test_a_price_encodes_nothing(self, live: SearchEngine) -> None:
        product = live.snapshot.products[7]
        live.close()
        store = Store(live._store.root)
        connection = Connection(store)
        with SearchEngine(store, open_snapshot(store, connection, encoder=BrokenEncoder(live)), connection) as broken:
            assert broken.patch(product.id, price=1.0).products == 1
            with pytest.raises(EncoderError):
                broken.patch(product.id, title="another title")
            assert broken.product(product.id).title == product.title
            assert Journal(store.root).last() == 1

    def test_one_attribute_is_named_with_a_dot(self, live: SearchEngine) -> None:
        product = live.snapshot.products[7]
        live.patch(product.id, **{"attributes.shelf": "A7", "description": None})
        assert ids(live.search("", filters="shelf = a7")) == [product.id]
        assert live.product(product.id).attributes == {**product.attributes, "shelf": "A7"}
        assert live.product(product.id).description == ""

    def test_the_measure_beside_a_quantity_follows_it(self, live: SearchEngine) -> None:
        """It kept the old number, so filters and sorting went by a weight that the product no longer had."""
        product = live.snapshot.products[7]
        live.patch(product.id, **{"attributes.parcel": "1,5 kg"})
        assert live.product(product.id).attributes["parcel_g"] == 1_500.0
        live.patch(product.id, **{"attributes.parcel": "2 kg"})
        assert ids(live.search("", filters="parcel_g = 2000")) == [product.id]
        live.patch(product.id, **{"attributes.parcel": None})
        assert live.product(product.id).attributes == product.attributes

    def test_what_cannot_be_taken_leaves_no_trace(self, live: SearchEngine) -> None:
        product = live.snapshot.products[7]
        with pytest.raises(UnknownProductError, match="'nope'"):
            live.patch("nope", price=1.0)
        with pytest.raises(ChangeError, match="price"):
            live.patch(product.id, price=-1.0)
        with pytest.raises(ChangeError, match="prize"):
            live.patch(product.id, prize=1.0)
        assert live.product(product.id) == product
        assert Journal(live._store.root).last() == 0


def test_a_change_that_is_durable_is_no_error_where_the_engine_cannot_lay_it_over_its_version(
    live: SearchEngine,
) -> None:
    """A disk that is full but for the journal: the call raised ValueError, and the change was there all the same."""
    product = live.snapshot.products[7]
    with full_disk(room=1_000):
        assert live.patch(product.id, price=12345.5).sequence == 1
        assert "live changes are not loaded" in live.notices[0]
    assert eventually(lambda: live.product(product.id).price == 12345.5)
    assert ids(live.search("", filters="price = 12345.5")) == [product.id]
    assert live.notices == ()
    assert live.patch(product.id, price=12346.5).sequence == 2


def test_a_version_that_a_full_disk_kept_from_being_opened_is_tried_again(
    live: SearchEngine, own_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was requested once, and the older version served until the program was started again."""
    monkeypatch.setattr(service.engine.live, "_AGAIN_SECONDS", 0.1)
    store = Store(own_index)
    shutil.copytree(store.version_folder("v000001"), store.version_folder("v000002"))
    reseal(own_index, "v000002", lambda manifest: msgspec.structs.replace(manifest, version="v000002"))
    live.patch(live.snapshot.products[7].id, price=12345.5)
    with full_disk(room=1_000):
        store.rollback("v000002")
        assert eventually(lambda: any("cannot be opened" in notice for notice in live.notices))
    assert eventually(lambda: live.manifest.version == "v000002" and not live.notices)
    assert live.search("", filters="price = 12345.5").total == 1


class TestALostEncoder:
    """Its stored files are damaged: words alone find products, live ones too, and a rebuild heals it."""

    @pytest.fixture
    def lost(self, live: SearchEngine, own_index: Path) -> Path:
        live.patch(live.snapshot.products[7].id, title="a brass sextant")
        live.upsert([KETTLE])
        live.close()
        path = next((own_index / "encoders").iterdir()) / "model.onnx"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        return own_index

    def test_words_find_products_and_live_changes_and_the_page_says_so(self, lost: Path) -> None:
        with SearchEngine.open(lost) as opened:
            (notice,) = opened.notices
            assert "model.onnx has another checksum" in notice
            assert "by words alone until a rebuild" in notice
            page = opened.search("whistling kettle")
            assert (ids(page)[0], page.degraded) == (KETTLE.id, ("dense",))
            assert opened.search("sextant").hits[0].product.title == "a brass sextant"
            assert opened.search("cordless drill").total > 0

    def test_what_needs_no_encoder_works(self, lost: Path) -> None:
        with SearchEngine.open(lost) as opened:
            products = opened.snapshot.products
            assert opened.similar(products.id_of(3)).hits
            assert opened.similar(KETTLE.id).degraded == ("dense",)
            assert opened.patch(KETTLE.id, price=31.5).products == 1
            with pytest.raises(EncoderUnavailableError, match=r"model\.onnx .*; a rebuild stores the encoder anew"):
                opened.patch(KETTLE.id, title="another kettle")
            assert opened.product(KETTLE.id) == dataclasses.replace(KETTLE, price=31.5)

    def test_a_rebuild_heals_it_and_loses_no_live_change(self, lost: Path, demo: DemoFiles, cache: Path) -> None:
        """No whole version was found, so the changes that stood in it were taken for none."""
        with SearchEngine.open(lost) as opened:
            rebuild(lost, RebuildOptions((str(demo.products),), cache, encoder=ENCODER, synonyms=demo.synonyms))
            opened.refresh()
            assert opened.notices == ()
            assert opened.product(KETTLE.id) == KETTLE
            page = opened.search("teapot that whistles", stage="dense")
            assert (ids(page)[0], page.degraded) == (KETTLE.id, ())


class TestUpsert:
    def test_a_new_product_is_found_by_words_meaning_identifier_filter_and_facet(self, live: SearchEngine) -> None:
        assert live.upsert([KETTLE]).products == 1
        assert ids(live.search("whistling kettle", stage="bm25"))[0] == KETTLE.id
        assert ids(live.search("teapot that whistles", stage="dense"))[0] == KETTLE.id
        assert live.search("4006381333931").hits[0].identifier == "4006381333931"
        assert ids(live.search("", filters="capacity > 2 AND brand = torvald")) == [KETTLE.id]
        counts = {each.value: each.count for each in live.search("", facets=["brand"]).facets["brand"].counts}
        assert counts["Torvald"] == 1
        assert live.product(KETTLE.id) == KETTLE
        assert len(live.similar(KETTLE.id, size=5).hits) == 5

    def test_an_old_product_is_replaced(self, live: SearchEngine) -> None:
        old = live.snapshot.products[7]
        total = live.search("").total
        live.upsert([dataclasses.replace(KETTLE, id=old.id)])
        assert live.search("").total == total
        assert ids(live.search("enamel whistling kettle", stage="dense"))[0] == old.id
        assert old.id not in ids(live.search(old.title, stage="bm25", size=600)) or "kettle" in old.title.lower()

    def test_all_are_taken_or_none(self, live: SearchEngine) -> None:
        with pytest.raises(ChangeError, match="price"):
            live.upsert([KETTLE, dataclasses.replace(KETTLE, id="kettle-2", price=float("nan"))])
        with pytest.raises(UnknownProductError):
            live.product(KETTLE.id)

    def test_anything_but_a_product_is_refused(self, live: SearchEngine) -> None:
        with pytest.raises(ChangeError, match="a product is a shelfwise"):
            live.upsert([{"id": "1", "title": "a"}])  # type: ignore[list-item]


class TestDelete:
    def test_a_product_is_gone_everywhere(self, live: SearchEngine) -> None:
        product, neighbour = live.snapshot.products[7], live.similar(live.snapshot.products[7].id).hits[0].product
        total = live.search("").total
        assert live.delete([product.id, "nope"]).products == 1
        assert live.search("").total == total - 1
        assert product.id not in ids(live.search(product.title, size=600))
        assert product.id not in ids(live.similar(neighbour.id, size=500))
        with pytest.raises(UnknownProductError):
            live.product(product.id)

    def test_it_may_come_back(self, live: SearchEngine) -> None:
        product = live.snapshot.products[7]
        live.delete([product.id])
        live.upsert([product])
        assert live.product(product.id) == product
        assert ids(live.search(product.title, stage="dense"))[0] == product.id

    def test_nothing_to_delete_is_no_change(self, live: SearchEngine) -> None:
        assert live.delete(["nope"]).products == 0
        with pytest.raises(QueryError, match="a list of product ids"):
            live.delete("nope")


class TestOthers:
    def test_an_engine_that_is_open_already_sees_it_within_a_second(self, live: SearchEngine, own_index: Path) -> None:
        with SearchEngine.open(own_index) as other:
            live.upsert([KETTLE])
            assert eventually(lambda: "kettle-1" in ids(other.search("whistling kettle")))
            other.patch(KETTLE.id, price=1.0)
            assert eventually(lambda: live.product(KETTLE.id).price == 1.0)
            other.delete([KETTLE.id])
            assert eventually(lambda: "kettle-1" not in ids(live.search("whistling kettle")))

    def test_an_engine_that_is_opened_later_sees_it(self, live: SearchEngine, own_index: Path) -> None:
        live.upsert([KETTLE])
        with SearchEngine.open(own_index) as other:
            assert ids(other.search("whistling kettle"))[0] == KETTLE.id

    def test_an_engine_that_does_not_follow_answers_from_the_version_as_it_is(
        self, live: SearchEngine, own_index: Path
    ) -> None:
        live.upsert([KETTLE])
        with SearchEngine.open(own_index, follow=False) as still:
            assert "kettle-1" not in ids(still.search("whistling kettle"))
            with pytest.raises(SettingError, match="follow=False"):
                still.delete([KETTLE.id])

    def test_a_journal_that_cannot_be_read_is_told_and_searches_go_on(self, own_index: Path) -> None:
        with SearchEngine.open(own_index) as other:
            other.upsert([KETTLE])
        for name in (JOURNAL, COPY):
            (own_index / name).write_bytes(b"no journal at all" * 100)
        with SearchEngine.open(own_index) as opened:
            assert "live changes are not loaded" in opened.notices[0]
            assert opened.search("drill").hits


@settings(max_examples=settings().max_examples // 6)
@given(base=catalogs.products(minimum=2, maximum=8), data=st.data())
def test_any_changes_give_the_hits_counts_and_facets_of_the_products_that_are_there(
    base: list[Product], data: st.DataObject, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    feed = write_feed(folder / "feed.jsonl", base)
    rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER))
    there = {product.id: product for product in base}
    with SearchEngine.open(folder / "index") as engine:
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


def patched(attributes: dict[str, AttributeValue], **values: object) -> dict[str, AttributeValue]:
    """What the attributes of a cleaned product are after a patch of them, None for those that are cleared."""
    (product,) = Cleaner().clean([Product("1", "hammer drill", language="en", attributes=attributes)]).products
    change = Patch("1", add_measures(product, {f"attributes.{name}": value for name, value in values.items()}))
    made = apply_change(product, change)
    assert made is not None
    return dict(made.attributes)


def test_another_quantity_has_another_measure() -> None:
    assert patched({"weight": "1,5 kg"}, weight="2 kg") == {"weight": "2 kg", "weight_g": 2_000.0}


def test_in_another_dimension_the_old_measure_goes() -> None:
    assert patched({"size": "16 GB"}, size="3 m") == {"size": "3 m", "size_mm": 3_000.0}


@pytest.mark.parametrize("value", ["heavy", 2.0, None, "1.500 kg"])
def test_what_is_no_quantity_has_no_measure(value: object) -> None:
    left = patched({"weight": "1,5 kg", "colour": "red"}, weight=value)
    assert left == ({"weight": value} if value is not None else {}) | {"colour": "red"}


def test_the_first_quantity_gets_a_measure() -> None:
    assert patched({}, weight="2 kg") == {"weight": "2 kg", "weight_g": 2_000.0}


def test_a_number_of_the_feed_itself_stays() -> None:
    assert patched({"weight": "1,5 kg", "weight_g": 1_480.0}, weight="2 kg")["weight_g"] == 1_480.0


def test_what_the_patch_says_of_the_measure_counts() -> None:
    assert patched({"weight": "1,5 kg"}, weight="2 kg", weight_g=1_990.0)["weight_g"] == 1_990.0
    assert patched({"weight": "1,5 kg"}, weight="2 kg", weight_g=None) == {"weight": "2 kg"}
