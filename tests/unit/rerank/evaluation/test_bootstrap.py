"""The paired bootstrap: its interval against the normal theory, its weights, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from rerank.evaluation.statistics import Difference, paired_bootstrap
from retrieval.errors import InputError


def test_the_interval_is_that_of_the_mean_of_the_differences() -> None:
    random = np.random.default_rng(3)
    served = random.uniform(size=400)
    challenger = served + random.normal(0.02, 0.1, 400)
    found = paired_bootstrap(challenger, served)
    difference = challenger - served
    error = difference.std() / np.sqrt(400)
    assert found.mean == pytest.approx(difference.mean())
    assert found.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.1 * error)
    assert found.queries == 400
    assert found.better > 0.99


def test_the_same_measures_differ_by_nothing() -> None:
    same = np.linspace(0, 1, 60)
    assert paired_bootstrap(same, same) == Difference(0.0, 0.0, 0.0, 0.5, 60)


def test_which_is_first_turns_the_sign() -> None:
    random = np.random.default_rng(4)
    one, other = random.uniform(size=(2, 80))
    ahead, behind = paired_bootstrap(one, other), paired_bootstrap(other, one)
    assert (ahead.mean, ahead.low, ahead.high) == pytest.approx((-behind.mean, -behind.high, -behind.low))


def test_one_seed_one_answer() -> None:
    one, other = np.random.default_rng(4).uniform(size=(2, 80))
    assert paired_bootstrap(one, other) == paired_bootstrap(one, other)
    assert paired_bootstrap(one, other, seed=1) != paired_bootstrap(one, other)


def test_weights_are_sessions() -> None:
    challenger, served = np.array([1.0, 0.0, 0.5]), np.array([0.0, 0.0, 0.5])
    found = paired_bootstrap(challenger, served, np.array([3.0, 1.0, 0.0]))
    assert found.mean == (3 * 1.0 + 1 * 0.0) / 4
    assert found.queries == 2


def test_one_query_with_most_of_the_traffic_makes_nothing_sure() -> None:
    challenger, weights = np.zeros(100), np.ones(100)
    challenger[0], weights[0] = 0.5, 10_000
    challenger[1:] = np.random.default_rng(5).normal(0, 0.1, 99)
    found = paired_bootstrap(challenger, np.zeros(100), weights)
    assert found.mean > 0.49
    assert found.low < 0


def test_queries_without_one_of_the_measures_are_left_out() -> None:
    nan = np.nan
    found = paired_bootstrap(np.array([1.0, nan, 1.0, nan]), np.array([0.0, 0.0, nan, nan]))
    assert (found.mean, found.queries) == (1.0, 1)


def test_many_queries_are_drawn_in_groups_with_the_same_interval() -> None:
    difference = np.random.default_rng(6).normal(0.01, 0.3, 40_000)
    found = paired_bootstrap(difference, np.zeros(40_000), resamples=2_000)
    error = difference.std() / np.sqrt(40_000)
    assert found.queries == 40_000
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


@pytest.mark.parametrize(
    ("challenger", "served", "weights", "words"),
    [
        ([1.0, 2.0], [1.0], None, "one entry a query in each"),
        ([[1.0]], [[1.0]], None, "one entry a query in each"),
        ([1.0], [1.0], [-1.0], "negative weight"),
        ([1.0], [1.0], [0.0], "nothing to compare"),
        ([], [], None, "nothing to compare"),
        ([np.nan], [1.0], None, "nothing to compare"),
        ([np.inf], [1.0], None, "infinite"),
        ([1.0], [1.0], [np.inf], "infinite"),
        ([1.0], [1.0], [np.nan], "weight"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    challenger: list[float], served: list[float], weights: list[float] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        paired_bootstrap(np.array(challenger), np.array(served), None if weights is None else np.array(weights))


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="0 resamples"):
        paired_bootstrap(np.ones(3), np.ones(3), resamples=0)
    with pytest.raises(InputError, match=r"confidence 1\.0"):
        paired_bootstrap(np.ones(3), np.ones(3), confidence=1.0)
