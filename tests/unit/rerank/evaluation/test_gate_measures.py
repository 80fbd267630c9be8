"""nDCG@10 and MRR over padded candidates, and slices of queries, by hand and against the reference implementation."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest

from rerank.evaluation.metrics import ndcg, query_means, reciprocal_rank
from rerank.evaluation.promotion import language_slices, new_product_slice, traffic_slices

ALL = np.ones((1, 3), np.bool_)


def test_ndcg_by_hand() -> None:
    gains = np.array([[3.0, 0.0, 1.0]])
    scores = np.array([[0.1, 0.9, 0.5]])
    gained = 0.0 / np.log2(2) + 1.0 / np.log2(3) + 3.0 / np.log2(4)
    ideal = 3.0 / np.log2(2) + 1.0 / np.log2(3)
    assert ndcg(gains, scores, ALL)[0] == pytest.approx(gained / ideal)
    assert ndcg(gains, scores, ALL, depth=1)[0] == 0.0
    assert ndcg(gains, -gains * -1, ALL)[0] == 1.0


def test_reciprocal_rank_by_hand() -> None:
    gains = np.array([[1.0, 0.0, 3.0]])
    assert reciprocal_rank(gains, np.array([[0.1, 0.9, 0.5]]), ALL)[0] == 1 / 2
    assert reciprocal_rank(gains, np.array([[0.9, 0.1, 0.5]]), ALL)[0] == 1 / 1


def test_padding_gains_nothing_and_displaces_nothing() -> None:
    gains, scores = np.array([[9.0, 0.0, 1.0]]), np.array([[9.0, 0.9, 0.5]])
    known = np.array([[False, True, True]])
    assert ndcg(gains, scores, known)[0] == pytest.approx((1 / np.log2(3)) / 1)
    assert reciprocal_rank(gains, scores, known)[0] == 1 / 2


def test_a_query_without_anything_to_gain_has_no_measure() -> None:
    nothing, scores = np.zeros((1, 3)), np.array([[1.0, 2.0, 3.0]])
    assert np.isnan(ndcg(nothing, scores, ALL)).all()
    assert np.isnan(reciprocal_rank(nothing, scores, ALL)).all()
    assert np.isnan(reciprocal_rank(np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((2, 0), np.bool_))).all()


def test_equal_scores_stay_as_they_stand_and_scores_that_are_no_number_come_last() -> None:
    gains = np.array([[0.0, 1.0, 0.0]])
    assert reciprocal_rank(gains, np.zeros((1, 3)), ALL)[0] == 1 / 2
    assert reciprocal_rank(gains, np.array([[0.0, np.nan, -5.0]]), ALL)[0] == 1 / 3


def test_both_as_the_reference_has_them() -> None:
    random = np.random.default_rng(2)
    grades = random.integers(0, 4, (20, 30))
    scores = random.permuted(np.tile(np.arange(30.0), (20, 1)), axis=1)
    known = np.ones(grades.shape, np.bool_)
    qrels = {f"q{q}": {f"p{c}": int(grades[q, c]) for c in range(30)} for q in range(20)}
    run = {f"q{q}": {f"p{c}": float(scores[q, c]) for c in range(30)} for q in range(20)}
    measured = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.RR], qrels, run)
    assert ndcg(grades.astype(float), scores, known).mean() == pytest.approx(measured[ir_measures.nDCG @ 10])
    assert reciprocal_rank(grades.astype(float), scores, known).mean() == pytest.approx(measured[ir_measures.RR])


def test_query_means_are_weighted_by_session() -> None:
    values, queries, weights = np.array([1.0, 4.0, 5.0]), np.array([0, 0, 2]), np.array([1.0, 2.0, 3.0])
    means, total = query_means(values, queries, 3, weights)
    assert means[0] == (1 * 1.0 + 2 * 4.0) / 3
    assert np.isnan(means[1])
    assert means[2] == 5.0
    assert total.tolist() == [3.0, 0.0, 3.0]


class TestSlices:
    def test_head_torso_and_tail_each_have_a_third_of_the_traffic(self) -> None:
        traffic = np.array([1.0] * 30 + [10.0] * 3 + [30.0])
        head, torso, tail = traffic_slices(traffic)
        assert [part.name for part in (head, torso, tail)] == ["head queries", "torso queries", "tail queries"]
        assert traffic[head.rows].tolist() == [30.0]
        assert traffic[torso.rows].tolist() == [10.0] * 3
        assert traffic[tail.rows].tolist() == [1.0] * 30

    @pytest.mark.parametrize("traffic", [[], [5.0], [2.0, 2.0, 2.0], [0.0, 0.0], [9.0, 1.0]])
    def test_every_query_is_in_one_of_them(self, traffic: list[float]) -> None:
        parts = traffic_slices(np.array(traffic))
        assert np.sum([part.rows for part in parts], axis=0).tolist() == [1] * len(traffic)

    def test_queries_that_a_new_product_answers(self) -> None:
        gains = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        is_new = np.array([[True, False], [True, False], [True, True]])
        assert new_product_slice(gains, is_new).rows.tolist() == [True, False, False]

    def test_one_slice_a_language_where_there_are_several(self) -> None:
        found = language_slices(["zh", "en", "", "en"])
        assert [(part.name, part.rows.tolist()) for part in found] == [
            ("language en", [False, True, False, True]),
            ("language zh", [True, False, False, False]),
        ]
        assert language_slices(["en", "en"]) == language_slices([]) == ()
