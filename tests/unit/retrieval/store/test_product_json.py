"""A product written as JSON and read again is the same product."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import StoreDamagedError
from retrieval.records import Availability, Product, Variant
from retrieval.store.products import product_from_json, product_to_json

# Offsets with seconds exist (time zones before 1900), and times near the first and last year leave the calendar in UTC.
# Named zones are left out: Python holds a time in the hour that daylight saving skips or repeats unequal to any other.
OFFSETS = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.one_of(st.none(), st.just(UTC), OFFSETS))
TEXTS = st.lists(st.text(), max_size=3).map(tuple)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VARIANTS = st.builds(
    Variant,
    id=st.text(min_size=1),
    options=st.dictionaries(st.text(), st.text(), max_size=2),
    price=st.none() | NUMBERS,
    availability=st.none() | st.sampled_from(Availability),
    identifiers=st.dictionaries(st.text(), TEXTS, max_size=2),
    image=st.text(),
)
PRODUCTS = st.builds(
    Product,
    id=st.text(min_size=1),
    title=st.text(min_size=1),
    description=st.text(),
    brand=st.text(),
    category=TEXTS,
    price=st.none() | NUMBERS,
    currency=st.sampled_from(["", "EUR"]),
    availability=st.none() | st.sampled_from(Availability),
    rating=st.none() | NUMBERS,
    rating_count=st.none() | st.integers(0, 2**63),
    images=TEXTS,
    identifiers=st.dictionaries(st.text(), TEXTS, max_size=3),
    attributes=st.dictionaries(st.text(), st.text() | NUMBERS | st.booleans() | TEXTS, max_size=4),
    created=st.none() | TIMES,
    updated=st.none() | TIMES,
    expires=st.none() | TIMES,
    language=st.sampled_from(["", "en", "zh"]),
    variants=st.lists(VARIANTS, max_size=2).map(tuple),
)


@given(PRODUCTS)
def test_writing_and_reading_gives_the_same_product(product: Product) -> None:
    read = product_from_json(product_to_json(product))
    assert read == product
    assert {name: type(value) for name, value in read.attributes.items()} == {
        name: type(value) for name, value in product.attributes.items()
    }


def test_what_has_its_default_takes_no_room() -> None:
    assert product_to_json(Product("a1", "Drill")) == b'{"id":"a1","title":"Drill"}'


def test_every_field_of_a_product_is_stored() -> None:
    product = Product(
        id="a1",
        title="Drill",
        description="Cordless",
        brand="Bosch",
        category=("Tools", "Drills"),
        price=99.5,
        currency="EUR",
        availability=Availability.IN_STOCK,
        rating=4.5,
        rating_count=12,
        images=("http://shop.example/a1.jpg",),
        identifiers={"ean": ("0095205603217",)},
        attributes={"colour": ("blue", "green"), "voltage": 18.0, "brushless": True, "size": "5"},
        created=datetime(2024, 1, 31, tzinfo=UTC),
        updated=datetime(2024, 2, 1, 12, 30, 0, 5),
        expires=datetime(2030, 1, 1, tzinfo=UTC),
        language="en",
        variants=(Variant("a1-5", {"Size": "5"}, 99.5, Availability.IN_STOCK, {"sku": ("A1-5",)}, "a1-5.jpg"),),
    )
    defaults = Product("", "")
    names = [field.name for field in dataclasses.fields(Product)]
    assert all(getattr(product, name) != getattr(defaults, name) for name in names), "each field is set above"
    assert product_from_json(product_to_json(product)) == product


def test_an_offset_with_seconds_keeps_its_instant() -> None:
    created = datetime(1890, 1, 1, tzinfo=timezone(timedelta(minutes=7, seconds=30)))
    assert product_from_json(product_to_json(Product("a", "b", created=created))).created == created


def test_a_read_only_mapping_is_stored_as_its_content() -> None:
    product = Product("a", "b", attributes=MappingProxyType({"colour": "red"}))
    assert product_from_json(product_to_json(product)) == Product("a", "b", attributes={"colour": "red"})


@given(st.binary() | st.sampled_from([b"{}", b'{"id":1,"title":"a"}', b'{"id":"\xff","title":"a"}', b"[" * 100_000]))
def test_anything_else_is_a_damaged_store(line: bytes) -> None:
    with pytest.raises(StoreDamagedError, match="rebuild the index"):
        product_from_json(line)
