"""Log-likelihood and perplexity, by arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rerank.click_models.base import FitOptions, PairPrior
from rerank.click_models.click_log import ClickLog
from rerank.click_models.evaluation import compare, evaluate
from rerank.click_models.models import PositionRate, ProductRate


def log_of(pairs: list[list[int]], clicks: list[list[int]], weights: list[float] | None = None) -> ClickLog:
    weighed = None if weights is None else np.array(weights, np.float32)
    return ClickLog(np.array(pairs, np.int32), np.array(clicks, np.bool_), 2, weighed)


def model_of(*rates: float) -> ProductRate:
    """Every pair has a rate that is known for certain."""
    prior = PairPrior(np.array(rates), 1e12)
    return ProductRate.fit(log_of([[0, 1]], [[0, 0]]), FitOptions(prior=prior))


def test_by_arithmetic() -> None:
    made = evaluate(model_of(0.5, 0.25), log_of([[0, 1], [1, 0]], [[1, 0], [0, 0]]))
    assert made.log_likelihood == pytest.approx((math.log(0.5 * 0.75) + math.log(0.75 * 0.5)) / 2)
    first, second = 2 ** (-(math.log2(0.5) + math.log2(0.75)) / 2), 2 ** (-(math.log2(0.75) + math.log2(0.5)) / 2)
    assert made.position_perplexity == pytest.approx([first, second])
    assert made.perplexity == pytest.approx((first + second) / 2)


def test_places_where_nothing_was_shown_count_nowhere() -> None:
    made = evaluate(model_of(0.5, 0.25), log_of([[1, -1]], [[1, 0]]))
    assert made.log_likelihood == pytest.approx(math.log(0.25))
    assert made.position_perplexity[0] == pytest.approx(4)
    assert math.isnan(made.position_perplexity[1])
    assert made.perplexity == pytest.approx(4)


def test_weights() -> None:
    made = evaluate(model_of(0.5, 0.25), log_of([[0, 1], [1, 0]], [[1, 0], [1, 0]], [3, 1]))
    assert made.log_likelihood == pytest.approx((3 * math.log(0.5 * 0.75) + math.log(0.25 * 0.5)) / 4)


def test_a_click_that_was_thought_impossible_costs_much_and_not_everything() -> None:
    assert evaluate(model_of(0.0, 0.5), log_of([[0, 1]], [[1, 0]])).log_likelihood < -20


def test_the_best_comes_first() -> None:
    train = log_of([[0, 1]] * 50 + [[1, 0]] * 50, [[1, 0]] * 100)
    table = compare(train, train, models={"ctr": ProductRate, "position": PositionRate})
    assert table["model"].to_list() == ["position", "ctr"]
    assert table["log_likelihood"].is_sorted(descending=True)
    assert table["position_perplexity"].list.len().to_list() == [2, 2]
