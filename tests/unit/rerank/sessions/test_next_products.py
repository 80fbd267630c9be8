"""Next products: views one after another, purchases basket after basket."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rerank.sessions.options import DeriveOptions
from rerank.sessions.product_tables import NEXT_PRODUCTS
from retrieval.events.stored import StoredEvent
from tests.unit.rerank.sessions.derived_log import NOW, derived, stored

START = NOW - timedelta(days=100)
ANY = DeriveOptions(least_shoppers=1)


def seen(shopper: str, product: str, minutes: float, kind: str = "consultation") -> StoredEvent:
    return stored(kind, START + timedelta(minutes=minutes), product_id=product, shopper=shopper)


def bought(shopper: str, product: str, days: float) -> StoredEvent:
    return stored("purchase", START + timedelta(days=days), product_id=product, shopper=shopper, quantity=1)


def test_a_pair_weighs_half_after_an_hour_and_its_probability_is_a_share_of_all(tmp_path: Path) -> None:
    events = [seen("u1", "a", 0), seen("u1", "b", 60), seen("u2", "a", 0), seen("u2", "c", 120)]
    table = derived(tmp_path, NEXT_PRODUCTS, events, ANY)
    assert table.select("kind", "product_id", "next_id", "count", "shoppers", "rank").rows() == [
        ("view", "a", "b", 1, 1, 1),
        ("view", "a", "c", 1, 1, 2),
    ]
    assert table["weight"].to_list() == pytest.approx([0.5, 0.25], abs=1e-6)
    assert table["probability"].to_list() == pytest.approx([0.5 / 0.75, 0.25 / 0.75], abs=1e-6)


def test_a_click_and_the_page_view_after_it_are_one_look_and_sessions_follow_each_other(tmp_path: Path) -> None:
    click = stored("click", START, product_id="a", shopper="u1")
    events = [click, seen("u1", "a", 0.1), seen("u1", "b", 60 * 24 * 3), seen("u2", "b", 60 * 24 * 3 + 1)]
    table = derived(tmp_path, NEXT_PRODUCTS, events, ANY)
    assert table.select("product_id", "next_id", "count").rows() == [("a", "b", 1)]


def test_baskets_follow_baskets_and_what_is_bought_again_is_no_pair(tmp_path: Path) -> None:
    events = [bought("u1", "a", 0), bought("u1", "b", 0.001), bought("u1", "b", 30), bought("u1", "c", 30)]
    events += [bought("u1", "d", 60)]
    table = derived(tmp_path, NEXT_PRODUCTS, events, ANY).filter(kind="purchase")
    assert table.sort("product_id", "next_id").select("product_id", "next_id").rows() == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
        ("b", "d"),
        ("c", "d"),
    ]
    assert table.filter(product_id="c")["weight"].to_list() == pytest.approx([0.5], abs=1e-6)


def test_rare_pairs_are_left_out_but_count_among_all(tmp_path: Path) -> None:
    events = [each for number in range(5) for each in (seen(f"u{number}", "a", 0), seen(f"u{number}", "b", 0.0))]
    events += [seen("v", "a", 0), seen("v", "c", 60)]
    table = derived(tmp_path, NEXT_PRODUCTS, events)
    assert table.select("product_id", "next_id", "shoppers").rows() == [("a", "b", 5)]
    assert table["probability"].to_list() == pytest.approx([5 / (5 + 0.5)], abs=1e-6)


def test_no_more_are_kept_than_asked_for(tmp_path: Path) -> None:
    events = [each for next_id in "bcd" for each in (seen(f"u{next_id}", "a", 0), seen(f"u{next_id}", next_id, 1))]
    table = derived(tmp_path, NEXT_PRODUCTS, events, DeriveOptions(least_shoppers=1, neighbours=2))
    assert table.select("next_id", "rank").rows() == [("b", 1), ("c", 2)]
