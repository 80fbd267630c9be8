"""Paired bootstrap, and intervals that are valid at every inspection."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shelfwise.rerank.click_models.click_log import Floats
from shelfwise.rerank.evaluation.statistics import (
    ALPHA,
    RatioSums,
    SequentialDifference,
    above_half,
    paired_bootstrap,
    ratio_difference,
    sequence_margin,
)
from shelfwise.retrieval.errors import InputError


def test_interval_is_of_the_mean_difference() -> None:
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
    assert paired_bootstrap(challenger, served) == found != paired_bootstrap(challenger, served, seed=1)


def test_weights_are_sessions() -> None:
    challenger, served = np.array([1.0, 0.0, 0.5]), np.array([0.0, 0.0, 0.5])
    found = paired_bootstrap(challenger, served, np.array([3.0, 1.0, 0.0]))
    assert found.mean == (3 * 1.0 + 1 * 0.0) / 4
    assert found.queries == 2
    # Queries without one of the measures are left out.
    found = paired_bootstrap(np.array([1.0, np.nan, 1.0, np.nan]), np.array([0.0, 0.0, np.nan, np.nan]))
    assert (found.mean, found.queries) == (1.0, 1)


def test_bootstrap_draws_trainings_and_queries() -> None:
    random = np.random.default_rng(7)
    trainings, queries = random.normal(0, 0.03, 50), random.normal(0.01, 0.2, 400)
    difference = trainings[:, None] + queries
    found = paired_bootstrap(difference, np.zeros(difference.shape))
    error = np.hypot(trainings.std() / np.sqrt(50), queries.std() / np.sqrt(400))
    assert found.mean == pytest.approx(difference.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert found.queries == 400
    alone = paired_bootstrap(difference.mean(axis=0), np.zeros(400))
    assert alone.high - alone.low < 0.95 * (found.high - found.low)
    difference[0, :3] = np.nan
    assert paired_bootstrap(difference, np.zeros(difference.shape)).queries == 397


@pytest.mark.parametrize(
    ("challenger", "served", "weights", "words"),
    [
        ([1.0, 2.0], [1.0], None, "one entry per query"),
        ([[[1.0]]], [[[1.0]]], None, "one entry per query"),
        (np.ones((0, 2)), np.ones((0, 2)), None, "one entry per query"),
        ([1.0], [1.0], [-1.0], "negative weight"),
        ([1.0], [1.0], [0.0], "nothing to compare"),
        ([], [], None, "nothing to compare"),
        ([np.nan], [1.0], None, "nothing to compare"),
        ([np.inf], [1.0], None, "infinite"),
        ([1.0], [1.0], [np.inf], "infinite"),
        ([1.0], [1.0], [np.nan], "weight"),
    ],
)
def test_mismatched_measures_are_refused(
    challenger: list[float], served: list[float], weights: list[float] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        paired_bootstrap(np.array(challenger), np.array(served), None if weights is None else np.array(weights))
    with pytest.raises(InputError, match=r"0 resamples at confidence 1\.0"):
        paired_bootstrap(np.ones(3), np.ones(3), resamples=0, confidence=1.0)


DAYS = 30
NEW_A_DAY = 60
EXPERIMENTS = 400


def looks(random: np.random.Generator, lift: float = 0.0) -> list[SequentialDifference]:
    """Inspections of one experiment after each day. Shoppers arrive on any day, return within ten days, and have their
    own click rates; those of the second variant are higher by `lift`."""
    count = DAYS * NEW_A_DAY
    first = np.repeat(np.arange(DAYS), NEW_A_DAY)
    is_second = random.random(count) < 0.5
    likes = np.clip(random.beta(2, 5, count) + lift * is_second, 0, 1)
    visits = 1 + random.poisson(1.0, count)
    who = np.repeat(np.arange(count), visits)
    day = first[who] + random.integers(0, 10, len(who)) * (random.random(len(who)) < 0.5)
    clicked = random.random(len(who)) < likes[who]
    found = []
    for end in range(DAYS):
        seen = day <= end
        searches = np.bincount(who[seen], minlength=count).astype(float)
        clicks = np.bincount(who[seen], clicked[seen], minlength=count).astype(float)
        there = searches > 0
        arms = [RatioSums(clicks[there] * arm[there], searches[there] * arm[there]) for arm in (~is_second, is_second)]
        if min(arm[there].sum() for arm in (~is_second, is_second)) >= 100:
            result = ratio_difference(*arms, planned=1_000)
            assert result is not None
            found.append(result)
    return found


def test_confidence_sequence_has_nominal_coverage_with_daily_inspection() -> None:
    random = np.random.default_rng(7)
    always = fixed = 0
    for _ in range(EXPERIMENTS):
        seen = looks(random)
        always += any(each.always.excludes_zero for each in seen)
        fixed += any(each.fixed.excludes_zero for each in seen)
    assert always <= ALPHA * EXPERIMENTS
    assert fixed > 3 * ALPHA * EXPERIMENTS


def test_planted_difference_is_detected_permanently() -> None:
    random = np.random.default_rng(9)
    experiments = [looks(random, lift=0.12) for _ in range(40)]
    assert sum(any(each.always.low > 0 for each in seen) for seen in experiments) >= 38
    assert not any(each.always.high < 0 for seen in experiments for each in seen)
    assert np.mean([seen[-1].value for seen in experiments]) == pytest.approx(0.12, abs=0.01)


def test_margin_matches_the_theorem() -> None:
    t, planned, alpha, s = 500, 2_000, 0.05, 0.3
    r2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / planned
    inside = 2 * (t * r2 + 1) / (t**2 * r2) * math.log(math.sqrt(t * r2 + 1) / alpha)
    assert sequence_margin(s, t, planned, alpha) == pytest.approx(s * math.sqrt(inside))


def test_sample_size_counts_shoppers_not_searches() -> None:
    """Repeating each shopper's search a hundred times adds no information."""
    random = np.random.default_rng(3)
    clicked = (random.random(400) < 0.4).astype(float)
    second = (np.arange(400) % 2).astype(float)

    def found(searches: float) -> SequentialDifference | None:
        arms: list[Floats] = [1 - second, second]
        return ratio_difference(*(RatioSums(searches * clicked * arm, searches * arm) for arm in arms), planned=1_000)

    one, hundred = found(1), found(100)
    assert one is not None
    assert hundred is not None
    assert hundred.always.low == pytest.approx(one.always.low)
    assert hundred.deviation == pytest.approx(one.deviation)


def test_no_data_gives_no_interval() -> None:
    nobody = RatioSums(np.zeros(3), np.zeros(3))
    assert ratio_difference(nobody, RatioSums(np.ones(3), np.ones(3)), planned=1_000) is None
    assert above_half(nobody, planned=1_000) is None
