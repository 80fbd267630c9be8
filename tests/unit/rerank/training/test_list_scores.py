"""Evaluation: nDCG@10 by its formula, and a network's scores in the order of its candidates."""

from __future__ import annotations

import dataclasses
from math import log2
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import Qrel, ScoredDoc
from scipy.special import expit, logit

from shelfwise.rerank.ranker.network import RankerNetwork
from shelfwise.rerank.training.datasets import full_batches
from shelfwise.rerank.training.list_scores import fit_calibration, ndcg, scores_of
from tests.unit.rerank.training.teacher_lists import SHAPE, teacher_data


def of(scores: list[float], gains: list[float]) -> float:
    found = ndcg(np.array(scores), np.array(gains, np.float32), np.array([0, len(gains)]))
    return float(found[0])


def test_equal_scores_keep_their_order() -> None:
    assert of([0, 0, 0], [0, 0, 1]) == pytest.approx(1 / log2(4))


def test_lists_without_gains_or_candidates_have_no_measure() -> None:
    found = ndcg(np.array([1.0, 2.0, 5.0]), np.array([0, 0, 2], np.float32), np.array([0, 2, 2, 3]))
    assert found.tolist() == [0, 0, 1]


scored = st.tuples(st.integers(-1_000, 1_000), st.integers(0, 4))


@given(st.lists(scored, min_size=1, max_size=15, unique_by=lambda pair: pair[0]))
def test_measure_equals_the_reference_implementation(pairs: list[tuple[int, int]]) -> None:
    scores, gains = [float(score) for score, _ in pairs], [gain for _, gain in pairs]
    judged = [Qrel("q", str(place), gain) for place, gain in enumerate(gains)]
    run = [ScoredDoc("q", str(place), score) for place, score in enumerate(scores)]
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, run)[ir_measures.nDCG @ 10]
    assert of(scores, list(map(float, gains))) == pytest.approx(expected, abs=1e-6)


def test_scores_are_weighted_events_in_candidate_order(tmp_path: Path) -> None:
    data = teacher_data(tmp_path, [3, 9, 1, 0, 4])
    torch.manual_seed(2)
    network, numbers = RankerNetwork(SHAPE), np.array([1, 2, 4])
    network.train()
    found = scores_of(network, full_batches(data, numbers, lists=2), (0.5, 2.0, -1.0))
    assert not network.training
    alone = []
    for number in numbers.tolist():
        with torch.inference_mode():
            (scores,) = network(*data.batch([number], 0.0, 0).inputs).numpy()
        alone.append(scores @ np.array([0.5, 2.0, -1.0], np.float32))
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-4, atol=1e-5)
    clicks = scores_of(network, full_batches(data, numbers))
    np.testing.assert_allclose(clicks, scores_of(network, full_batches(data, numbers), (1.0, 0.0, 0.0)))
    assert not np.allclose(clicks, scores_of(network, full_batches(data, numbers), (0.0, 1.0, 0.0)))
    assert scores_of(network, full_batches(dataclasses.replace(data), np.empty(0, np.int64))).shape == (0,)


SCORES = np.random.default_rng(2).normal(3.0, 2.0, 2_000)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, -2.0), (2.5, -6.0)])
def test_calibration_curve_is_recovered(slope: float, intercept: float) -> None:
    found = fit_calibration(SCORES, expit(slope * SCORES + intercept))
    assert found == pytest.approx((slope, intercept), rel=0.01, abs=0.01)


def test_separable_labels_give_a_steep_finite_curve() -> None:
    slope, intercept = fit_calibration(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert expit(slope * np.array([2.0, 2.5, 3.0]) + intercept) == pytest.approx([0, 0.5, 1], abs=0.01)


def test_decreasing_labels_give_the_mean() -> None:
    probabilities = expit(-SCORES)
    slope, intercept = fit_calibration(SCORES, probabilities)
    assert slope == 0
    assert expit(intercept) == pytest.approx(probabilities.mean())


@pytest.mark.parametrize(
    ("scores", "probabilities", "mean"),
    [
        ([], [], 0.5),
        ([3.0], [0.9], 0.9),
        ([2.0, 2.0, 2.0], [0.1, 0.2, 0.6], 0.3),
        ([1.0, 2.0, 3.0], [0.4, 0.4, 0.4], 0.4),
        ([1.0, 2.0], [1.0, 1.0], 1 - 1e-4),
        ([1.0, 2.0], [0.0, 0.0], 1e-4),
    ],
    ids=["none", "one", "one score", "one probability", "all fit", "none fits"],
)
def test_constant_labels_give_the_mean(scores: list[float], probabilities: list[float], mean: float) -> None:
    found = fit_calibration(np.array(scores), np.array(probabilities))
    assert found == pytest.approx((0, logit(mean)))
