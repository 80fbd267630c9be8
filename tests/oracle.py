"""A simple, slow evaluation of filters, with which the results of every backend are compared."""

from __future__ import annotations

import cmath
import math
import operator
import unicodedata
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from shelfwise.retrieval.filters.ast import (
    And,
    Comparison,
    Exists,
    Filter,
    In,
    Leaf,
    Not,
    Or,
    Value,
    Within,
    value_text,
)
from shelfwise.retrieval.filters.places import Area, Box, Circle, Polygon
from shelfwise.retrieval.records import Place, Product
from shelfwise.retrieval.text.analysis import Analyzer

Stored = str | float | bool | datetime | Place
Get = Callable[[str], tuple[Stored, ...]]
"""The values of a field of one product; empty if it is missing. `category` gives the path, most general first."""

_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(tree: Filter, get: Get) -> bool:
    """Whether the product whose fields `get` gives passes the filter. Fields are resolved (`attributes.colour`)."""
    match tree:
        case Not(operand):
            return not matches(operand, get)
        case And(operands):
            return all(matches(operand, get) for operand in operands)
        case Or(operands):
            return any(matches(operand, get) for operand in operands)
    return _leaf_matches(tree, get(tree.field))


def _leaf_matches(leaf: Leaf, stored: tuple[Stored, ...]) -> bool:
    match leaf:
        case Within(area):
            return any(_is_inside(place, area) for place in stored if isinstance(place, Place))
        case Exists():
            return bool(stored)
        case In(field, values):
            return any(_equals(field, stored, value) for value in values)
        case Comparison(field, "=" | "!=" as symbol, value):
            return _equals(field, stored, value) is (symbol == "=")
        case Comparison(_, symbol, value):
            return any(_ordered(symbol, one, value) for one in stored)


def _is_inside(place: Place, area: Area) -> bool:
    match area:
        case Circle(center, metres):
            return metres_between(center, place) <= metres + 0.01
        case Box(south, west, north, east):
            return south <= place.lat <= north and (place.lng - west) % 360 <= (east - west) % 360
        case Polygon(corners):
            turns = ((one, other) for one, other in zip(corners, (*corners[1:], corners[0]), strict=True))
            # The sum of the angles under which the sides are seen.
            return abs(sum(_angle(place, one, other) for one, other in turns)) > math.pi


def _angle(place: Place, one: Place, other: Place) -> float:
    first, second = (complex(each.lng - place.lng, each.lat - place.lat) for each in (one, other))
    return cmath.phase(second / first)


def metres_between(one: Place, other: Place) -> float:
    """The distance of two places, by the angle between their vectors from the centre of the earth."""
    (x, y, z), (u, v, w) = (
        (math.cos(lat) * math.cos(lng), math.cos(lat) * math.sin(lng), math.sin(lat))
        for lat, lng in ((math.radians(each.lat), math.radians(each.lng)) for each in (one, other))
    )
    cross = math.hypot(y * w - z * v, z * u - x * w, x * v - y * u)
    return 6_371_008.7714 * math.atan2(cross, x * u + y * v + z * w)


def product_values(product: Product) -> Get:
    """The fields of a product by their names in filters: `brand`, `identifiers.ean`, `attributes.colour`."""

    def get(field: str) -> tuple[Stored, ...]:
        kind, _, name = field.partition(".")
        if kind == "identifiers":
            return tuple(product.identifiers.get(name, ()))
        value = product.attributes.get(name) if kind == "attributes" else getattr(product, field)
        if isinstance(value, tuple):
            return value
        return () if value is None or value == "" else (value,)

    return get


def has_words(query: str, product: Product, fields: Collection[str], analyzer: Analyzer) -> bool:
    """Whether these fields of a product contain both words of a two-word query, or half of the words of any other."""
    values = (each for field in fields for each in product_values(product)(field) if isinstance(each, str))
    terms = {term for value in values for term in analyzer.terms(value)}
    groups = analyzer.groups(query)
    met = sum(any(terms.issuperset(each) for each in group.alternatives) for group in groups)
    return met >= (len(groups) if len(groups) <= 2 else math.ceil(len(groups) / 2))


def _equals(field: str, stored: tuple[Stored, ...], value: Value) -> bool:
    if field == "category" and _starts_path(stored, value_text(value)):
        return True
    return any(_equal(one, value) for one in stored)


def _starts_path(levels: tuple[Stored, ...], text: str) -> bool:
    wanted = [part.strip().casefold() for part in text.split(">")]
    return [str(level).strip().casefold() for level in levels[: len(wanted)]] == wanted


def _equal(stored: Stored, value: Value) -> bool:
    if isinstance(stored, str):
        return _folded(stored) == _folded(value_text(value))
    if isinstance(stored, bool) or isinstance(value, bool):
        return value_text(value).casefold() == (value_text(stored) if isinstance(stored, bool) else "")
    one, other = _comparable(stored), _requested(stored, value)
    return one is not None and one == other


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _ordered(symbol: str, stored: Stored, value: Value) -> bool:
    one, other = _comparable(stored), _requested(stored, value)
    return one is not None and other is not None and _ORDERS[symbol](one, other)


def _comparable(stored: Stored) -> float | None:
    """A number, or the seconds of a time; None for texts and booleans, which have no order."""
    if isinstance(stored, str | bool | Place):
        return None
    return _seconds(stored) if isinstance(stored, datetime) else float(stored)


def _requested(stored: Stored, value: Value) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        if isinstance(stored, datetime):
            return _seconds(datetime.fromisoformat(value_text(value)))
        return float(value)
    except ValueError:
        return None


def _seconds(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
