"""Hard negatives."""

from __future__ import annotations

import numpy as np

from shelfwise.rerank.text_towers.negatives import NegativeOptions, build_pools, draw_negatives, nearest, window
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


def test_nearest_equals_a_full_sort() -> None:
    rng = np.random.default_rng(2)
    queries, products = (rng.standard_normal((n, 8)).astype(np.float32) for n in (300, 50))
    rows = np.sort(rng.choice(1_000, 50, replace=False))
    expected = rows[np.argsort(-(queries @ products.T), axis=1, kind="stable")[:, :12]]
    assert np.array_equal(np.stack(nearest(queries, products, rows, 12)), expected)
    assert len(nearest(queries, products, rows, 500)[0]) == 50
