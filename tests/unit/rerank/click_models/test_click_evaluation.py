"""Held-out evaluation of click models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from shelfwise.rerank.click_models.base import FitOptions, PairPrior
from shelfwise.rerank.click_models.click_log import ClickLog, held_out
from shelfwise.rerank.click_models.evaluation import ClickLikelihood, compare, evaluate, evaluate_later
from shelfwise.rerank.click_models.labels import LabelOptions
from shelfwise.rerank.click_models.models import PositionRate, ProductRate
from shelfwise.rerank.training.click_dataset import split_by_time
from tests.unit.rerank.click_models.simulated_logs import DEPTH, simulated, small_store
from tests.unit.rerank.training.clicked_shop import shop


def log_of(pairs: list[list[int]], clicks: list[list[int]]) -> ClickLog:
    return ClickLog(np.array(pairs, np.int32), np.array(clicks, np.bool_), 2)


def model_of(*rates: float) -> ProductRate:
    """A click model with known, certain rates of all pairs."""
    prior = PairPrior(np.array(rates), 1e12)
    return ProductRate.fit(log_of([[0, 1]], [[0, 0]]), FitOptions(prior=prior))


def test_likelihood_and_perplexity_by_arithmetic() -> None:
    made = evaluate(model_of(0.5, 0.25), log_of([[0, 1], [1, 0]], [[1, 0], [0, 0]]))
    assert made.log_likelihood == pytest.approx((math.log(0.5 * 0.75) + math.log(0.75 * 0.5)) / 2)
    first, second = 2 ** (-(math.log2(0.5) + math.log2(0.75)) / 2), 2 ** (-(math.log2(0.75) + math.log2(0.5)) / 2)
    assert made.position_perplexity == pytest.approx([first, second])
    assert made.perplexity == pytest.approx((first + second) / 2)


def test_best_model_comes_first() -> None:
    train = log_of([[0, 1]] * 50 + [[1, 0]] * 50, [[1, 0]] * 100)
    table = compare(train, train, models={"ctr": ProductRate, "position": PositionRate})
    assert table["model"].to_list() == ["position", "ctr"]
    assert table["log_likelihood"].is_sorted(descending=True)
    assert table["position_perplexity"].list.len().to_list() == [2, 2]


OPTIONS = LabelOptions()


def test_click_model_predicts_better_than_rates_under_position_bias(tmp_path: Path) -> None:
    events = shop(tmp_path, queries=20).events(4_000)
    periods = split_by_time(events)
    result = {each.model: each for each in evaluate_later(periods.training, periods.validation, OPTIONS)}
    assert list(result) == ["ubm", "ctr", "position"]
    assert all(each.perplexity and each.perplexity > 1 for each in result.values())
    assert min(result, key=lambda name: result[name].perplexity or 9) == "ubm"
    assert max(result, key=lambda name: result[name].log_likelihood or -9) == "ubm"


def test_unshown_pairs_are_unknown(tmp_path: Path) -> None:
    events = shop(tmp_path, queries=20).events(500)
    periods = split_by_time(events)
    result = evaluate_later(periods.training, periods.validation.clear(), OPTIONS)
    assert {(each.perplexity, each.log_likelihood) for each in result} == {(None, None)}
    assert str(result[0]) == "ubm unknown"


def log(pairs: list[list[int]], clicks: list[list[int]]) -> ClickLog:
    return ClickLog(np.array(pairs, np.int32), np.array(clicks, np.bool_), 10)


def test_formula_matches_manual_calculation() -> None:
    made = ClickLikelihood(np.array([1.0, 0.5]), np.array([0.2, 0.1]), interpolation=0.1)
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
