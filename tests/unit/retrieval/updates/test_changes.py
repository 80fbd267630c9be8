"""Live changes, and the checks of their values."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfwise.retrieval.errors import ChangeError, StoreDamagedError
from shelfwise.retrieval.records import Availability, Product, Variant
from shelfwise.retrieval.store.products import product_from_json, product_to_json
from shelfwise.retrieval.updates.changes import (
    MAX_CHANGE_BYTES,
    Change,
    Delete,
    Patch,
    PendingUpdate,
    Upsert,
    change_from_json,
    change_to_json,
    merge_products,
    read_pending_updates,
    validate_change,
    write_pending_updates,
)
from shelfwise.retrieval.updates.validation import (
    MAX_ID_BYTES,
    apply_patch,
    validate_id,
    validate_patch,
    validate_product,
)
from tests.catalogs import BRANDS, PATHS, PRICES, attributes, products
from tests.histories import flat

DRILL = Product("a1", "Drill", price=99.5)
VALUES: dict[str, st.SearchStrategy[object]] = {
    "title": st.text(min_size=1).filter(str.strip),
    "price": st.none() | st.floats(0, 1e6) | st.integers(0, 10**6),
    "availability": st.none() | st.sampled_from([*Availability, "in stock"]),
    "category": st.lists(st.sampled_from(["Tools", "Drills"])),
    "expires": st.none() | st.datetimes(timezones=st.just(UTC)),
    "attributes.colour": st.none() | st.text() | st.booleans() | st.floats(-5, 5) | st.tuples(st.just("red")),
    "identifiers.ean": st.lists(st.just("1")),
    "variants": st.lists(st.builds(Variant, st.text(), st.just({"Size": "M"}), st.floats(0, 9)), max_size=2),
}


def changes() -> st.SearchStrategy[Change]:
    patches = st.builds(Patch, st.just("a1"), st.fixed_dictionaries({}, optional=VALUES).filter(bool))
    upserts = products(1, 1).map(lambda each: Upsert(each[0]))
    return patches | upserts | st.builds(Delete, st.text("ab1-é", min_size=1))


@given(changes())
def test_change_round_trips_validated(change: Change) -> None:
    assert change_from_json(change_to_json(change)) == validate_change(change)
    assert validate_change(validate_change(change)) == validate_change(change)


def test_format_on_disk() -> None:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    assert change_to_json(Upsert(DRILL)) == b'{"type":"upsert","product":{"id":"a1","title":"Drill","price":99.5}}'
    assert change_to_json(Delete("a1")) == b'{"type":"delete","id":"a1"}'
    patch = Patch("a1", {"price": 5, "availability": "in_stock", "expires": moment, "category": ("Tools",)})
    assert change_to_json(patch) == (
        b'{"type":"patch","id":"a1","values":{"availability":"in_stock","category":["Tools"],'
        b'"expires":"2026-01-31T00:00:00Z","price":5.0}}'
    )


def test_a_change_over_a_megabyte_is_refused() -> None:
    fits = Product("a1", "Drill", "x" * (MAX_CHANGE_BYTES - 1_000))
    assert len(change_to_json(Upsert(fits))) <= MAX_CHANGE_BYTES
    with pytest.raises(ChangeError, match=r"product 'a1': the change has 1,000,0\d\d bytes; at most 1,000,000"):
        change_to_json(Upsert(dataclasses.replace(fits, description="x" * MAX_CHANGE_BYTES)))


@given(
    st.binary()
    | st.sampled_from(
        [
            b"{}",
            b"[" * 100_000,
            b'{"type":"upsert"}',
            b'{"type":"upsert","product":{"id":"a"}}',
            b'{"type":"delete","id":""}',
            b'{"type":"patch","id":"a","values":{"price":-1}}',
            b'{"type":"patch","id":"a","values":{"price":"\xff"}}',
            b'{"type":"other","id":"a"}',
        ]
    )
)
def test_invalid_line_is_damage(line: bytes) -> None:
    with pytest.raises(StoreDamagedError, match="a stored live change cannot be read"):
        change_from_json(line)


def versions_of(product_id: str) -> st.SearchStrategy[Product | None]:
    return st.none() | st.builds(
        Product,
        id=st.just(product_id),
        title=st.sampled_from(("drill", "saw")),
        brand=st.sampled_from(BRANDS[:2]),
        category=st.sampled_from(PATHS[:2]),
        price=st.sampled_from(PRICES[:3]),
        availability=st.sampled_from((None, Availability.IN_STOCK)),
        identifiers=st.dictionaries(st.sampled_from(("sku", "ean")), st.just(("1",)) | st.just(("2",)), max_size=2),
        attributes=attributes() | st.dictionaries(st.just("new"), st.sampled_from((True, 1.0, "1")), max_size=1),
    )


WHOLE = versions_of("a1").filter(bool)


@settings(max_examples=5 * settings().max_examples)
@given(WHOLE, WHOLE, WHOLE)
def test_each_value_is_the_feeds_if_it_changed_there_else_the_live_one(
    base: Product, live: Product, feed: Product
) -> None:
    before, there, now = flat(base), flat(live), flat(feed)
    merged = {name: (there if before.get(name) == now.get(name) else now).get(name) for name in {*before, *there, *now}}
    found = flat(merge_products(base, live, feed))
    assert found == {name: value for name, value in merged.items() if value is not None}


def test_true_and_1_are_different_values() -> None:
    base, live, feed = (Product("a", "b", attributes={"x": value}) for value in (True, "live", 1.0))
    found = merge_products(base, live, feed)
    assert found is not None
    assert found.attributes["x"] is feed.attributes["x"]


def test_product_missing_on_one_side_is_not_merged_by_field() -> None:
    base, changed = DRILL, dataclasses.replace(DRILL, price=5.0)
    assert merge_products(base, None, base) is None, "a deleted product stays away"
    assert merge_products(base, None, None) is None
    assert merge_products(base, None, changed) == changed, "until the feed says something new"
    assert merge_products(None, base, None) == base, "one that the feed never had stands"
    assert merge_products(None, base, changed) == merge_products(None, None, changed) == changed
    assert merge_products(base, changed, None) is None, "one that the feed dropped is gone"


class TestFiles:
    @given(st.lists(st.text("ab1-é", min_size=1), unique=True), st.data())
    def test_pending_updates_round_trip(self, tmp_path: Path, ids: list[str], data: st.DataObject) -> None:
        ids.sort(key=str.encode)
        updates = [PendingUpdate(each, *data.draw(st.tuples(versions_of(each), versions_of(each)))) for each in ids]
        kept = [update for update in updates if update.is_pending]
        assert write_pending_updates(tmp_path / "update", iter(updates)) == len(kept)
        assert list(read_pending_updates(tmp_path / "update")) == kept

    @pytest.mark.parametrize("ids", [("b", "a"), ("a", "a")])
    def test_unsorted_file_is_refused(self, tmp_path: Path, ids: tuple[str, str]) -> None:
        with pytest.raises(ValueError, match="sorted by id"):
            write_pending_updates(tmp_path / "update", [PendingUpdate(each, None, Product(each, "x")) for each in ids])
        with pytest.raises(StoreDamagedError, match="No such file"):
            list(read_pending_updates(tmp_path / "missing"))

    @pytest.mark.parametrize(
        "content",
        [
            b"\n",
            b"\xff\n",
            b'{"live":{"id":"a","title":"x"}}',
            b'{"live":{"id":"a"}}\n',
            b'{"live":{"id":"a","title":"x"},"base":{"id":"b","title":"x"}}\n',
        ],
    )
    def test_damaged_file_raises(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "update").write_bytes(content)
        with pytest.raises(StoreDamagedError, match=r"pending updates .*line \d.*; rebuild the index"):
            list(read_pending_updates(tmp_path / "update"))


WHOLE_DRILL = Product(
    "a1",
    "Drill",
    description="Cordless",
    brand="Bosch",
    price=99.5,
    currency="EUR",
    availability=Availability.IN_STOCK,
    rating=4.5,
    identifiers={"ean": ("0095205603217",), "sku": ("A1",)},
    attributes={"colour": "blue", "voltage": 18.0},
    expires=datetime(2030, 1, 1, tzinfo=UTC),
)
FIELDS = [field.name for field in dataclasses.fields(Product)]


class TestWholeProducts:
    @given(products())
    def test_valid_product_is_unchanged(self, each: list[Product]) -> None:
        for product in each:
            assert validate_product(product) == product

    def test_every_field_is_validated(self) -> None:
        for name in FIELDS:
            wrong: Any = {name: object()}
            with pytest.raises(ChangeError) as caught:
                validate_product(dataclasses.replace(WHOLE_DRILL, **wrong))
            assert caught.value.field == name

    def test_python_values_are_normalised(self) -> None:
        loose: dict[str, Any] = {
            "category": ["Tools", "Drills"],
            "price": Decimal("9.99"),
            "availability": "in stock",
            "rating": np.float32(4),
            "rating_count": 7.0,
            "identifiers": MappingProxyType({"ean": ["1"], "sku": ()}),
            "attributes": {"volts": 18, "sizes": ["S", "M"], "none": None, "blank": " ", "serial": 2**60, "new": True},
            "updated": datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
            "expires": "2030-01-31",
            "variants": [Variant("a1-m", {"Size": "M"}, 5)],
        }
        product = validate_product(Product("a1", "Drill", **loose))
        assert product == Product(
            "a1",
            "Drill",
            category=("Tools", "Drills"),
            price=9.99,
            availability=Availability.IN_STOCK,
            rating=4.0,
            rating_count=7,
            identifiers={"ean": ("1",)},
            attributes={"volts": 18.0, "sizes": ("S", "M"), "serial": str(2**60), "new": True},
            updated=datetime(2026, 1, 1, 10, tzinfo=UTC),
            expires=datetime(2030, 1, 31, tzinfo=UTC),
            variants=(Variant("a1-m", {"Size": "M"}, 5.0),),
        )
        assert isinstance(product.attributes["volts"], float)
        assert product_from_json(product_to_json(product)) == product


class TestIds:
    @pytest.mark.parametrize("spelled", ["a", "00123", "gid://shop/1", "商品 1", "x" * MAX_ID_BYTES])
    def test_ids_of_feeds_are_accepted(self, spelled: str) -> None:
        assert validate_id(spelled) == spelled

    @pytest.mark.parametrize(
        ("spelled", "problem"),
        [
            ("", "is empty"),
            (" a", "blanks around"),
            ("a\n", "blanks around"),
            ("a\x00b", "control characters"),
            ("a\ud800", "UTF-8"),
            ("ä" * 257, "longer than 512 bytes"),
            (None, "must be a text, not"),
            (5, "must be a text, not"),
        ],
    )
    def test_invalid_ids_are_refused(self, spelled: object, problem: str) -> None:
        with pytest.raises(ChangeError, match=problem):
            validate_id(spelled)


class TestPatches:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("title", "Hammer drill", "Hammer drill"),
            ("price", -0.0, 0.0),
            ("price", None, None),
            ("availability", "out_of_stock", Availability.OUT_OF_STOCK),
            ("availability", Availability.PREORDER, Availability.PREORDER),
            ("category", None, ()),
            ("category", ["Tools"], ("Tools",)),
            ("rating_count", 0, 0),
            ("expires", None, None),
            ("expires", "2031-02-03T04:05:06+02:00", datetime(2031, 2, 3, 2, 5, 6, tzinfo=UTC)),
            ("currency", "", ""),
            ("attributes", None, {}),
            ("variants", [{"id": "v", "price": 5}], (Variant("v", price=5.0),)),
        ],
    )
    def test_patch_accepts_values_of_each_field(self, name: str, value: object, expected: object) -> None:
        found = apply_patch(WHOLE_DRILL, {name: value})
        assert getattr(found, name) == expected
        assert dataclasses.replace(found, **{name: getattr(WHOLE_DRILL, name)}) == WHOLE_DRILL

    @pytest.mark.parametrize(
        ("values", "attributes", "identifiers"),
        [
            ({"attributes.colour": "red"}, {"colour": "red", "voltage": 18.0}, WHOLE_DRILL.identifiers),
            ({"attributes.colour": None}, {"voltage": 18.0}, WHOLE_DRILL.identifiers),
            ({"attributes.colour": ""}, {"voltage": 18.0}, WHOLE_DRILL.identifiers),
            ({"attributes.unknown": None}, WHOLE_DRILL.attributes, WHOLE_DRILL.identifiers),
            ({"attributes.a.b": True}, {**WHOLE_DRILL.attributes, "a.b": True}, WHOLE_DRILL.identifiers),
            ({"attributes.x": 1, "attributes": {"y": "z"}}, {"y": "z", "x": 1.0}, WHOLE_DRILL.identifiers),
            ({"identifiers.ean": ["5"]}, WHOLE_DRILL.attributes, {"ean": ("5",), "sku": ("A1",)}),
            ({"identifiers.ean": ()}, WHOLE_DRILL.attributes, {"sku": ("A1",)}),
        ],
    )
    def test_patch_changes_one_attribute_or_identifier(
        self, values: dict[str, object], attributes: dict[str, object], identifiers: dict[str, object]
    ) -> None:
        found = apply_patch(WHOLE_DRILL, values)
        assert (found.attributes, found.identifiers) == (attributes, identifiers)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("title", None),
            ("title", "  "),
            ("title", "\ud800"),
            ("price", "9.99"),
            ("price", math.nan),
            ("price", 10**400),
            ("price", Decimal("NaN")),
            ("rating", 5.1),
            ("rating_count", 1.5),
            ("availability", "sold out"),
            ("currency", "euro"),
            ("category", "Tools"),
            ("images", [5]),
            ("identifiers", {"ean": "5"}),
            ("attributes", {"": "x"}),
            ("attributes", {"x": {"y": 1}}),
            ("created", datetime(2026, 1, 1)),
            ("created", "yesterday"),
            ("created", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
            ("variants", [{"id": "v", "cost": 5}]),
            ("variants", [{"id": "v", "price": -5}]),
        ],
    )
    def test_invalid_value_error_names_the_field(self, name: str, value: object) -> None:
        with pytest.raises(ChangeError, match=rf"^product 'a1': {name} is .*; it must be ") as caught:
            apply_patch(WHOLE_DRILL, {name: value})
        assert (caught.value.product, caught.value.field) == ("a1", name)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("pric", "similar ones are price"),
            ("colour", "free ones are attributes.NAME"),
            ("attributes.", "no field 'attributes.'"),
            ("id", "the id cannot change"),
            ("\ud800", "no field"),
        ],
    )
    def test_unknown_field_error_suggests_similar_names(self, name: str, message: str) -> None:
        with pytest.raises(ChangeError, match=message) as caught:
            apply_patch(WHOLE_DRILL, {name: "x"})
        assert caught.value.field == name

    @given(
        st.dictionaries(
            st.sampled_from([*FIELDS, "attributes.x", "identifiers.y"]),
            st.from_type(type).flatmap(
                lambda kind: st.sampled_from([kind, None, 1, "x", (), [], {}, 1e300, -1, b"", float("nan"), "\udfff"])
            ),
            max_size=3,
        )
    )
    def test_arbitrary_input_raises_only_change_errors(self, values: dict[str, object]) -> None:
        try:
            once = validate_patch("a1", values)
        except ChangeError:
            return
        assert validate_patch("a1", once) == once, "checking twice is checking once"
        assert validate_product(apply_patch(WHOLE_DRILL, values)) == apply_patch(WHOLE_DRILL, values)


SCRIPTS = (
    "javascript:alert(1)",
    " JavaScript:alert(1)",
    "java\tscript:alert(1)",
    "\x01javascript:alert(1)",
    "data:text/html,<script>",
    "data:image/png;base64,AAAA",
    "vbscript:x",
    "file:///etc/passwd",
    "file:../passwd",
    "ftp://shop.example/1.jpg",
)


@pytest.mark.parametrize("address", SCRIPTS)
@pytest.mark.parametrize("field", ["images", "variants", "link", "size_chart_url"])
def test_address_with_another_scheme_is_refused(field: str, address: str) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "images": {"images": ("https://shop.example/1.jpg", address)},
        "variants": {"variants": (Variant("v", image=address),)},
        "link": {"attributes": {"link": address}},
        "size_chart_url": {"attributes": {"size_chart_url": ("https://shop.example/1.jpg", address)}},
    }
    values = wrong[field]
    with pytest.raises(ChangeError, match="http"):
        validate_product(dataclasses.replace(WHOLE_DRILL, **values))
    attributes = values.pop("attributes", {})
    with pytest.raises(ChangeError, match="http"):
        validate_patch("a1", values | {f"attributes.{name}": each for name, each in attributes.items()})


@pytest.mark.parametrize(
    "address", ["https://a.example/x:1", "HTTP://a.example", "//a.example/1", "/p/1", "1.jpg", "?q=a:b"]
)
def test_web_address_and_relative_address_are_accepted(address: str) -> None:
    product = dataclasses.replace(WHOLE_DRILL, images=(address,), attributes={"link": address, "note": "data: 5 GB"})
    assert validate_product(product) == product


def test_picture_may_be_a_file_and_a_link_may_not() -> None:
    product = dataclasses.replace(
        WHOLE_DRILL, images=("file:pictures/7.webp",), variants=(Variant("v", image="file:8.webp"),)
    )
    assert validate_product(product) == product
    with pytest.raises(ChangeError, match="http"):
        validate_product(dataclasses.replace(WHOLE_DRILL, attributes={"link": "file:pictures/7.webp"}))
