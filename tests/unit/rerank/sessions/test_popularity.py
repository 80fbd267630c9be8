"""Popularity: counts, decayed scores, trends and ranks by category."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pytest

from rerank.sessions.options import DeriveOptions
from rerank.sessions.product_tables import POPULARITY
from rerank.sessions.tables import open_derived
from retrieval.events.stored import StoredEvent, milliseconds
from tests.unit.rerank.sessions.derived_log import NOW, catalog, derived, search, stored


def clicked(shopper: str, product: str, days_ago: int = 0) -> list[StoredEvent]:
    return search(shopper, NOW - timedelta(days=days_ago, hours=1), "lamp", ["a", "b"], ("click", product))


def test_acts_are_counted_with_who_did_them_and_decayed_by_their_age_in_days(tmp_path: Path) -> None:
    bought = search(
        "u3", NOW - timedelta(days=14, hours=1), "lamp", ["a", "b"], ("click", "a"), ("cart", "a"), ("purchase", "a")
    )
    events = clicked("u1", "a") + clicked("u1", "a", 7) + clicked("u2", "a", 14) + bought
    table = derived(tmp_path, POPULARITY, events, DeriveOptions(least_shoppers=2))
    (row,) = table.to_dicts()
    assert (row["product_id"], row["category"], row["rank"]) == ("a", "", 1)
    assert (row["impressions"], row["clicks"], row["carts"], row["purchases"], row["shoppers"]) == (4, 4, 1, 1, 3)
    assert row["score"] == pytest.approx(1 + 0.5**0.5 + 0.5 * (1 + 1 + 3 + 5), abs=1e-5)


def test_a_product_that_rises_has_a_trend_above_0_shrunk_by_the_prior(tmp_path: Path) -> None:
    events = [event for number in range(8) for event in clicked(f"u{number}", "a")]
    events += [event for number in range(8) for event in clicked(f"v{number}", "b", 9)]
    options = DeriveOptions(half_life=8, trend_half_life=2, trend_prior=3)
    trend = {row["product_id"]: row["trend"] for row in derived(tmp_path, POPULARITY, events, options).to_dicts()}
    # It is noon: half of today is over.
    usual, recent = (1 / 2 + sum(0.5 ** (age / life) for age in range(1, 10)) for life in (8, 2))
    assert trend["a"] == pytest.approx(math.log2((8 + 3) / (8 * recent / usual + 3)), abs=1e-5)
    fallen = 8 * 0.5 ** (9 / 8)
    assert trend["b"] == pytest.approx(math.log2((8 * 0.5**4.5 + 3) / (fallen * recent / usual + 3)), abs=1e-5)
    assert trend["b"] < 0 < trend["a"]


@pytest.mark.parametrize("hour", [1, 12, 23])
def test_what_comes_at_an_even_rate_has_no_trend_at_any_hour(tmp_path: Path, hour: int) -> None:
    until = NOW.replace(hour=hour)
    events = [
        stored("click", until - timedelta(hours=age, minutes=30), product_id="a", shopper=f"u{age}")
        for age in range(30 * 24 + hour)
    ]
    options = DeriveOptions(until=until)
    (row,) = derived(tmp_path, POPULARITY, events, options).to_dicts()
    assert row["trend"] == pytest.approx(0, abs=0.01)


def test_ranks_are_within_a_category_and_ties_are_broken_by_id(tmp_path: Path) -> None:
    events = [event for product in "ab" for event in clicked("u1", product)]
    events += search(
        "u2", NOW - timedelta(hours=2), "saw", ["c", "d", "e"], ("click", "c"), ("click", "d"), ("cart", "d")
    )
    products = catalog({"a": "Light", "b": "Light", "c": "Tools > Saws", "d": "Tools > Saws", "e": "Tools > Saws"})
    table = derived(tmp_path, POPULARITY, events, DeriveOptions(least_shoppers=1), products)
    assert table.select("category", "rank", "product_id").rows() == [
        ("Light", 1, "a"),
        ("Light", 2, "b"),
        ("Tools > Saws", 1, "d"),
        ("Tools > Saws", 2, "c"),
    ]


def test_a_product_of_too_few_shoppers_is_left_out_however_often_they_come(tmp_path: Path) -> None:
    events = [event for day in range(9) for event in clicked("u1", "a", day)]
    events += [event for number in range(5) for event in clicked(f"v{number}", "b")]
    assert derived(tmp_path, POPULARITY, events)["product_id"].to_list() == ["b"]


def test_what_was_popular_at_a_time_is_told_of_what_came_before_it_alone(tmp_path: Path) -> None:
    events = [event for number in range(6) for event in clicked(f"u{number}", "a", number)]
    events += [event for number in range(5) for event in clicked(f"v{number}", "b", number + 3)]
    table = derived(tmp_path, POPULARITY, events)
    opened = open_derived(tmp_path)
    now = opened.popularity_before(NOW)
    assert now.rows() == table.select("product_id", "score").sort("product_id").rows()
    assert now["product_id"].to_list() == ["a", "b"]
    # Three shoppers had chosen "a" by then.
    assert opened.popularity_before(NOW - timedelta(days=3))["product_id"].to_list() == ["b"]
    at = NOW - timedelta(days=1)
    earlier = [event for event in events if event.time < milliseconds(at)]
    options = DeriveOptions(until=at - timedelta(milliseconds=1))
    expected = derived(tmp_path / "earlier", POPULARITY, earlier, options).select("product_id", "score")
    assert opened.popularity_before(at).rows() == expected.sort("product_id").rows()


def test_what_a_session_does_behind_midnight_is_no_earlier_than_it_was(tmp_path: Path) -> None:
    night = NOW.replace(hour=0)
    events = []
    for shopper in "uvwxy":
        events += search(shopper, night - timedelta(minutes=1), "lamp", ["a"], ("click", "a"))
        events.append(stored("cart", night + timedelta(minutes=9), product_id="a", shopper=shopper))
    derived(tmp_path, POPULARITY, events)
    (row,) = open_derived(tmp_path).popularity_before(night + timedelta(minutes=5)).rows()
    assert row == ("a", pytest.approx(5 * 0.5 ** (1 / 14), abs=1e-5))


def test_a_session_without_a_shopper_is_somebody_of_its_own_by_its_session(tmp_path: Path) -> None:
    views = [
        stored("consultation", NOW - timedelta(hours=hour), product_id="a", session=session)
        for hour, session in ((1, "s1"), (5, "s1"), (9, "s2"))
    ]
    (row,) = derived(tmp_path, POPULARITY, views, DeriveOptions(least_shoppers=1)).to_dicts()
    assert (row["consultations"], row["shoppers"], row["score"]) == (3, 2, 3 * 0.5)


def test_what_a_session_did_before_it_named_its_shopper_is_that_shoppers(tmp_path: Path) -> None:
    anonymous = stored("consultation", NOW - timedelta(minutes=9), product_id="a", session="s1")
    named = stored("cart", NOW - timedelta(minutes=8), product_id="a", session="s1", shopper="u1")
    (row,) = derived(tmp_path, POPULARITY, [anonymous, named], DeriveOptions(least_shoppers=1)).to_dicts()
    assert row["shoppers"] == 1
