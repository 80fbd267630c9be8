"""The contract of all click models, and the recovery of parameters from their own simulated shoppers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from shelfwise.rerank.click_models.base import ClickModel, FitOptions, PairPrior
from shelfwise.rerank.click_models.click_log import ClickLog, held_out
from shelfwise.rerank.click_models.evaluation import compare, evaluate
from shelfwise.rerank.click_models.models import BASELINES, MODELS, DependentClick, SimplifiedDBN, UserBrowsing
from shelfwise.retrieval.errors import InputError
from tests.unit.rerank.click_models.click_simulation import falling_gamma
from tests.unit.rerank.click_models.simulated_logs import DEPTH, simulated, small_store

ALL = {**MODELS, **BASELINES}


def one_list(pairs: list[int], clicks: list[int], times: int = 1) -> ClickLog:
    return ClickLog(np.array([pairs] * times, np.int32), np.array([clicks] * times, np.bool_), max(pairs) + 1)


@pytest.fixture(params=list(ALL))
def model(request: pytest.FixtureRequest) -> type[ClickModel]:
    return ALL[request.param]


class TestContract:
    def test_shapes_and_ranges(self, model: type[ClickModel]) -> None:
        log = simulated("sdbn").log
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
        for probabilities in (fitted.click_probabilities(log), fitted.conditional_click_probabilities(log)):
            assert probabilities.shape == log.pairs.shape
            assert np.all((probabilities >= 0) & (probabilities < 1))

    def test_counts_are_those_of_the_log(self, model: type[ClickModel]) -> None:
        log = ClickLog(np.array([[1, 0, -1], [1, -1, 2]], np.int32), np.array([[1, 0, 0], [0, 0, 1]], np.bool_), 4)
        made = model.fit(log).estimates
        assert made.impressions.tolist() == [1, 2, 1, 0]
        assert made.clicks.tolist() == [0, 1, 1, 0]

    def test_a_weight_counts_as_so_many_sessions(self, model: type[ClickModel]) -> None:
        log = simulated("dcm").log.rows(slice(0, 300))
        times = np.random.default_rng(0).integers(1, 4, log.size)
        weighted = ClickLog(log.pairs, log.clicks, log.count, times.astype(np.float32))
        repeated = ClickLog(np.repeat(log.pairs, times, 0), np.repeat(log.clicks, times, 0), log.count)
        one, other = model.fit(weighted), model.fit(repeated)
        assert one.estimates.attractiveness == pytest.approx(other.estimates.attractiveness, abs=1e-4)
        assert one.examination == pytest.approx(other.examination, abs=1e-4)
        assert evaluate(one, weighted).log_likelihood == pytest.approx(evaluate(one, repeated).log_likelihood)
        assert evaluate(one, weighted).perplexity == pytest.approx(evaluate(one, repeated).perplexity)

    def test_empty_log_is_fitted(self, model: type[ClickModel]) -> None:
        log = ClickLog(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.bool_), 2)
        fitted = model.fit(log)
        assert fitted.estimates.attractiveness.tolist() == [0.5, 0.5] or model is ALL["position"]
        assert fitted.click_probabilities(log).shape == (0, 3)
        assert np.isfinite(fitted.examination).all()
        assert np.isnan(evaluate(fitted, log).log_likelihood)

    @pytest.mark.parametrize("clicks", [[0, 0, 0], [1, 1, 1], [0, 1, 0]])
    def test_single_session_is_fitted(self, model: type[ClickModel], clicks: list[int]) -> None:
        log = one_list([0, 1, 2], clicks)
        fitted = model.fit(log)
        assert np.all((fitted.estimates.attractiveness > 0) & (fitted.estimates.attractiveness < 1))
        assert np.isfinite(evaluate(fitted, log).log_likelihood)

    @pytest.mark.parametrize(("clicked", "least", "most"), [(0, 0, 0.01), (1, 0.98, 1)])
    def test_no_clicks_or_all_clicks_are_fitted(
        self, model: type[ClickModel], clicked: int, least: float, most: float
    ) -> None:
        log = one_list([0, 1, 2], [clicked] * 3, times=1_000)
        probabilities = model.fit(log).click_probabilities(log)
        assert least <= probabilities.min() <= probabilities.max() <= most

    def test_empty_positions_have_no_click_probability(self, model: type[ClickModel]) -> None:
        log = ClickLog(np.array([[0, -1, 1], [-1, -1, -1]], np.int32), np.zeros((2, 3), np.bool_), 2)
        empty = log.pairs < 0
        fitted = model.fit(log)
        assert not fitted.click_probabilities(log)[empty].any()
        assert not fitted.conditional_click_probabilities(log)[empty].any()

    def test_log_with_other_pairs_or_more_positions_is_refused(self, model: type[ClickModel]) -> None:
        fitted = model.fit(one_list([0, 1], [1, 0]))
        with pytest.raises(InputError, match="3 pairs"):
            fitted.click_probabilities(one_list([0, 2], [1, 0]))
        with pytest.raises(InputError, match="3 positions"):
            fitted.conditional_click_probabilities(one_list([0, 1, 1], [1, 0, 0]))


@pytest.mark.parametrize("name", list(ALL))
def test_click_probabilities_sum_to_1_over_all_outcomes(name: str) -> None:
    """Over all 2^4 click patterns, the conditional probabilities multiply to 1 and sum to the full ones."""
    fitted = ALL[name].fit(simulated("ubm").log)
    ways = np.array(list(itertools.product((False, True), repeat=4)))
    log = ClickLog(np.tile(np.array([3, 7, 21, 40], np.int32), (len(ways), 1)), ways, small_store().attractiveness.size)
    each = fitted.conditional_click_probabilities(log)
    weight = np.where(ways, each, 1.0 - each).prod(axis=1)
    assert weight.sum() == pytest.approx(1.0)
    assert weight @ ways == pytest.approx(fitted.click_probabilities(log)[0])


@pytest.mark.parametrize("name", [*MODELS, "ctr"])
def test_unshown_products_have_the_prior(name: str) -> None:
    prior = PairPrior(np.array([0.1, 0.2, 0.3]), 10.0)
    unseen = one_list([0, 1, 2], [1, 0, 0]).rows(slice(0, 0))
    made = ALL[name].fit(unseen, FitOptions(prior=prior)).estimates
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

    @pytest.mark.parametrize("name", list(MODELS))
    def test_model_predicts_its_clicks_better_than_rates(self, name: str) -> None:
        table = compare(*held_out(simulated(name).log), models={name: MODELS[name], **BASELINES})
        by_name = {row["model"]: row for row in table.rows(named=True)}
        for baseline in BASELINES:
            assert by_name[name]["log_likelihood"] > by_name[baseline]["log_likelihood"]
            assert by_name[name]["perplexity"] < by_name[baseline]["perplexity"]
        assert table["model"][0] == name

    def test_continuation_of_the_dcm(self) -> None:
        fitted = DependentClick.fit(simulated("dcm").log)
        # The last position has no successor, so its continuation cannot be estimated.
        assert fitted.continuation[:-1] == pytest.approx(np.linspace(0.8, 0.4, DEPTH)[:-1], abs=0.05)

    def test_satisfaction_of_the_sdbn(self) -> None:
        fitted = SimplifiedDBN.fit(simulated("sdbn").log)
        often = fitted.estimates.clicks >= 500
        assert often.sum() > 5
        off = (fitted.satisfaction - small_store().satisfaction)[often]
        assert np.sqrt(np.mean(off**2)) < 0.07

    def test_gamma_of_the_ubm(self) -> None:
        fitted = UserBrowsing.fit(simulated("ubm").log)
        assert fitted.gamma == pytest.approx(falling_gamma(0.7, DEPTH), abs=0.12)
        assert not fitted.gamma[~np.tri(DEPTH, dtype=np.bool_)].any()

    @pytest.mark.parametrize("name", ["pbm", "ubm"])
    def test_examination_is_unbiased_with_a_good_ranking_and_few_impressions(self, name: str) -> None:
        log = simulated("pbm").log
        # As if every query were spelled in a hundred ways: about 15 impressions remain per pair.
        copies = (np.arange(log.size) % 100)[:, None]
        scattered = np.where(log.shown, log.pairs + log.count * copies, -1).astype(np.int32)
        fitted = MODELS[name].fit(ClickLog(scattered, log.clicks, log.count * 100))
        assert fitted.examination == pytest.approx(1.0 / np.arange(1, DEPTH + 1), abs=0.03)
