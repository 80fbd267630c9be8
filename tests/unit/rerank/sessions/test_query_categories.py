"""The categories that a query means: weighted acts, smoothed by the general shares of categories."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rerank.sessions.options import DeriveOptions
from rerank.sessions.query_tables import QUERY_CATEGORIES
from tests.unit.rerank.sessions.derived_log import NOW, catalog, derived, search

START = NOW - timedelta(hours=3)
PRODUCTS = catalog({"a": "Light > Lamps", "b": "Light > Bulbs", "c": "Tools"})


def test_probabilities_are_shares_of_weight_smoothed_by_the_prior(tmp_path: Path) -> None:
    events = search("u1", START, "lamp", ["a", "b"], ("click", "a"), ("click", "b"), ("cart", "a"), ("purchase", "a"))
    events += search("u2", START, "hammer", ["c"], ("click", "c"))
    options = DeriveOptions(least_shoppers=1, category_prior=2)
    table = derived(tmp_path, QUERY_CATEGORIES, events, options, PRODUCTS)
    lamps, bulbs, tools = 1 + 3 + 5, 1, 1
    whole = lamps + bulbs + tools
    assert table.select("query", "category", "weight").rows() == [
        ("hammer", "Tools", tools),
        ("lamp", "Light > Lamps", lamps),
        ("lamp", "Light > Bulbs", bulbs),
    ]
    assert table["probability"].to_list() == pytest.approx(
        [
            (tools + 2 * tools / whole) / (tools + 2),
            (lamps + 2 * lamps / whole) / (lamps + bulbs + 2),
            (bulbs + 2 * bulbs / whole) / (lamps + bulbs + 2),
        ]
    )


def test_a_category_that_too_few_shoppers_chose_is_left_out(tmp_path: Path) -> None:
    events = [event for number in range(5) for event in search(f"u{number}", START, "lamp", ["a"], ("click", "a"))]
    events += search("v", START, "lamp", ["c"], ("click", "c"))
    table = derived(tmp_path, QUERY_CATEGORIES, events, products=PRODUCTS)
    assert table.select("query", "category", "shoppers").rows() == [("lamp", "Light > Lamps", 5)]


def test_without_a_catalog_it_is_empty(tmp_path: Path) -> None:
    events = search("u1", START, "lamp", ["a"], ("click", "a"))
    assert derived(tmp_path, QUERY_CATEGORIES, events, DeriveOptions(least_shoppers=1)).is_empty()


def test_a_category_of_a_catalog_that_changed_is_taken_up_without_cleaning_again(tmp_path: Path) -> None:
    events = search("u1", START, "lamp", ["a"], ("click", "a"))
    options = DeriveOptions(least_shoppers=1)
    derived(tmp_path, QUERY_CATEGORIES, events, options, PRODUCTS)
    moved = catalog({"a": "Living room"})
    table = derived(tmp_path, QUERY_CATEGORIES, events, options, moved)
    assert table["category"].to_list() == ["Living room"]
