"""Simulated shoppers behave by their parameters."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from rerank.click_models.click_log import NOTHING, click_log
from retrieval.errors import InputError
from tests.unit.rerank.click_models.click_simulation import (
    BrowsingShopper,
    Conditions,
    DependentShopper,
    GradedStoreOptions,
    PositionShopper,
    SatisfiedShopper,
    ShownLists,
    SimulatedShopper,
    falling_examination,
    falling_gamma,
    graded_store,
    simulate,
)
from tests.unit.rerank.click_models.simulated_logs import simulated_events

GRADES = {"drill": {"p1": 3.0, "p2": 0.0, "p3": 1.0}, "saw": {"p1": 0.0, "p4": 2.0}}
EVERYWHERE = PositionShopper(np.ones(3))


class TestShoppers:
    """Ten thousand lists of two products, the first clicked by half of those who examine it, the second by all."""

    def browse(self, shopper: SimulatedShopper, satisfaction: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        attractiveness = np.tile((0.5, 1.0), (10_000, 1))
        view = ShownLists(attractiveness, np.full(attractiveness.shape, satisfaction))
        return shopper.browse(view, np.random.default_rng(3))

    def test_position_based_shoppers(self) -> None:
        clicks, looked = self.browse(PositionShopper(np.array([1.0, 0.3])))
        assert looked.mean(axis=0) == pytest.approx([1.0, 0.3], abs=0.02)
        assert clicks.mean(axis=0) == pytest.approx([0.5, 0.3], abs=0.02)

    def test_dependent_click_shoppers(self) -> None:
        clicks, looked = self.browse(DependentShopper(np.array([0.2, 0.2])))
        assert clicks.mean(axis=0) == pytest.approx([0.5, 0.5 + 0.5 * 0.2], abs=0.02)
        assert looked[:, 1].mean() == pytest.approx(0.5 + 0.5 * 0.2, abs=0.02)

    def test_satisfied_shoppers(self) -> None:
        clicks, _ = self.browse(SatisfiedShopper(), satisfaction=0.9)
        assert clicks.mean(axis=0) == pytest.approx([0.5, 0.5 + 0.5 * 0.1], abs=0.02)

    def test_browsing_shoppers(self) -> None:
        clicks, _ = self.browse(BrowsingShopper(np.array([[1.0, 0.0], [0.6, 0.1]])))
        assert clicks.mean(axis=0) == pytest.approx([0.5, 0.5 * 0.6 + 0.5 * 0.1], abs=0.02)

    def test_examination_curves(self) -> None:
        assert falling_examination(1.0, 3) == pytest.approx([1, 1 / 2, 1 / 3])
        assert falling_examination(0.0, 3).tolist() == [1, 1, 1]
        expected = [[1, 0, 0], [1 / 2, 0.8, 0], [1 / 3, 0.8 / 2, 0.8]]
        assert falling_gamma(1.0, 3) == pytest.approx(np.array(expected))


class TestStore:
    def test_clicks_follow_grades(self) -> None:
        store, pairs = graded_store(GRADES, GradedStoreOptions(attractiveness=(0.1, 0.8)))
        assert pairs["grade"].to_list() == [3, 0, 1, 0, 2]
        assert store.attractiveness == pytest.approx([0.1 + 0.7 * gain / 7 for gain in (7, 0, 1, 0, 3)])

    def test_ranking_without_noise_follows_the_grades(self) -> None:
        store, _ = graded_store(GRADES, GradedStoreOptions(ranking_noise=0.0, periods=2))
        assert store.rankings.tolist() == [[[0, 2, 1], [4, 3, NOTHING]]] * 2

    def test_missing_grades_are_refused(self) -> None:
        with pytest.raises(InputError, match="judge at least one"):
            graded_store({})


class TestSimulation:
    def test_simulation_is_determined_by_its_seed(self) -> None:
        store, _ = graded_store(GRADES)
        one, same, other = (simulate(store, EVERYWHERE, 200, Conditions(depth=3), seed) for seed in (1, 1, 2))
        assert np.array_equal(one.log.pairs, same.log.pairs)
        assert np.array_equal(one.log.clicks, same.log.clicks)
        assert not np.array_equal(one.log.clicks, other.log.clicks)

    def test_each_period_shows_its_ranking(self) -> None:
        store, _ = graded_store(GRADES, GradedStoreOptions(periods=3, ranking_noise=2.0), seed=4)
        made = simulate(store, EVERYWHERE, 600, Conditions(depth=3, exploration=0.0, days=30.0))
        assert np.all(np.diff(made.day) >= 0)
        period = (made.day // 10).astype(int)
        assert set(period) == {0, 1, 2}
        assert np.array_equal(made.log.pairs, store.rankings[period, made.query])

    def test_exploration_shuffles_whole_lists(self) -> None:
        store, _ = graded_store(GRADES)
        made = simulate(store, EVERYWHERE, 6_000, Conditions(depth=2, exploration=1.0))
        drills = made.log.pairs[made.query == 0]
        for position in range(2):
            share = np.bincount(drills[:, position], minlength=3) / len(drills)
            assert share == pytest.approx([1 / 3] * 3, abs=0.03)
        assert np.all(drills[:, 0] != drills[:, 1])
        assert np.all(np.sort(made.log.pairs[made.query == 1]) == [3, 4])


def test_events_equal_the_log() -> None:
    store, pairs = graded_store(GRADES)
    made = simulate(store, EVERYWHERE, 500, Conditions(depth=3))
    events = simulated_events(made, store, pairs, datetime(2025, 3, 1))
    log, found = click_log(events, depth=3)
    assert events["time"].is_sorted()
    names = np.array([*map("/".join, found.select("query", "product_id").rows()), ""])
    truth = np.array([*map("/".join, pairs.select("query", "product_id").rows()), ""])
    assert np.array_equal(names[log.pairs], truth[made.log.pairs])
    assert np.array_equal(log.clicks, made.log.clicks)
    counts = dict(events.group_by("kind").len().rows())
    assert counts["click"] > counts["cart"] > counts["purchase"] > 0
