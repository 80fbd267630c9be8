"""The demo store's grammar, catalog and queries."""

from __future__ import annotations

import pytest

from shelfwise.service.demo.catalog import Catalog, make_catalog
from shelfwise.service.demo.queries import JudgedQuery, QueryClass, Requirement, make_queries


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(7, 2000)


def test_too_few_products_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"products is 50, but the demo store has \d+ types"):
        make_catalog(7, 50)


@pytest.fixture(scope="module")
def queries(catalog: Catalog) -> tuple[JudgedQuery, ...]:
    return make_queries(catalog, 7)


def test_split_depends_on_the_text_only() -> None:
    small, large = make_catalog(7, 400), make_catalog(8, 800)
    one = {entry.query.text: entry.query.split for entry in make_queries(small, 7)}
    other = {entry.query.text: entry.query.split for entry in make_queries(large, 8)}
    shared = one.keys() & other.keys()
    assert len(shared) > 300
    assert all(one[text] == other[text] for text in shared)


def test_constraints_determine_the_grade(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    for entry in (each for each in queries if each.query.label is QueryClass.ATTRIBUTE):
        intent = entry.query.intent
        for at, grade in zip(entry.judged.positions.tolist(), entry.judged.grades.tolist(), strict=True):
            item = catalog.products[at]
            if item.line.kind.key in intent.targets:
                missed = sum(not requirement.is_met(item) for requirement in intent.requirements)
                assert grade == max(1, 3 - missed)
            else:
                assert grade == (item.line.kind.key in intent.near)
    # A price is a ceiling.
    price = int(catalog.products[0].product.price or 0)
    assert [Requirement("price", most).is_met(catalog.products[0]) for most in (price - 1, price + 1)] == [False, True]
