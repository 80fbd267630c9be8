"""How well a click model foretells later clicks, beside plain rates."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank.click_models.click_log import click_log
from rerank.click_models.evaluation import evaluate, evaluate_later
from rerank.click_models.labels import LabelOptions
from rerank.click_models.models import BASELINES
from rerank.training.click_dataset import split_by_time
from tests.unit.rerank.training.clicked_shop import shop

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
