"""Held-out evaluation of click models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rerank.click_models.base import FitOptions, PairPrior
from rerank.click_models.click_log import ClickLog, click_log
from rerank.click_models.evaluation import compare, evaluate, evaluate_later
from rerank.click_models.labels import LabelOptions
from rerank.click_models.models import BASELINES, PositionRate, ProductRate
from rerank.training.click_dataset import split_by_time
from tests.unit.rerank.training.clicked_shop import shop


def log_of(pairs: list[list[int]], clicks: list[list[int]]) -> ClickLog:
    return ClickLog(np.array(pairs, np.int32), np.array(clicks, np.bool_), 2)


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


def test_a_click_that_was_thought_impossible_costs_much_and_not_everything() -> None:
    assert evaluate(model_of(0.0, 0.5), log_of([[0, 1]], [[1, 0]])).log_likelihood < -20


def test_the_best_comes_first() -> None:
    train = log_of([[0, 1]] * 50 + [[1, 0]] * 50, [[1, 0]] * 100)
    table = compare(train, train, models={"ctr": ProductRate, "position": PositionRate})
    assert table["model"].to_list() == ["position", "ctr"]
    assert table["log_likelihood"].is_sorted(descending=True)
    assert table["position_perplexity"].list.len().to_list() == [2, 2]


OPTIONS = LabelOptions()


def test_where_shoppers_look_from_the_top_the_model_foretells_more_than_rates(tmp_path: Path) -> None:
    events = shop(tmp_path, queries=20).events(4_000)
    periods = split_by_time(events)
    told = {each.model: each for each in evaluate_later(periods.training, periods.validation, OPTIONS)}
    assert list(told) == ["ubm", "ctr", "position"]
    assert all(each.perplexity and each.perplexity > 1 for each in told.values())
    assert min(told, key=lambda name: told[name].perplexity or 9) == "ubm"
    assert max(told, key=lambda name: told[name].log_likelihood or -9) == "ubm"


def test_only_later_lists_are_foretold(tmp_path: Path) -> None:
    events = shop(tmp_path, queries=20).events(500)
    periods = split_by_time(events)
    told = {each.model: each for each in evaluate_later(periods.training, periods.validation, OPTIONS)}
    log, _ = click_log(events)
    cut, end = (click_log(part)[0].size for part in (periods.training, periods.validation))
    expected = evaluate(BASELINES["position"].fit(log.rows(slice(0, cut))), log.rows(slice(cut, cut + end)))
    assert told["position"].perplexity == pytest.approx(expected.perplexity)
    assert told["position"].log_likelihood == pytest.approx(expected.log_likelihood)


def test_what_nothing_was_shown_for_is_not_known(tmp_path: Path) -> None:
    events = shop(tmp_path, queries=20).events(500)
    periods = split_by_time(events)
    told = evaluate_later(periods.training, periods.validation.clear(), OPTIONS)
    assert {(each.perplexity, each.log_likelihood) for each in told} == {(None, None)}
    assert str(told[0]) == "ubm unknown"
