"""The click likelihood of rankers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from shelfwise.rerank.click_models.click_log import ClickLog
from shelfwise.rerank.click_models.evaluation import ClickLikelihood
from tests.unit.rerank.click_models.simulated_logs import DEPTH, simulated, small_store


def log(pairs: list[list[int]], clicks: list[list[int]]) -> ClickLog:
    return ClickLog(np.array(pairs, np.int32), np.array(clicks, np.bool_), 10)


def test_formula_matches_manual_calculation() -> None:
    made = ClickLikelihood(np.array([1.0, 0.5]), np.array([0.2, 0.1]))
    session = log([[0, 1], [2, -1]], [[1, 0], [0, 0]])
    scores = np.array([[0.3, -0.4], [1.0, 99.0]])
    slope, intercept = 2.0, -1.0
    first = 0.9 * 1.0 * expit(2.0 * 0.3 - 1.0) + 0.1 * 0.2
    second = 0.9 * 0.5 * expit(2.0 * -0.4 - 1.0) + 0.1 * 0.1
    alone = 0.9 * 1.0 * expit(2.0 * 1.0 - 1.0) + 0.1 * 0.2
    found = made.of(session, scores, (slope, intercept))
    assert found == pytest.approx([np.log(first) + np.log(1 - second), np.log(1 - alone)])


def test_true_relevance_predicts_better_than_noise_and_logged_order() -> None:
    simulation = simulated("pbm")
    cut = simulation.log.size * 4 // 5
    earlier, later = (simulation.log.rows(part) for part in (slice(0, cut), slice(cut, None)))
    made = ClickLikelihood.fit(earlier)
    truth = small_store().attractiveness
    drawn = np.random.default_rng(1).normal(size=len(truth))

    def mean(of_pairs: np.ndarray) -> float:
        scores = [of_pairs[np.maximum(each.pairs, 0)] for each in (earlier, later)]
        return float(made.of(later, scores[1], made.calibration(earlier, scores[0])).mean())

    assert mean(np.log(truth / (1 - truth))) > mean(drawn) + 0.02


def test_reversed_ranker_is_not_inverted_by_calibration() -> None:
    simulation = simulated("pbm")
    made = ClickLikelihood.fit(simulation.log)
    worst = -small_store().attractiveness[np.maximum(simulation.log.pairs, 0)]
    assert made.calibration(simulation.log, worst)[0] == 0.0


@pytest.mark.parametrize("clicks", [0, 1])
def test_constant_labels_and_scores_give_finite_results(clicks: int) -> None:
    session = log([[0, 1]] * 5, [[clicks, clicks]] * 5)
    made = ClickLikelihood.fit(session)
    for scores in (np.zeros((5, 2)), np.tile([1.0, -1.0], (5, 1))):
        found = made.calibration(session, scores)
        assert np.isfinite(found).all()
        assert np.isfinite(made.of(session, scores, found)).all()


def test_empty_log_gives_nothing() -> None:
    nothing = ClickLog(np.empty((0, DEPTH), np.int32), np.empty((0, DEPTH), np.bool_), 0)
    made = ClickLikelihood.fit(nothing)
    scores = np.empty((0, DEPTH))
    assert made.calibration(nothing, scores) == (0.0, 0.0)
    assert made.of(nothing, scores, (0.0, 0.0)).shape == (0,)
