"""The contract of both click models, and the recovery of parameters from their own simulated shoppers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from shelfwise.rerank.click_models.base import FitOptions, PairPrior
from shelfwise.rerank.click_models.click_log import ClickLog
from shelfwise.rerank.click_models.models import PositionBased, UserBrowsing
from tests.unit.rerank.click_models.click_simulation import falling_gamma
from tests.unit.rerank.click_models.simulated_logs import DEPTH, simulated, small_store

Model = type[PositionBased | UserBrowsing]
MODELS: Mapping[str, Model] = {"pbm": PositionBased, "ubm": UserBrowsing}


def one_list(pairs: list[int], clicks: list[int], times: int = 1) -> ClickLog:
    return ClickLog(np.array([pairs] * times, np.int32), np.array([clicks] * times, np.bool_), max(pairs) + 1)


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


class TestContract:
    def test_shapes_and_ranges(self, model: Model) -> None:
        log = simulated("ubm").log
        fitted = model.fit(log)
        made = fitted.estimates
        lower, upper = made.interval()
        for each in (made.attractiveness, made.impressions, made.clicks, made.examinations, made.effective):
            assert each.shape == (log.count,)
        assert np.all((lower > 0) & (lower < made.attractiveness) & (made.attractiveness < upper) & (upper < 1))
        assert np.all((made.clicks <= made.examinations + 1e-6) & (made.examinations <= made.impressions + 1e-6))
        assert np.all((made.effective >= 0) & (made.effective <= made.examinations))
        assert fitted.examination.shape == (DEPTH,)
        assert np.all((fitted.examination > 0) & (fitted.examination <= 1))
        assert fitted.conditional_examination(log).shape == log.pairs.shape

    def test_a_weight_counts_as_so_many_sessions(self, model: Model) -> None:
        log = simulated("pbm").log.rows(slice(0, 300))
        times = np.random.default_rng(0).integers(1, 4, log.size)
        weighted = ClickLog(log.pairs, log.clicks, log.count, times.astype(np.float32))
        repeated = ClickLog(np.repeat(log.pairs, times, 0), np.repeat(log.clicks, times, 0), log.count)
        one, other = model.fit(weighted), model.fit(repeated)
        assert one.estimates.attractiveness == pytest.approx(other.estimates.attractiveness, abs=1e-4)
        assert one.examination == pytest.approx(other.examination, abs=1e-4)

    def test_empty_log_is_fitted(self, model: Model) -> None:
        log = ClickLog(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.bool_), 2)
        fitted = model.fit(log)
        assert fitted.estimates.attractiveness.tolist() == [0.5, 0.5]
        assert np.isfinite(fitted.examination).all()

    @pytest.mark.parametrize(("clicked", "least", "most"), [(0, 0, 0.01), (1, 0.98, 1)])
    def test_no_clicks_or_all_clicks_are_fitted(self, model: Model, clicked: int, least: float, most: float) -> None:
        log = one_list([0, 1, 2], [clicked] * 3, times=1_000)
        fitted = model.fit(log)
        chances = fitted.estimates.attractiveness[log.pairs] * fitted.conditional_examination(log)
        assert least <= chances.min() <= chances.max() <= most

    def test_unshown_products_have_the_prior(self, model: Model) -> None:
        prior = PairPrior(np.array([0.1, 0.2, 0.3]), 10.0)
        made = model.fit(one_list([0, 1, 2], [1, 0, 0]).rows(slice(0, 0)), FitOptions(prior)).estimates
        assert made.attractiveness == pytest.approx(prior.mean)
        assert made.strength == 10.0


class TestRecovery:
    @pytest.mark.parametrize("name", list(MODELS))
    def test_parameters_are_recovered(self, name: str) -> None:
        simulation = simulated(name)
        fitted = MODELS[name].fit(simulation.log)
        enough = fitted.estimates.impressions >= 200
        off = (fitted.estimates.attractiveness - small_store().attractiveness)[enough]
        assert enough.sum() > 100
        assert np.sqrt(np.mean(off**2)) < 0.04
        assert fitted.examination == pytest.approx(simulation.examination, abs=0.02)

    @pytest.mark.parametrize("name", list(MODELS))
    def test_intervals_have_their_nominal_coverage(self, name: str) -> None:
        lower, upper = MODELS[name].fit(simulated(name).log).estimates.interval()
        truth = small_store().attractiveness
        assert 0.9 <= np.mean((lower <= truth) & (truth <= upper)) <= 0.995

    def test_gamma_of_the_ubm(self) -> None:
        fitted = UserBrowsing.fit(simulated("ubm").log)
        assert fitted.gamma == pytest.approx(falling_gamma(0.7, DEPTH), abs=0.12)
        assert not fitted.gamma[~np.tri(DEPTH, dtype=np.bool_)].any()

    def test_examination_is_unbiased_with_a_good_ranking_and_few_impressions(self, model: Model) -> None:
        log = simulated("pbm").log
        # As if every query were spelled in a hundred ways: about 15 impressions remain per pair.
        copies = (np.arange(log.size) % 100)[:, None]
        scattered = np.where(log.shown, log.pairs + log.count * copies, -1).astype(np.int32)
        fitted = model.fit(ClickLog(scattered, log.clicks, log.count * 100))
        assert fitted.examination == pytest.approx(1.0 / np.arange(1, DEPTH + 1), abs=0.03)
