"""Ranges of numeric fields: their bounds, and counts that equal the hits of the range."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import InputError
from shelfwise.retrieval.index.ranges import quantile_bounds
from shelfwise.retrieval.records import Facet, FacetCount
from shelfwise.service.engine.engine import SearchEngine

PRICES = st.one_of(st.integers(1, 40).map(float), st.floats(0.01, 1e6), st.floats(-1e300, 1e300))


def facet(values: list[float]) -> Facet:
    return Facet("price", tuple(FacetCount(value, count) for value, count in Counter(values).items()))


@given(st.lists(PRICES, min_size=2, max_size=60).filter(lambda values: len(set(values)) > 1))
def test_no_automatic_range_is_empty(values: list[float]) -> None:
    first, *bounds = quantile_bounds(facet(values))
    assert first == -math.inf
    assert 1 <= len(bounds) <= 5
    for low, high in pairwise((first, *bounds, math.inf)):
        assert any(low <= value < high for value in values)


def test_automatic_bounds_are_round() -> None:
    prices = [2.5, 3.99, 7.0, 14.99, 19.0, 26.5, 49.0, 89.0, 99.0, 210.0, 480.0, 1_999.0]
    assert quantile_bounds(facet(prices)) == (-math.inf, 3.5, 10, 25, 80, 200)
    assert quantile_bounds(facet([4.1, 4.3, 4.3, 4.5])) == (-math.inf, 4.3, 4.5)
    assert quantile_bounds(facet([-1.0, 1_999_999_999.0])) == (-math.inf, 1e9)
    assert quantile_bounds(facet([5.0, 5.0])) == quantile_bounds(facet([])) == ()


@pytest.mark.parametrize("query", ["backpack", "drill", ""])
@pytest.mark.parametrize("group", ["", "variants"])
@pytest.mark.parametrize("filters", ["", "brand EXISTS AND price < 90"])
def test_range_counts_equal_hits_filtered_by_the_range(
    engine: SearchEngine, query: str, group: str, filters: str
) -> None:
    page = engine.search(query, size=0, group=group, filters=filters, ranges=["price:0,20.5,50,1000", "rating"])
    bounds = [(each.low, each.high) for each in page.ranges["price"]]
    assert bounds == [(0, 20.5), (20.5, 50), (50, 1_000), (1_000, None)]
    assert len(page.ranges["rating"]) > 1
    for each in (*page.ranges["price"], *page.ranges["rating"]):
        chosen = f"({filters or 'id EXISTS'}) AND {each.filter}"
        assert engine.search(query, size=0, group=group, filters=chosen).total == each.count


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ("pric", "did you mean price"),
        ("brand", "brand has no numbers; use a numeric field, such as"),
        ("created:1,2", "created has no numbers"),
        ("price:50,20", "the bounds must be ascending numbers, such as price:0,50,100"),
        ("price:", "the bounds must be ascending numbers"),
        ("price:0,nan", "the bounds must be ascending numbers"),
        ("price:0,inf", "the bounds must be ascending numbers"),
        (f"price:{','.join(map(str, range(101)))}", "ranges has 101 bounds of price; at most 100 are allowed"),
    ],
)
def test_invalid_ranges_are_refused(engine: SearchEngine, ranges: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.search("", ranges=[ranges])
