"""Live changes, validation and three-way merge."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import ChangeError, StoreDamagedError
from shelfwise.retrieval.records import Availability, Product, Variant
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
from tests.catalogs import BRANDS, PATHS, PRICES, attributes, products

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


BASE = Product("a1", "Drill", price=99.0, brand="Bosch", attributes={"colour": "blue", "volts": 18.0})


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


VERSIONS = versions_of("a1")


class TestMergeProducts:
    @pytest.mark.parametrize(
        ("what", "live", "feed", "expected"),
        [
            ("a patched price stands while the feed repeats itself", {"price": 79.0}, {}, {"price": 79.0}),
            ("the feed's new price ends a patched one", {"price": 79.0}, {"price": 89.0}, {"price": 89.0}),
            ("also when the feed takes the price away", {"price": 79.0}, {"price": None}, {"price": None}),
            ("another field's change does not", {"price": 79.0}, {"brand": "B"}, {"price": 79.0, "brand": "B"}),
            ("what was cleared stays clear", {"brand": ""}, {"price": 1.0}, {"brand": "", "price": 1.0}),
            ("both agree at last", {"price": 79.0}, {"price": 79.0}, {"price": 79.0}),
        ],
    )
    def test_fields_are_merged(self, what: str, live: object, feed: object, expected: object) -> None:
        one, two, three = (dataclasses.replace(BASE, **each) for each in (live, feed, expected))  # type: ignore[arg-type]
        assert merge_products(BASE, one, two) == three, what

    @pytest.mark.parametrize(
        ("live", "feed", "expected"),
        [
            ({"colour": "red", "volts": 18.0}, {"colour": "blue", "volts": 12.0}, {"colour": "red", "volts": 12.0}),
            ({"colour": "red", "volts": 18.0}, {"colour": "green", "volts": 18.0}, {"colour": "green", "volts": 18.0}),
            ({"volts": 18.0}, {"colour": "blue", "volts": 18.0}, {"volts": 18.0}),
            ({"volts": 18.0}, {"colour": "green"}, {"colour": "green"}),
            ({"colour": "blue", "volts": 18.0, "x": "1"}, {"colour": "blue"}, {"colour": "blue", "x": "1"}),
            ({"colour": "red", "volts": 18.0}, {"volts": 18.0}, {"volts": 18.0}),
        ],
    )
    def test_attributes_are_merged_separately(
        self, live: dict[str, str | float], feed: dict[str, str | float], expected: dict[str, str | float]
    ) -> None:
        one, two = (dataclasses.replace(BASE, attributes=each) for each in (live, feed))
        found = merge_products(BASE, one, two)
        assert found is not None
        assert found.attributes == expected

    def test_true_and_1_are_different_values(self) -> None:
        base, live, feed = (Product("a", "b", attributes={"x": value}) for value in (True, "live", 1.0))
        found = merge_products(base, live, feed)
        assert found is not None
        assert found.attributes["x"] is feed.attributes["x"]

    def test_product_missing_on_one_side_is_not_merged_by_field(self) -> None:
        changed = dataclasses.replace(BASE, price=5.0)
        assert merge_products(BASE, None, BASE) is None, "a deleted product stays away"
        assert merge_products(BASE, None, None) is None
        assert merge_products(BASE, None, changed) == changed, "until the feed says something new"
        assert merge_products(None, BASE, None) == BASE, "one that the feed never had stands"
        assert merge_products(None, BASE, changed) == merge_products(None, None, changed) == changed
        assert merge_products(BASE, changed, None) is None, "one that the feed dropped is gone"

    @given(VERSIONS, VERSIONS)
    def test_feed_wins_without_a_live_change(self, base: Product | None, feed: Product | None) -> None:
        assert merge_products(base, base, feed) == feed

    @given(VERSIONS, VERSIONS)
    def test_live_change_wins_if_the_feed_is_unchanged(self, base: Product | None, live: Product | None) -> None:
        assert merge_products(base, live, base) == live

    @given(VERSIONS, VERSIONS, VERSIONS)
    def test_merge_is_idempotent(self, base: Product | None, live: Product | None, feed: Product | None) -> None:
        once = merge_products(base, live, feed)
        assert merge_products(feed, once, feed) == once

    @given(VERSIONS, VERSIONS, VERSIONS, st.sampled_from(("brand", "price", "category", "attributes", "identifiers")))
    def test_fields_are_independent(
        self, base: Product | None, live: Product | None, feed: Product | None, name: str
    ) -> None:
        """Only products that all three sides have are merged field by field."""
        if base is None or live is None or feed is None:
            return
        alone = [dataclasses.replace(BASE, **{name: getattr(each, name)}) for each in (base, live, feed)]
        found, expected = merge_products(base, live, feed), merge_products(*alone)
        assert found is not None
        assert expected is not None
        assert getattr(found, name) == getattr(expected, name)


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
            b"{}\n",
            b"\xff\n",
            b'{"live":{"id":"a","title":"x"}}',
            b'{"live":{"id":"a"}}\n',
            b'{"live":null}\n',
            b'{"live":{"id":"a","title":"x"},"base":{"id":"b","title":"x"}}\n',
            b'{"live":{"id":"b","title":"x"}}\n{"live":{"id":"a","title":"x"}}\n',
        ],
    )
    def test_damaged_file_raises(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "update").write_bytes(content)
        with pytest.raises(StoreDamagedError, match=r"pending updates .*line \d.*; rebuild the index"):
            list(read_pending_updates(tmp_path / "update"))
