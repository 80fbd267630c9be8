"""Hard negatives and near misses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from shelfwise.rerank.text_towers.dataset import Rows
from shelfwise.rerank.text_towers.negatives import (
    NegativeOptions,
    build_pools,
    draw_negatives,
    is_near_miss,
    nearest,
    traits_of,
    window,
)
from shelfwise.retrieval.records import Product
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, random_retrieval, shop


def test_a_window_counts_ranks_from_1_and_takes_the_lower_half_of_a_short_list() -> None:
    ranked = np.arange(600)
    assert window(ranked, 101, 500).tolist() == list(range(100, 500))
    assert window(ranked[:40], 101, 500).tolist() == list(range(20, 40))
    assert window(ranked[:0], 101, 500).tolist() == []


def test_negatives_are_no_positives_and_mostly_retrieved() -> None:
    made, found = shop(), random_retrieval()
    training = made.training.tolist()
    rankings = [[window(ranking[n], 20, 60) for n in training] for ranking in (found.words, found.vectors)]
    mined = build_pools(made, rankings)
    pairs = np.flatnonzero(made.is_positive & np.isin(made.query_of, made.training))
    negatives = draw_negatives(made, pairs, mined, NegativeOptions(3), len(PRODUCTS), np.random.default_rng(4))
    assert negatives.shape == (len(pairs), 3)
    positives = set(zip(made.query_of[made.is_positive].tolist(), made.rows[made.is_positive].tolist(), strict=True))
    known = set(zip(made.query_of.tolist(), made.rows.tolist(), strict=True)) - positives
    judged = 0
    for query, rows in zip(made.query_of[pairs].tolist(), negatives.tolist(), strict=True):
        for row in rows:
            assert (query, row) not in positives
            judged += (query, row) in known
            near = {*rankings[0][query].tolist(), *rankings[1][query].tolist()}
            assert row in near or (query, row) in known
    assert judged > len(pairs) / 3
    again = draw_negatives(made, pairs, mined, NegativeOptions(3), len(PRODUCTS), np.random.default_rng(4))
    assert (negatives == again).all()


def test_random_negatives_replace_missing_retrieved_ones() -> None:
    made = shop()
    empty = [[np.empty(0, np.int64)] * len(made.training)]
    pairs = np.flatnonzero(made.is_positive & np.isin(made.query_of, made.training))[:20]
    pools, rng = build_pools(made, empty), np.random.default_rng(4)
    negatives = draw_negatives(made, pairs, pools, NegativeOptions(4), len(PRODUCTS), rng)
    assert negatives.shape == (20, 4)
    keys = made.query_of[made.is_positive] * len(PRODUCTS) + made.rows[made.is_positive]
    assert not np.isin(made.query_of[pairs][:, None] * len(PRODUCTS) + negatives, keys).any()


class TestNearMisses:
    def drawn(self, share: float, near: Mapping[int, Rows], count: int = 2) -> tuple[Rows, Rows]:
        made, found = shop(), random_retrieval()
        rankings = [[window(found.words[number], 20, 60) for number in made.training.tolist()]]
        options = NegativeOptions(count, near_misses=share)
        rng = np.random.default_rng(4)
        pools = build_pools(made, rankings, near)
        negatives = draw_negatives(made, made.training_pairs, pools, options, len(PRODUCTS), rng)
        return made.training_pairs, negatives

    def test_near_miss_is_the_first_negative_at_the_given_rate(self) -> None:
        # The first half of the products have two near misses each, the second half none.
        near = {row: np.array([row + 60, row + 59]) for row in range(1, 60)}
        for share in (1.0, 0.3):
            pairs, negatives = self.drawn(share, near)
            rows = shop().rows[pairs]
            is_one = [first in near.get(row, ()) for row, first in zip(rows.tolist(), negatives[:, 0], strict=True)]
            having = np.isin(rows, list(near))
            assert np.mean(np.array(is_one)[having]) == pytest.approx(share, abs=0.2 * (1 - share))
            assert negatives.shape == (len(pairs), 2)
        assert 0.1 < having.mean() < 0.9

    def test_other_positives_are_not_negatives(self) -> None:
        # Both sizes of a colour answer a query: each is the only near miss of the other.
        _, without = self.drawn(0.0, {})
        _, negatives = self.drawn(1.0, {row: np.array([row ^ 1]) for row in range(len(PRODUCTS))})
        assert np.array_equal(negatives, without)


def test_nearest_equals_a_full_sort() -> None:
    rng = np.random.default_rng(2)
    queries, products = (rng.standard_normal((n, 8)).astype(np.float32) for n in (300, 50))
    rows = np.sort(rng.choice(1_000, 50, replace=False))
    expected = rows[np.argsort(-(queries @ products.T), axis=1, kind="stable")[:, :12]]
    assert np.array_equal(np.stack(nearest(queries, products, rows, 12)), expected)
    assert len(nearest(queries, products, rows, 500)[0]) == 50


def can_be_near_miss(one: Product, other: Product) -> bool:
    found = is_near_miss(traits_of(one), traits_of(other))
    assert found == is_near_miss(traits_of(other), traits_of(one))
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Stud 2 in. x 4 in. x 8 ft.", "Stud 2 in. x 4 in. x 10 ft."),
        ("Stud 2 in. x 4 in. x 8 ft.", "Stud 2 in. x 6 in. x 8 ft."),
        ("Rug 8 x 8 ft", "Rug 8 x 10 ft"),
        ("Drill 18V with charger", "Drill, 12-volt"),
        ("Lamp (2-pack)", "Lamp, pack of LED, 4 packs"),
        ("Phone 64GB black", "Phone 128 GB black"),
        ("不锈钢锅 20厘米", "不锈钢锅 24 cm"),
        ('Pan 12" steel', "Pan 1/2 in. steel"),
    ],
)
def test_near_miss_of_another_size(one: str, other: str) -> None:
    assert can_be_near_miss(Product("a", one), Product("b", other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # The same values, spelled differently.
        ("Stud 1/2 in. x 8 ft.", "Stud 0.5 inch x 8 feet"),
        ("Drill 18V, battery 18V", "Drill 18 volts"),
        # One title has more values than the other.
        ("Stud 2 in. x 4 in. x 8 ft.", "Stud 8 ft."),
        ("Stud 2 x 4 x 8 ft.", "Stud 2 in. x 4 in. x 8 ft."),
        ("Drill 18V", "Drill 2.0 Ah"),
        ("Drill 18V", "Drill"),
        # No units: a model, a year, a fraction.
        ("Drill 2024", "Drill 2025"),
        ("Drill DCD771C2", "Drill DCD796D2"),
        ("Oil 3-in-1", "Oil 2-in-1"),
    ],
)
def test_product_of_the_same_size_is_no_near_miss(one: str, other: str) -> None:
    assert not can_be_near_miss(Product("a", one), Product("b", other))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("Tools", "Drills"), ("Tools", "Saws"), True),
        (("Tools", "Drills"), ("Garden", "DRILLS"), False),
        (("Tools", "Drills"), ("Tools",), False),
        (("Tools", "Drills"), ("Tools", "Drills", "Cordless"), False),
        (("Tools", "Drills"), (), False),
        ((), (), False),
    ],
)
def test_near_miss_of_another_type(one: tuple[str, ...], other: tuple[str, ...], expected: bool) -> None:
    assert can_be_near_miss(Product("a", "red", category=one), Product("b", "blue", category=other)) == expected


def test_equal_titles_count_as_one_product() -> None:
    assert not can_be_near_miss(
        Product("a", "Drill 18V", category=("Drills",)), Product("b", "DRILL  18V", category=("Drills",))
    )
    assert not can_be_near_miss(Product("a", "Drill", category=("Drills",)), Product("b", "DRILL", category=("Saws",)))
