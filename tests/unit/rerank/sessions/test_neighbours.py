"""Neighbours of products: cosines over shoppers against a plain count, thresholds, ranks."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.sessions.options import DeriveOptions
from rerank.sessions.product_tables import NEIGHBOURS
from rerank.sessions.tables import open_derived
from retrieval.events.stored import StoredEvent, milliseconds
from tests.unit.rerank.sessions.derived_log import NOW, derived, stored


def view(shopper: str, product: str, days_ago: int = 0) -> StoredEvent:
    at = NOW - timedelta(days=days_ago, hours=1)
    return stored("consultation", at, product_id=product, shopper=shopper)


histories = st.lists(
    st.tuples(st.sampled_from("stuvw"), st.sampled_from("abcd"), st.sampled_from([0, 7, 14])), max_size=25
)


@given(histories, st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_similarities_are_those_of_a_plain_count(history: list[tuple[str, str, int]], least: int) -> None:
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for shopper, product, days_ago in history:
        value = 0.5 ** (days_ago / 14)
        values[product][shopper] = max(value, values[product].get(shopper, 0.0))
    expected = {}
    for (one, ones), (other, others) in itertools.permutations(values.items(), 2):
        common = ones.keys() & others.keys()
        if len(common) >= least:
            dot = sum(ones[shopper] * others[shopper] for shopper in common)
            norms = math.hypot(*ones.values()) * math.hypot(*others.values())
            expected[one, other] = dot / norms * len(common) / (len(common) + 10)
    with TemporaryDirectory() as folder:
        table = derived(
            Path(folder), NEIGHBOURS, [view(*each) for each in history], DeriveOptions(least_shoppers=least)
        )
    found = {(row["product_id"], row["neighbour_id"]): row["similarity"] for row in table.to_dicts()}
    assert found == pytest.approx(expected, rel=1e-4)


def test_pairs_of_too_few_shoppers_are_left_out_and_ranks_count_from_1(tmp_path: Path) -> None:
    events = [view(f"u{number}", product) for number in range(5) for product in "abc"]
    events += [view(f"v{number}", "b") for number in range(3)] + [view("u0", "d")]
    table = derived(tmp_path, NEIGHBOURS, events)
    assert table.select("product_id", "neighbour_id", "shoppers", "rank").rows() == [
        ("a", "c", 5, 1),
        ("a", "b", 5, 2),
        ("b", "a", 5, 1),
        ("b", "c", 5, 2),
        ("c", "a", 5, 1),
        ("c", "b", 5, 2),
    ]


def test_purchases_are_a_kind_of_their_own(tmp_path: Path) -> None:
    events = [
        stored("purchase", NOW - timedelta(hours=1), product_id=product, shopper=f"u{number}", quantity=1)
        for number in range(5)
        for product in "ab"
    ]
    table = derived(tmp_path, NEIGHBOURS, events)
    assert table.select("kind", "product_id", "neighbour_id").rows() == [("purchase", "a", "b"), ("purchase", "b", "a")]
    assert table["similarity"].to_list() == pytest.approx([5 / (5 + 10)] * 2)


def test_no_more_neighbours_are_kept_than_asked_for(tmp_path: Path) -> None:
    events = [view(f"u{number}", product) for number in range(5) for product in "abcdef"]
    table = derived(tmp_path, NEIGHBOURS, events, DeriveOptions(neighbours=2))
    assert table.filter(product_id="a")["neighbour_id"].to_list() == ["b", "c"]
    assert table.height == 6 * 2


def test_neighbours_at_a_time_are_told_of_what_came_before_it_alone(tmp_path: Path) -> None:
    events = [view(f"u{number}", product, number) for number in range(8) for product in "ab"]
    events += [view(f"v{number}", product) for number in range(5) for product in "ac"]
    table = derived(tmp_path, NEIGHBOURS, events)
    opened = open_derived(tmp_path)
    assert opened.neighbours_before(NOW).rows() == table.rows()
    at = NOW - timedelta(days=2)
    earlier = [event for event in events if event.time < milliseconds(at)]
    expected = derived(tmp_path / "earlier", NEIGHBOURS, earlier, DeriveOptions(until=at - timedelta(milliseconds=1)))
    assert opened.neighbours_before(at).rows() == expected.rows()
    assert set(expected["neighbour_id"]) == {"a", "b"}
