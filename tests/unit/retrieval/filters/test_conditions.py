"""A product passes a filter by the fields that the filter names, whatever else is known of it."""

from __future__ import annotations

from hypothesis import given

from retrieval.filters.ast import Filter
from retrieval.filters.conditions import (
    AllOf,
    AnyOf,
    HasNumber,
    HasText,
    NotThat,
    NumberWithin,
    TextIn,
    fields_of,
    matches,
)
from retrieval.filters.schema import FieldCounter, product_columns
from retrieval.records import Product
from tests import catalogs, oracle


def test_the_fields_of_a_filter_are_those_that_it_looks_at() -> None:
    parts = (NotThat(TextIn("brand", ("bosch",))), AnyOf((HasText("category"), HasNumber("price"))))
    assert fields_of(AllOf((*parts, NumberWithin("price", 1)))) == {"brand", "category", "price"}
    assert fields_of(AllOf(())) == set()


@given(products=catalogs.products(), tree=catalogs.filters())
def test_other_fields_do_not_matter(products: list[Product], tree: Filter) -> None:
    counter = FieldCounter()
    for product in (*products, *(Product("", "", attributes={"colour": value}) for value in ("red", 12.0, True))):
        counter.add(product)
    catalog = counter.catalog()
    condition = catalog.compile(tree)
    for product in products:
        known = product_columns(product, catalog.category_roots, fields_of(condition))
        assert matches(condition, known) == oracle.matches(tree, oracle.product_values(product))
