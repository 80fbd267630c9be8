"""Interpolated click likelihood: the formula by hand, its calibration, and that truth foretells clicks best."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from rerank.click_models.click_log import ClickLog, held_out
from rerank.click_models.evaluation import ClickLikelihood
from retrieval.errors import InputError
from tests.unit.rerank.click_models.simulated_logs import DEPTH, simulated, small_store


def log(pairs: list[list[int]], clicks: list[list[int]]) -> ClickLog:
    return ClickLog(np.array(pairs, np.int32), np.array(clicks, np.bool_), 10)


def test_the_formula_by_hand() -> None:
    made = ClickLikelihood(np.array([1.0, 0.5]), np.array([0.2, 0.1]), interpolation=0.1)
    session = log([[0, 1], [2, -1]], [[1, 0], [0, 0]])
    scores = np.array([[0.3, -0.4], [1.0, 99.0]])
    slope, intercept = 2.0, -1.0
    first = 0.9 * 1.0 * expit(2.0 * 0.3 - 1.0) + 0.1 * 0.2
    second = 0.9 * 0.5 * expit(2.0 * -0.4 - 1.0) + 0.1 * 0.1
    alone = 0.9 * 1.0 * expit(2.0 * 1.0 - 1.0) + 0.1 * 0.2
    found = made.of(session, scores, (slope, intercept))
    assert found == pytest.approx([np.log(first) + np.log(1 - second), np.log(1 - alone)])


def test_one_confident_mistake_is_bounded_by_the_interpolation() -> None:
    made = ClickLikelihood(np.ones(1), np.array([0.2]), interpolation=0.1)
    wrong = made.of(log([[0]], [[1]]), np.array([[-1e6]]), (1.0, 0.0))
    assert wrong[0] == pytest.approx(np.log(0.1 * 0.2))


def test_a_click_where_none_was_ever_seen_is_still_finite() -> None:
    made = ClickLikelihood(np.zeros(1), np.zeros(1))
    assert made.of(log([[0]], [[1]]), np.zeros((1, 1)), (1.0, 0.0))[0] == pytest.approx(np.log(1e-10))


def test_truth_foretells_later_clicks_better_than_noise_and_than_the_logged_order() -> None:
    simulation = simulated("pbm")
    earlier, later = held_out(simulation.log)
    made = ClickLikelihood.fit(earlier)
    truth = small_store().attractiveness
    drawn = np.random.default_rng(1).normal(size=len(truth))

    def mean(of_pairs: np.ndarray) -> float:
        scores = [of_pairs[np.maximum(each.pairs, 0)] for each in (earlier, later)]
        return float(made.of(later, scores[1], made.calibration(earlier, scores[0])).mean())

    logged = ClickLikelihood(made.examination, made.rates, interpolation=1.0)
    order = float(logged.of(later, np.zeros(later.pairs.shape), (0.0, 0.0)).mean())
    assert mean(np.log(truth / (1 - truth))) > mean(drawn) + 0.02
    assert mean(np.log(truth / (1 - truth))) > order + 0.02


def test_the_calibration_finds_the_attractiveness_again() -> None:
    simulation = simulated("pbm")
    made = ClickLikelihood.fit(simulation.log)
    truth = np.clip(small_store().attractiveness, 1e-6, 1 - 1e-6)
    logits = np.log(truth / (1 - truth))[np.maximum(simulation.log.pairs, 0)]
    slope, _ = made.calibration(simulation.log, logits * 5 + 3)
    assert slope == pytest.approx(1 / 5, rel=0.15)


def test_a_ranker_that_puts_the_worst_first_is_not_turned_round() -> None:
    simulation = simulated("pbm")
    made = ClickLikelihood.fit(simulation.log)
    worst = -small_store().attractiveness[np.maximum(simulation.log.pairs, 0)]
    assert made.calibration(simulation.log, worst)[0] == 0.0


@pytest.mark.parametrize("clicks", [0, 1])
def test_labels_of_one_class_and_scores_that_are_all_equal_are_finite(clicks: int) -> None:
    session = log([[0, 1]] * 5, [[clicks, clicks]] * 5)
    made = ClickLikelihood.fit(session)
    for scores in (np.zeros((5, 2)), np.tile([1.0, -1.0], (5, 1))):
        found = made.calibration(session, scores)
        assert np.isfinite(found).all()
        assert np.isfinite(made.of(session, scores, found)).all()


def test_an_empty_log() -> None:
    nothing = ClickLog(np.empty((0, DEPTH), np.int32), np.empty((0, DEPTH), np.bool_), 0)
    made = ClickLikelihood.fit(nothing)
    scores = np.empty((0, DEPTH))
    assert made.calibration(nothing, scores) == (0.0, 0.0)
    assert made.of(nothing, scores, (0.0, 0.0)).shape == (0,)


def test_what_does_not_fit_is_refused() -> None:
    made = ClickLikelihood(np.ones(1), np.zeros(1))
    with pytest.raises(InputError, match="one score a place"):
        made.of(log([[0]], [[0]]), np.zeros((1, 2)), (1.0, 0.0))
    with pytest.raises(InputError, match="the log has 2 positions, examination was fitted to 1"):
        made.of(log([[0, 1]], [[0, 0]]), np.zeros((1, 2)), (1.0, 0.0))
