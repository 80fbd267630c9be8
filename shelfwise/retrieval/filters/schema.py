"""The fields of a catalog: their kinds, the columns of a product, and the compilation of filters against them.

A field has texts, numbers, or both (a feed may have "12" in one row and 12 in another). Booleans are the texts "true"
and "false", times are seconds since 1970, so a backend stores two kinds of columns.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from shelfwise.retrieval.errors import FilterError, UnknownFieldError
from shelfwise.retrieval.filters.ast import (
    PLACES,
    And,
    Comparison,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Value,
    Within,
    leaves,
    value_text,
)
from shelfwise.retrieval.filters.conditions import (
    AllOf,
    AnyOf,
    Condition,
    HasNumber,
    HasPlace,
    HasText,
    InArea,
    NotThat,
    NumberWithin,
    ProductColumns,
    TextIn,
)
from shelfwise.retrieval.filters.parser import resolve_field
from shelfwise.retrieval.records import AttributeValue, Product

CATEGORY_SEPARATOR = " > "
LONGEST_VALUE = 256
"""Longer texts are prose: they are searched, but not used in filters and facets."""
SEARCHED_CORE = ("title", "brand", "category", "description")
"""The searched fields other than attributes."""
SORTABLE_CORE = ("price", "rating", "rating_count", "created", "updated")

_YEAR = re.compile(r"\d{4}", re.ASCII)


class FieldKind(StrEnum):
    """The kind of a field's values."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    PLACE = "place"


NUMERIC = frozenset({FieldKind.NUMBER, FieldKind.TIME})
TEXTUAL = frozenset({FieldKind.TEXT, FieldKind.BOOLEAN})

CORE_KINDS: Mapping[str, FieldKind] = {
    "id": FieldKind.TEXT,
    "brand": FieldKind.TEXT,
    "category": FieldKind.TEXT,
    "price": FieldKind.NUMBER,
    "currency": FieldKind.TEXT,
    "availability": FieldKind.TEXT,
    "rating": FieldKind.NUMBER,
    "rating_count": FieldKind.NUMBER,
    "language": FieldKind.TEXT,
    "created": FieldKind.TIME,
    "updated": FieldKind.TIME,
    "expires": FieldKind.TIME,
    PLACES: FieldKind.PLACE,
}


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A field: the kinds of its values, and the number of products that have it."""

    name: str
    kinds: frozenset[FieldKind]
    products: int
    slot: int = 0
    """Column in the keyword index; later versions keep it, so that unchanged products can be copied."""

    @property
    def is_numeric(self) -> bool:
        return bool(self.kinds & NUMERIC)

    @property
    def is_textual(self) -> bool:
        return bool(self.kinds & TEXTUAL)


@dataclass(frozen=True, slots=True)
class FieldCatalog:
    """Every field of a version, by name."""

    fields: Mapping[str, FieldInfo]
    category_roots: frozenset[str] = frozenset()
    """Folded root categories: such a name means the root, not a deeper level of another path."""

    def compile(self, tree: Filter) -> Condition:
        """Compiles a filter: checks names and types, folds values.

        Raises UnknownFieldError for a field that no product has, FilterError for a value of the wrong type.
        """
        named = {leaf.field: self.fields[resolve_field(leaf, self.fields)] for leaf in leaves(tree)}
        return _condition(tree, named)

    def resolve(self, name: str) -> FieldInfo:
        """The field or attribute of this name; raises UnknownFieldError with similar names."""
        return self.fields[resolve_field(Exists(name), self.fields)]

    def resolve_searched(self, name: str) -> str:
        """The searched field of this name: one of SEARCHED_CORE, or an attribute; raises UnknownFieldError."""
        texts = (each for each, info in self.fields.items() if FieldKind.TEXT in info.kinds)
        known = (*SEARCHED_CORE, *(each for each in texts if each.startswith("attributes.")))
        return resolve_field(Exists(name), known)

    def tag_of(self, name: str) -> str:
        """The tag of a searched field's terms in a keyword index; empty for a field unknown to `resolve_searched`. For
        an attribute it is the slot, since a name may have any characters."""
        info = self.fields.get(name)
        return name if name in SEARCHED_CORE else str(info.slot) if info else ""

    def tagged_terms(self, fields: Iterable[str], term: str) -> list[str]:
        """A term in each of these searched fields, as a keyword index stores it."""
        return [f"{self.tag_of(name)}:{term}" for name in fields]

    def resolve_sortable(self, name: str) -> FieldInfo:
        """The numeric field of this name; raises UnknownFieldError for other fields."""
        info = self.resolve(name)
        if not info.is_numeric:
            numeric = [each.name for each in self.fields.values() if each.is_numeric]
            close = tuple(dict.fromkeys([core for core in SORTABLE_CORE if core in numeric] + numeric))[:8]
            message = f"sort: {info.name} has text; sort by a number, such as {', '.join(close) or 'none here'}"
            raise UnknownFieldError(message, name, close)
        return info


def product_columns(
    product: Product, category_roots: Collection[str], only: Collection[str] | None = None
) -> ProductColumns:
    """The columns of a product, or only of the fields `only`, each value once; they depend on the catalog's roots."""
    made = ProductColumns()
    for name, kind, value in field_values(product):
        if only is not None and name not in only:
            continue
        if kind in NUMERIC:
            numbers = made.numbers.setdefault(name, [])
            if float(value) not in numbers:
                numbers.append(float(value))
        else:
            _add_text(made, name, value_text(value), facet=True)
    for level in product.category[1:]:
        if fold_value(level) not in category_roots:
            _add_text(made, "category", level, facet=False)
    if only is None or PLACES in only:
        made.places = product.places
    return made


def _add_text(made: ProductColumns, name: str, text: str, *, facet: bool) -> None:
    folded, shown = _text_forms(name, text)
    texts = made.texts.setdefault(name, [])
    if folded not in texts:
        texts.append(folded)
        if facet:
            made.display.setdefault(name, []).append(shown)


@lru_cache(maxsize=2**14)
def _text_forms(name: str, text: str) -> tuple[str, str]:
    """A value in the forms for filters and for facets; cached, since many products share their values."""
    return _folded_value(name, text), normalize_space(text)


def normalize_space(text: str) -> str:
    """A text with white space normalised, and without characters that UTF-8 cannot encode."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return " ".join(text.split())


def fold_value(text: str) -> str:
    """A form in which two spellings of a value are equal: width, case and white space do not count."""
    if text.isascii():
        return " ".join(text.lower().split())
    return normalize_space(unicodedata.normalize("NFKC", text)).casefold()


def field_values(product: Product) -> Iterator[tuple[str, FieldKind, Value]]:
    """Every value of a product that filters can use: field, kind, value."""
    core = (
        ("id", product.id),
        ("brand", product.brand),
        ("currency", product.currency),
        ("availability", product.availability.value if product.availability else ""),
        ("language", product.language),
        ("price", product.price),
        ("rating", product.rating),
        ("rating_count", product.rating_count),
    )
    for name, value in core:
        if value is not None and value != "":
            yield name, CORE_KINDS[name], value
    for name, moment in (("created", product.created), ("updated", product.updated), ("expires", product.expires)):
        if moment is not None:
            yield name, FieldKind.TIME, _seconds(moment)
    for depth in range(1, len(product.category) + 1):
        yield "category", FieldKind.TEXT, CATEGORY_SEPARATOR.join(product.category[:depth])
    for name, values in product.identifiers.items():
        for value in values:
            yield f"identifiers.{name}", FieldKind.TEXT, value
    for name, attribute in product.attributes.items():
        for kind, one in attribute_kinds(attribute):
            yield f"attributes.{name}", kind, one


def attribute_kinds(value: AttributeValue) -> Iterator[tuple[FieldKind, Value]]:
    """The values of an attribute that filters can use, each with its kind."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, bool):
            yield FieldKind.BOOLEAN, one
        elif isinstance(one, int | float):
            yield FieldKind.NUMBER, one
        elif 0 < len(one) <= LONGEST_VALUE:
            yield FieldKind.TEXT, one


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _condition(tree: Filter, fields: Mapping[str, FieldInfo]) -> Condition:
    match tree:
        case Not(operand):
            return NotThat(_condition(operand, fields))
        case And(operands):
            return AllOf(tuple(_condition(each, fields) for each in operands))
        case Or(operands):
            return AnyOf(tuple(_condition(each, fields) for each in operands))
        case Exists():
            info = fields[tree.field]
            if FieldKind.PLACE in info.kinds:
                return HasPlace()
            tests = ((info.is_textual, HasText(info.name)), (info.is_numeric, HasNumber(info.name)))
            return _any_of([test for is_held, test in tests if is_held])
        case Within(area):
            return InArea(area)
        case In():
            return _equal(tree, fields[tree.field], tree.values)
        case Comparison(_, "=", value):
            return _equal(tree, fields[tree.field], (value,))
        case Comparison(_, "!=", value):
            return NotThat(_equal(tree, fields[tree.field], (value,)))
        case Comparison():
            return _ordered(tree, fields[tree.field])


def _any_of(conditions: Sequence[Condition]) -> Condition:
    return conditions[0] if len(conditions) == 1 else AnyOf(tuple(conditions))


def _equal(leaf: Comparison | In, info: FieldInfo, values: Sequence[Value]) -> Condition:
    """Equal to any of the values, in all columns that the field has."""
    _check_values(leaf, info)
    either: list[Condition] = []
    if info.is_textual:
        either.append(TextIn(info.name, tuple(_folded_value(info.name, value) for value in values)))
    if info.is_numeric:
        numbers = [_number(leaf, info, value, strict=not info.is_textual) for value in values]
        either.extend(NumberWithin(info.name, number, number) for number in numbers if number is not None)
    return _any_of(either)


def _folded_value(name: str, value: Value) -> str:
    text = fold_value(value_text(value))
    if name != "category":
        return text
    # "Tools>Drills" is how a person may type the path that is displayed as "Tools > Drills".
    return CATEGORY_SEPARATOR.join(level.strip() for level in text.split(CATEGORY_SEPARATOR.strip()))


def _check_values(leaf: Comparison | In, info: FieldInfo) -> None:
    if FieldKind.PLACE in info.kinds:
        place = f"{info.name} is a list of places"
        message = f"column {leaf.column}: {place}; use a condition such as distance(52.5, 13.4) < 10 km"
        raise FilterError(message, leaf.column, ("distance(", "box(", "polygon("))


def _ordered(leaf: Comparison, info: FieldInfo) -> Condition:
    _check_values(leaf, info)
    if not info.is_numeric:
        raise FilterError(
            f"column {leaf.column}: {info.name} has text, so '{leaf.operator}' cannot compare it; "
            f"use = or IN, for example {info.name} = ...",
            leaf.column,
            ("=", "IN"),
        )
    number = _number(leaf, info, leaf.value, strict=True)
    if number is None:
        return AnyOf(())
    if leaf.operator in {"<", "<="}:
        return NumberWithin(info.name, high=number, include_high=leaf.operator == "<=")
    return NumberWithin(info.name, low=number, include_low=leaf.operator == ">=")


def _number(leaf: Comparison | In, info: FieldInfo, value: Value, *, strict: bool) -> float | None:
    """The value as a number of the field; if it is not one, FilterError if `strict`, else None."""
    if not isinstance(value, str | bool) and FieldKind.NUMBER in info.kinds:
        return float(value)
    parsed = _parsed(value_text(value), info)
    if parsed is None and strict:
        wanted = "a date such as 2024-05-31" if FieldKind.TIME in info.kinds else "a number"
        message = f"column {leaf.column}: {info.name} is compared with {wanted}, not with {value_text(value)!r}"
        raise FilterError(message, leaf.column, (wanted,))
    return parsed


def _parsed(text: str, info: FieldInfo) -> float | None:
    try:
        if FieldKind.TIME in info.kinds:
            # A bare year means its first day.
            return _seconds(datetime.fromisoformat(f"{text}-01-01" if _YEAR.fullmatch(text) else text))
        number = float(text)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class FieldCounter:
    """Counts the fields of a catalog while it is read; counters over its parts can be merged to one over all."""

    def __init__(self) -> None:
        self._kinds: Counter[tuple[str, FieldKind]] = Counter()
        self._products: Counter[str] = Counter()
        self._roots: Counter[str] = Counter()

    def add(self, product: Product, sign: int = 1) -> None:
        """Adds a product to the counts; removes an added one if `sign` is -1."""
        pairs = {(name, kind) for name, kind, _ in field_values(product)}
        if product.places:
            pairs.add((PLACES, FieldKind.PLACE))
        for pair in pairs:
            self._kinds[pair] += sign
        for name in {name for name, _ in pairs}:
            self._products[name] += sign
        if product.category:
            self._roots[product.category[0]] += sign

    def merge(self, other: FieldCounter) -> None:
        """Adds the counts of another counter."""
        self._kinds.update(other._kinds)
        self._products.update(other._products)
        self._roots.update(other._roots)

    def catalog(
        self, before: FieldCatalog | None = None, spelling: Mapping[str, str] = MappingProxyType({})
    ) -> FieldCatalog:
        """The counted catalog, with fields ordered by name; fields of `before` keep their slots.

        `spelling` maps category roots to their final spelling.
        """
        kinds: dict[str, set[FieldKind]] = {name: {kind} for name, kind in CORE_KINDS.items()}
        for (name, kind), count in self._kinds.items():
            if count:
                kinds.setdefault(name, set()).add(kind)
        places = {name: info.slot for name, info in before.fields.items()} if before else {}
        following = itertools.count(max(places.values(), default=-1) + 1)
        infos = {
            name: FieldInfo(
                name, frozenset(kinds[name]), self._products[name], places[name] if name in places else next(following)
            )
            for name in sorted(kinds)
        }
        roots = (spelling.get(root, root) for root, count in self._roots.items() if root and count)
        return FieldCatalog(infos, frozenset(map(fold_value, roots)))


def extend_catalog(catalog: FieldCatalog, products: Iterable[Product]) -> FieldCatalog:
    """A catalog with the additional fields of more products; counts are not changed."""
    counter = FieldCounter()
    for product in products:
        counter.add(product)
    grown = dict(catalog.fields)
    for name, info in counter.catalog(catalog).fields.items():
        known = catalog.fields.get(name)
        if known is None:
            grown[name] = info
        elif not info.kinds <= known.kinds:
            grown[name] = replace(known, kinds=known.kinds | info.kinds)
    return catalog if grown == catalog.fields else FieldCatalog(grown, catalog.category_roots)
