"""Calibration: known curves are found again, and where scores tell nothing the mean is told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from rerank.training.evaluation import fit_calibration

SCORES = np.random.default_rng(2).normal(3.0, 2.0, 2_000)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, -2.0), (2.5, -6.0)])
def test_a_curve_is_found_again(slope: float, intercept: float) -> None:
    found = fit_calibration(SCORES, expit(slope * SCORES + intercept))
    assert found == pytest.approx((slope, intercept), rel=0.01, abs=0.01)


def test_of_labels_it_is_as_sure_as_they_are() -> None:
    labels = (np.random.default_rng(3).random(2_000) < expit(1.5 * SCORES - 4)).astype(np.float64)
    slope, intercept = fit_calibration(SCORES, labels)
    assert (slope, intercept) == pytest.approx((1.5, -4), rel=0.15)
    assert expit(slope * SCORES + intercept).mean() == pytest.approx(labels.mean(), abs=0.01)


def test_labels_that_one_score_parts_give_a_steep_curve_and_a_finite_one() -> None:
    slope, intercept = fit_calibration(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert expit(slope * np.array([2.0, 2.5, 3.0]) + intercept) == pytest.approx([0, 0.5, 1], abs=0.01)


def test_where_higher_scores_fit_worse_the_mean_is_told() -> None:
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
def test_where_there_is_nothing_to_tell_apart_the_mean_is_told(
    scores: list[float], probabilities: list[float], mean: float
) -> None:
    found = fit_calibration(np.array(scores), np.array(probabilities))
    assert found == pytest.approx((0, logit(mean)))


def test_scores_far_from_zero_and_far_apart_are_no_harder() -> None:
    found = fit_calibration(1e6 + 1e3 * SCORES, expit(SCORES - 3))
    assert found[0] * 1e3 == pytest.approx(1, rel=0.03)
    assert found[0] * (1e6 + 3e3) + found[1] == pytest.approx(0, abs=0.05)
