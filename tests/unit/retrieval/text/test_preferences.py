"""Price bounds in queries."""

from __future__ import annotations

import pytest

from shelfwise.retrieval.text.preferences import PriceBounds, price_bounds


@pytest.mark.parametrize(
    ("query", "low", "high", "text"),
    [
        ("drill under 100", None, 100, "drill"),
        ("Drill Under $1,200.50 with case", None, 1200.5, "Drill with case"),
        ("cordless drill for less than 99 dollars", None, 99, "cordless drill"),
        ("backpack over 50€", 50, None, "backpack"),
        ("between 50 and 20 dollars backpack", 20, 50, "backpack"),
        ("100元以下的背包", None, 100, "背包"),
        ("背包 200元以上", 200, None, "背包"),
        ("iphone 12 up to 500", None, 500, "iphone 12"),
    ],
)
def test_price_bounds_are_removed_from_the_query(query: str, low: float | None, high: float | None, text: str) -> None:
    assert price_bounds(query) == PriceBounds(low, high, text)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "drill",
        "under 100",
        "under cabinet light",
        "tv over 50 inch",
        'tv over 50"',
        "up to 5% off",
        "under 12v drill",
    ],
)
def test_other_numbers_are_not_prices(query: str) -> None:
    assert price_bounds(query) is None
