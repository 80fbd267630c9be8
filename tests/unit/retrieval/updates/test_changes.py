"""Live changes: what they make of a product, and their form on disk."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import ChangeError, StoreDamagedError
from retrieval.records import Availability, Product, Variant
from retrieval.updates.changes import (
    MAX_CHANGE_BYTES,
    Change,
    Delete,
    Patch,
    Upsert,
    apply_change,
    change_from_json,
    change_to_json,
    validate_change,
)
from tests.catalogs import products

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
def test_writing_and_reading_gives_the_sound_change(change: Change) -> None:
    assert change_from_json(change_to_json(change)) == validate_change(change)
    assert validate_change(validate_change(change)) == validate_change(change)


@given(changes())
def test_a_change_read_again_does_what_it_did(change: Change) -> None:
    assert apply_change(DRILL, change_from_json(change_to_json(change))) == apply_change(DRILL, validate_change(change))


def test_the_form_on_disk() -> None:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    assert change_to_json(Upsert(DRILL)) == b'{"type":"upsert","product":{"id":"a1","title":"Drill","price":99.5}}'
    assert change_to_json(Delete("a1")) == b'{"type":"delete","id":"a1"}'
    patch = Patch("a1", {"price": 5, "availability": "in_stock", "expires": moment, "category": ("Tools",)})
    assert change_to_json(patch) == (
        b'{"type":"patch","id":"a1","values":{"availability":"in_stock","category":["Tools"],'
        b'"expires":"2026-01-31T00:00:00Z","price":5.0}}'
    )


def test_what_a_product_is_after_a_change() -> None:
    other = Product("a1", "Hammer drill")
    assert apply_change(DRILL, Upsert(other)) == apply_change(None, Upsert(other)) == other
    assert apply_change(DRILL, Delete("a1")) is apply_change(None, Delete("a1")) is None
    assert apply_change(DRILL, Patch("a1", {"price": 5})) == dataclasses.replace(DRILL, price=5.0)
    assert apply_change(None, Patch("a1", {"price": 5})) is None


def test_a_change_over_a_megabyte_is_refused() -> None:
    fits = Product("a1", "Drill", "x" * (MAX_CHANGE_BYTES - 1_000))
    assert len(change_to_json(Upsert(fits))) <= MAX_CHANGE_BYTES
    with pytest.raises(ChangeError, match=r"product 'a1': the change takes 1,000,0\d\d bytes, at most 1,000,000"):
        change_to_json(Upsert(dataclasses.replace(fits, description="x" * MAX_CHANGE_BYTES)))


@pytest.mark.parametrize(
    "change", [Upsert(Product("a1", "")), Delete(" "), Patch("a1", {}), Patch("a1", {"price": float("nan")})]
)
def test_an_unsound_change_is_not_written(change: Change) -> None:
    with pytest.raises(ChangeError):
        change_to_json(change)


def test_each_change_names_its_product() -> None:
    every: list[Any] = [Upsert(DRILL), Delete("a1"), Patch("a1", {"price": 5})]
    assert {change.id for change in every} == {"a1"}


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
def test_anything_else_is_damage(line: bytes) -> None:
    with pytest.raises(StoreDamagedError, match="a stored live change cannot be read"):
        change_from_json(line)
