"""Filters of the protocol against a plain evaluation; errors that name the parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import FilterError, QueryError
from shelfwise.retrieval.filters.conditions import matches
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldCounter, fold_value, product_columns
from shelfwise.retrieval.records import Product
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator
from shelfwise.service.instantsearch.protocol_request import JsonObject, Refinements, parse_search
from shelfwise.service.instantsearch.response import product_record
from tests.catalogs import products

NAMES = ("brand", "categories", "hierarchicalCategories.lvl0", "categories.lvl1", "colour", "price", "nosuch", "a.b")
TEXTS = ("bosch", "Max Pro", "Tools", "Tools > Drills", "Drills", "red", "true", "12", "-Edge", 'x" OR price > 0', "")
NUMBERS = (-1.5, 5.0, 9.99, 10.0, 12.0, 100.0)
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
    "=": lambda one, other: one == other,
}


@dataclass(frozen=True)
class FilterForms:
    """One condition on a product, in each notation, and its evaluation."""

    facet: str
    words: str
    holds: Callable[[Product], bool]


def values_of(product: Product, name: str) -> list[object]:
    """The values of a product's attribute by its name in the protocol."""
    head, _, level = name.partition(".lvl")
    if level:
        return [product_record(product).get("hierarchicalCategories", {}).get(f"lvl{level}")]
    if head == "categories":
        path = product.category
        return [*path[1:], *(" > ".join(path[: at + 1]) for at in range(len(path)))]
    value = product.attributes.get(name, getattr(product, name, None))
    return list(value) if isinstance(value, tuple) else [value]


def equals(value: object, text: str) -> bool:
    if isinstance(value, bool):
        return fold_value(text) == str(value).lower()
    if isinstance(value, float):
        try:
            return value == float(text)
        except ValueError:
            return False
    return isinstance(value, str) and value != "" and fold_value(value) == fold_value(text)


@st.composite
def facets(draw: st.DrawFn) -> FilterForms:
    name, text, negated = draw(st.sampled_from(NAMES)), draw(st.sampled_from(TEXTS)), draw(st.booleans())
    mark = "-" if negated else "\\" if text.startswith("-") else ""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def is_match(product: Product) -> bool:
        return any(equals(value, text) for value in values_of(product, name)) is not negated

    return FilterForms(f"{name}:{mark}{text}", f"{'NOT ' if negated else ''}{name}:{quoted}", is_match)


@st.composite
def comparisons(draw: st.DrawFn) -> FilterForms:
    name, number = draw(st.sampled_from(("price", "colour", "nosuch", "brand"))), draw(st.sampled_from(NUMBERS))
    symbol = draw(st.sampled_from(tuple(OPERATORS)))

    def is_match(product: Product) -> bool:
        values = values_of(product, name)
        return any(type(each) is float and OPERATORS[symbol](each, number) for each in values)

    return FilterForms(f"{name} {symbol} {number:g}", f"{name}{symbol}{number:g}", is_match)


def passing(found: list[Product], refinements: Refinements) -> list[str]:
    """The ids of the products that pass, with the translated filter formatted and parsed again."""
    catalog = catalog_of(found)
    tree = parse_filter(FilterTranslator(AttributeCatalog(catalog)).expression(refinements))
    if tree is None:
        return [product.id for product in found]
    condition = catalog.compile(tree)
    return [each.id for each in found if matches(condition, product_columns(each, catalog.category_roots))]


def catalog_of(found: list[Product]) -> FieldCatalog:
    counter = FieldCounter()
    for product in found:
        counter.add(product)
    return counter.catalog()


@pytest.mark.parametrize(("parameter", "conditions"), [("facetFilters", facets()), ("numericFilters", comparisons())])
@given(found=products(), data=st.data())
def test_filters_are_a_conjunction_of_disjunctions(
    parameter: str, conditions: st.SearchStrategy[FilterForms], found: list[Product], data: st.DataObject
) -> None:
    groups = data.draw(st.lists(st.lists(conditions, min_size=1, max_size=3), max_size=3))
    refinements = parse_search({parameter: [[each.facet for each in group] for group in groups]}).refinements
    wanted = [one.id for one in found if all(any(each.holds(one) for each in group) for group in groups)]
    assert passing(found, refinements) == wanted


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> FilterForms:
    kind = draw(st.sampled_from(("leaf", "and", "or", "not") if depth else ("leaf",)))
    if kind == "leaf":
        return draw(st.one_of(facets(), comparisons()))
    if kind == "not":
        inner = draw(expressions(depth - 1))
        return FilterForms("", f"NOT ({inner.words})", lambda product: not inner.holds(product))
    parts = draw(st.lists(expressions(depth - 1), min_size=2, max_size=3))
    words = f" {kind.upper()} ".join(f"({each.words})" for each in parts)
    join = all if kind == "and" else any
    return FilterForms("", words, lambda product: join(each.holds(product) for each in parts))


@given(products(), expressions())
def test_expressions_respect_parentheses(found: list[Product], payload: FilterForms) -> None:
    wanted = [one.id for one in found if payload.holds(one)]
    assert passing(found, Refinements(expression=payload.words)) == wanted


SHELF = [
    Product("a", "A", brand="Bosch", price=5.0, attributes={"tags": ("new", "sale")}, category=("Tools",)),
    Product("b", "B", brand="-Edge", price=15.0, attributes={"tags": "new", "is_good": True}),
    Product("c", "C", brand="Men's", price=-3.0, attributes={"rating of": "4"}),
]


@pytest.mark.parametrize(
    ("payload", "ids"),
    [
        ({}, "abc"),
        ({"facetFilters": '[["brand:Bosch", "brand:Men\'s"], "price:-15"]'}, "ac"),
        ({"facetFilters": [["brand:-Edge"]]}, "abc"),
        ({"facetFilters": [["brand:\\-Edge"]]}, "b"),
        ({"facetFilters": [[]]}, "abc"),
        ({"numericFilters": "price>0,price<10"}, "a"),
        ({"numericFilters": ["price:-5 TO 5"]}, "ac"),
        ({"tagFilters": ["new", "-sale"]}, "b"),
        ({"filters": "new"}, "ab"),
        ({"filters": "_tags:new AND NOT sale"}, "b"),
        ({"filters": "brand:Men's OR price = 15"}, "bc"),
        ({"filters": "brand:'Men\\'s'"}, "c"),
        ({"filters": "price:-5 TO 5 AND brand:Bosch<score=2>"}, "a"),
        ({"filters": '"rating of":4'}, "c"),
        ({"filters": "ORDER:x OR brand:ANDREW"}, ""),
        ({"filters": "price < 10", "facetFilters": ["brand:Bosch"]}, "a"),
    ],
)
def test_filter_syntax_variants(payload: JsonObject, ids: str) -> None:
    assert passing(SHELF, parse_search(payload).refinements) == list(ids)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("brand:", 7),
        ("brand:A AND", 12),
        ("brand:A and brand:B", 9),
        ("(brand:A", 9),
        ("price > cheap", 9),
        ('brand:"A', 7),
        ("(" * 51 + "a" + ")" * 51, 51),
        ("NOT " * 51 + "a", 201),
        ("x" * 10_001, 10_001),
    ],
)
def test_filter_error_has_its_column(text: str, column: int) -> None:
    with pytest.raises(FilterError) as refused:
        passing(SHELF, Refinements(expression=text))
    assert refused.value.column == column


@pytest.mark.parametrize(
    "payload",
    [
        {"facetFilters": ["brand"]},
        {"numericFilters": ["price"]},
        {"numericFilters": ["price > 1e"]},
        {"facetFilters": [["brand:x"] * 201]},
    ],
)
def test_empty_refinements_are_refused(payload: JsonObject) -> None:
    with pytest.raises(QueryError):
        passing(SHELF, parse_search(payload).refinements)


def test_times_are_in_seconds_as_in_records() -> None:
    from datetime import UTC, datetime

    moment = datetime(2024, 1, 1, tzinfo=UTC)
    shelf = [Product("old", "Old", created=datetime(2020, 1, 1, tzinfo=UTC)), Product("new", "New", created=moment)]
    at = product_record(shelf[1])["created"]
    assert passing(shelf, parse_search({"numericFilters": [f"created>={at}"]}).refinements) == ["new"]
    with pytest.raises(QueryError, match="seconds since 1970"):
        passing(shelf, parse_search({"numericFilters": ["created>1e30"]}).refinements)
