"""Small random catalogs with many equal values, so that filters, facets and ties are tested."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st

from shelfwise.retrieval.filters.ast import And, Comparison, Exists, Filter, In, Not, Or, Value, Within
from shelfwise.retrieval.filters.places import Box, Circle, Polygon
from shelfwise.retrieval.records import Availability, Page, Place, Product
from shelfwise.retrieval.store.products import product_to_json

WORDS = ("drill", "cordless", "12v", "saw", "bit", "case", "red", "电钻", "无线")
BRANDS = ("Bosch", "BOSCH", "Max Pro", "牧田", "")
PATHS = ((), ("Tools",), ("Tools", "Drills"), ("Tools", "Drills", "Cordless"), ("Garden", "Saws"))
PRICES = (None, 5.0, 9.99, 10.0, 99.5)
COLOURS = ("red", "Red", "dark  blue", "ＲＥＤ", "12", "true")
BERLIN, MUNICH, SUVA, APIA = (
    Place(52.52, 13.405),
    Place(48.137, 11.575),
    Place(-18.142, 178.442),
    Place(-13.83, -171.77),
)
PLACES = ((BERLIN,), (MUNICH,), (SUVA, BERLIN), (APIA,))
AREAS = (
    Circle(BERLIN, 0),
    Circle(BERLIN, 450_000),
    Circle(MUNICH, 550_000),
    Circle(SUVA, 1_500_000),
    Box(47, 10, 49, 13.5),
    Box(-20, 170, -10, -170),
    Polygon((Place(47, 10), Place(47, 14), Place(53, 15), Place(50, 11), Place(47, 10))),
)
MOMENTS = tuple(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=30 * month) for month in range(4))


def attributes() -> st.SearchStrategy[dict[str, str | float | bool | tuple[str, ...]]]:
    value = st.one_of(
        st.sampled_from(COLOURS),
        st.sampled_from((-1.5, 0.0, 12.0, 1e6)),
        st.booleans(),
        st.lists(st.sampled_from(COLOURS), min_size=1, max_size=3).map(tuple),
    )
    return st.dictionaries(st.sampled_from(("colour", "screen size", "a.b", "wär")), value, max_size=3)


def products(minimum: int = 1, maximum: int = 12) -> st.SearchStrategy[list[Product]]:
    """Products with distinct ids, in the order of their ids."""
    one = st.builds(
        Product,
        id=st.text("ab1-é", min_size=1, max_size=4),
        title=st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join),
        brand=st.sampled_from(BRANDS),
        category=st.sampled_from(PATHS),
        price=st.sampled_from(PRICES),
        availability=st.sampled_from((None, *Availability)),
        rating_count=st.sampled_from((None, 0, 3)),
        identifiers=st.dictionaries(st.just("sku"), st.tuples(st.sampled_from(("AB-12", "x9", "0012"))), max_size=1),
        attributes=attributes(),
        created=st.sampled_from((None, *MOMENTS)),
        places=st.sampled_from(((), (), *PLACES)),
    )
    return st.lists(one, min_size=minimum, max_size=maximum, unique_by=lambda product: product.id).map(
        lambda each: sorted(each, key=lambda product: product.id.encode())
    )


def numbered(count: int) -> list[Product]:
    base = Product(id="", title="cordless drill")
    return [dataclasses.replace(base, id=f"p{place:04d}") for place in range(count)]


def write_feed(path: Path, made: Iterable[Product]) -> Path:
    path.write_bytes(b"".join(product_to_json(product) + b"\n" for product in made))
    return path


_FIELDS = ("id", "brand", "category", "price", "availability", "rating_count", "created", "places", "attributes.colour")
_TEXTS = (*BRANDS[:4], *COLOURS, "Tools", "Tools > Drills", "garden>saws", "Drills", "in_stock", "ab")
_NUMERIC = ("price", "rating_count")


def filters() -> st.SearchStrategy[Filter]:
    """Filters of valid types, over the fields of `products`."""
    texts: st.SearchStrategy[Value] = st.sampled_from(_TEXTS)
    numbers: st.SearchStrategy[Value] = st.sampled_from((-1.5, 0.0, 5.0, 9.99, 10.0, 12.0))
    days: st.SearchStrategy[Value] = st.sampled_from(("2024-01-01", "2024-03-01", "2024-02-15"))
    textual = st.sampled_from(("id", "brand", "category", "availability", "attributes.colour"))
    orders = st.sampled_from(("=", "!=", "<", "<=", ">", ">="))
    leaf = st.one_of(
        st.builds(Comparison, textual, st.sampled_from(("=", "!=")), texts),
        st.builds(In, textual, st.lists(texts, min_size=1, max_size=3).map(tuple)),
        st.builds(Comparison, st.sampled_from(_NUMERIC), orders, numbers),
        st.builds(In, st.sampled_from(_NUMERIC), st.lists(numbers, min_size=1, max_size=3).map(tuple)),
        st.builds(Comparison, st.just("created"), orders, days),
        st.builds(Exists, st.sampled_from(_FIELDS)),
        st.builds(Within, st.sampled_from(AREAS)),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
            st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        ),
        max_leaves=5,
    )


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]
