"""Priors by rank, weights of clicks, carts and purchases, and the resulting labels."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import cache

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau
from sklearn.isotonic import IsotonicRegression

from shelfwise.rerank.click_models.click_log import ClickLog, outcomes
from shelfwise.rerank.click_models.labels import (
    DEFAULT_WEIGHTS,
    MIN_PURCHASES,
    ClickLabels,
    LaterPurchases,
    click_labels,
    fit_weights,
)
from shelfwise.rerank.click_models.models import PositionBased, UserBrowsing, falling_curve, prior_strength, rank_prior
from tests.unit.rerank.click_models.click_simulation import (
    falling_examination,
    graded_store,
    position_shopper,
    simulate,
)
from tests.unit.rerank.click_models.simulated_logs import simulated_events

DEPTH = 6
START = datetime(2025, 3, 1)
COLUMNS = "query product_id impressions examinations clicks carts purchases attractiveness lower upper ctr label weight"


@cache
def shop() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events of a store in which half of the products are clicked and seldom bought, and its pairs."""
    random = np.random.default_rng(8)
    grades = {f"q{row:02}": {f"p{column}": float(random.integers(4)) for column in range(8)} for row in range(30)}
    store, pairs = graded_store(grades, seed=8)
    bought = random.random(len(store.purchase)) < 0.5
    store = replace(store, purchase=np.where(bought, 0.6, 0.02))
    made = simulate(store, position_shopper(falling_examination(1.0, DEPTH)), 15_000, seed=8, depth=DEPTH)
    return simulated_events(made, store, pairs, START, seed=8), pairs.with_columns(bought=bought)


@cache
def labels() -> ClickLabels:
    return click_labels(shop()[0])


class TestPriorStrength:
    @pytest.mark.parametrize("strength", [3.0, 30.0])
    def test_strength_of_beta_binomial_counts(self, strength: float) -> None:
        random = np.random.default_rng(2)
        trials = random.integers(1, 40, 40_000).astype(float)
        rate = random.beta(0.2 * strength, 0.8 * strength, len(trials))
        hits = random.binomial(trials.astype(int), rate).astype(float)
        found = prior_strength(hits, trials, trials, np.full(len(trials), 0.2))
        assert found == pytest.approx(strength, rel=0.1)

    def test_binomial_counts_give_the_strongest_prior(self) -> None:
        trials = np.full(5_000, 20.0)
        hits = np.full(5_000, 4.0)
        assert prior_strength(hits, trials, trials, np.full(5_000, 0.2)) == 1_000.0


def thorough(log: ClickLog) -> PositionBased:
    """A model of shoppers who examine every position."""
    return PositionBased(PositionBased.fit(log).estimates, np.ones(log.depth))


class TestRankPrior:
    def test_prior_falls_with_rank_and_follows_the_query(self) -> None:
        random = np.random.default_rng(4)
        lists = np.arange(400 * 3, dtype=np.int32).reshape(400, 3)
        query = np.repeat(np.arange(400), 3).astype(np.int32)
        level = np.where(np.arange(400) % 2, 1.0, 0.4)[:, None]
        pairs = np.tile(lists, (20, 1))
        clicks = random.random(pairs.shape) < np.tile(level * (0.6, 0.3, 0.1), (20, 1))
        log = ClickLog(pairs, clicks, lists.size)
        mean = rank_prior(log, thorough(log), query).mean.reshape(400, 3)
        assert np.all(np.diff(mean, axis=1) < 0)
        assert mean.mean(axis=0) == pytest.approx([0.7 * 0.6, 0.7 * 0.3, 0.7 * 0.1], abs=0.03)
        assert mean[1::2].mean() > 1.5 * mean[::2].mean()

    @pytest.mark.parametrize("model", [PositionBased, UserBrowsing])
    def test_log_without_clicks_or_lists_has_a_prior(self, model: type[PositionBased | UserBrowsing]) -> None:
        log = ClickLog(np.array([[0, 1]] * 9, np.int32), np.zeros((9, 2), np.bool_), 3)
        for each in (log, log.rows(slice(0, 0))):
            prior = rank_prior(each, model.fit(each), np.zeros(3, np.int32))
            made = model.fit(each, prior).estimates
            assert np.all((made.attractiveness > 0) & (made.attractiveness < 1))


class TestWeights:
    def later(self, weights: tuple[float, float, float], pairs: int = 4_000) -> LaterPurchases:
        random = np.random.default_rng(6)
        signals = random.random((pairs, 3)) * (0.6, 0.2, 0.1)
        looks = random.integers(50, 400, pairs).astype(float)
        bought = random.poisson(looks * (signals @ weights)).astype(float)
        return LaterPurchases(signals, looks, bought, np.arange(pairs, dtype=np.int32) // 10)

    @pytest.mark.parametrize("planted", [(0.01, 0.05, 0.8), (0.0, 0.3, 0.0)])
    def test_planted_weights_are_found(self, planted: tuple[float, float, float]) -> None:
        found = fit_weights(self.later(planted))
        assert found.fitted
        assert np.all(found.values >= 0)
        assert found.values == pytest.approx(planted, abs=0.05)

    def test_too_few_purchases_give_default_weights_and_a_note(self) -> None:
        later = self.later((0.01, 0.05, 0.8))
        few = np.zeros(len(later.purchases))
        few[: MIN_PURCHASES - 1] = 1
        found = fit_weights(replace(later, purchases=few))
        assert not found.fitted
        assert found.purchases == MIN_PURCHASES - 1
        assert np.array_equal(found.values, DEFAULT_WEIGHTS)
        assert not fit_weights(replace(later, examinations=np.zeros(len(later.examinations)))).fitted


class TestLabels:
    def test_label_table_has_its_columns(self) -> None:
        events, pairs = shop()
        table = labels().table
        assert table.columns == COLUMNS.split()
        assert table.height == pairs.height
        counts = dict(events.group_by("kind").len().rows())
        for kind in ("impression", "click", "cart", "purchase"):
            assert table[f"{kind}s"].sum() == counts[kind]
        assert table["label"].max() == 1.0
        assert table["label"].is_between(0, 1).all()
        assert table["weight"].is_between(0, 1).all()
        assert (table["lower"] <= table["attractiveness"]).all()
        assert (table["attractiveness"] <= table["upper"]).all()

    def test_purchased_products_have_higher_labels_than_clicked_ones(self) -> None:
        table = labels().table.join(shop()[1], on=["query", "product_id"]).filter(pl.col("grade") == 3)
        mean = dict(table.group_by("bought").agg(pl.col("label").mean()).rows())
        attraction = dict(table.group_by("bought").agg(pl.col("attractiveness").mean()).rows())
        assert mean[True] > 2 * mean[False]
        assert attraction[True] == pytest.approx(attraction[False], abs=0.1)

    def test_attraction_is_closer_to_the_grades_than_click_rates(self) -> None:
        table = labels().table.join(shop()[1], on=["query", "product_id"])
        taus = [
            [kendalltau(part[column], part["grade"]).statistic for part in table.partition_by("query")]
            for column in ("attractiveness", "ctr")
        ]
        debiased, naive = np.nanmean(taus, axis=1)
        assert debiased > naive + 0.02

    def test_log_without_purchases_has_labels(self) -> None:
        events = shop()[0].filter(pl.col("kind").is_in(["impression", "click"]))
        made = click_labels(events)
        assert not made.weights.fitted
        assert made.weights.purchases == 0
        assert made.table["label"].max() == 1.0


def test_outcomes_count_once_per_list_for_shown_products() -> None:
    rows = [
        ("impression", "a", "drill", "p1", 1),
        ("impression", "a", "drill", "p2", 2),
        ("impression", "a", "drill", "p1", 3),
        ("impression", "b", "drill", "p2", 1),
        ("cart", "a", "drill", "p1", 3),
        ("cart", "a", "drill", "p1", 3),
        ("cart", "b", "drill", "p1", 1),
        ("purchase", "b", "drill", "p2", None),
        ("purchase", "c", "drill", "p2", 1),
    ]
    table = pl.DataFrame(rows, schema=["kind", "query_id", "query", "product_id", "position"], orient="row")
    happened = outcomes(table.with_columns(pl.col("position").cast(pl.Int32), time=pl.lit(START)), depth=3)
    assert happened.carts(0, 2).tolist() == [1, 0]
    assert happened.purchases(0, 1).tolist() == [0, 0]
    assert happened.purchases(1, 2).tolist() == [0, 1]
    assert happened.unattributed == 2


def test_falling_curve_equals_the_isotonic_regression_of_scikit_learn() -> None:
    random = np.random.default_rng(5)
    rank = random.integers(1, 9, 60) / 8
    rate, weights = random.random(60) - rank / 2, random.random(60)
    theirs = IsotonicRegression(increasing=False).fit(rank, rate, weights).predict(rank)
    assert np.abs(falling_curve(rank, rate, weights) - theirs).max() < 1e-12
