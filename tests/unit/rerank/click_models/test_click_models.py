"""Click models: fits, logs and their evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog, click_log, query_texts
from shelfwise.rerank.click_models.evaluation import ClickLikelihood
from shelfwise.rerank.click_models.models import PairPrior, PositionBased, UserBrowsing
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
        made = model.fit(one_list([0, 1, 2], [1, 0, 0]).rows(slice(0, 0)), prior).estimates
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


START = datetime(2025, 3, 1)
Row = tuple[str, str, str, str, int | None, int]


def events(*rows: Row) -> pl.DataFrame:
    """A table of rows of kind, query_id, query, product_id, position, second."""
    texts = dict.fromkeys(("kind", "query_id", "query", "product_id"), pl.String)
    table = pl.DataFrame(rows, schema={**texts, "position": pl.Int32, "second": pl.Int64}, orient="row")
    times = [START + timedelta(seconds=second) for second in table["second"]]
    return table.drop("second").with_columns(pl.Series("time", times, pl.Datetime))


def shown(log: ClickLog, pairs: pl.DataFrame) -> list[list[str]]:
    names = [*pairs["product_id"], ""]
    return [[names[number] for number in row] for row in log.pairs]


class TestClickLog:
    def test_lists_are_ordered_by_time_and_pairs_by_query_and_product(self) -> None:
        log, pairs = click_log(
            events(
                ("impression", "b", "saw", "p1", 1, 5),
                ("impression", "a", "drill", "p1", 1, 9),
                ("impression", "a", "drill", "p2", 2, 9),
                ("click", "a", "drill", "p2", 2, 11),
                ("cart", "a", "drill", "p1", 1, 12),
            ),
            depth=2,
        )
        assert pairs.rows() == [(0, "drill", "p1"), (1, "drill", "p2"), (2, "saw", "p1")]
        assert log.pairs.tolist() == [[2, NOTHING], [0, 1]]
        assert log.clicks.tolist() == [[False, False], [False, True]]
        assert log.count == 3

    def test_browsed_pages_are_not_lists(self) -> None:
        browsed = [("impression", "", "", f"p{number}", 1, number) for number in range(2)]
        log, pairs = click_log(events(*browsed, ("impression", "a", "saw", "p9", 1, 5)), depth=2)
        assert shown(log, pairs) == [["p9", ""]]

    def test_list_takes_its_query_from_the_search_event(self) -> None:
        lists = (("a", "drill", 0), ("b", "saw", 3))
        asked: list[Row] = [("query", name, query, "", None, second) for name, query, second in lists]
        result: list[Row] = [("impression", name, "", "p1", 1, second) for name, _, second in lists]
        log, pairs = click_log(events(*asked, *result), depth=1)
        assert pairs.select("query", "product_id").rows() == [("drill", "p1"), ("saw", "p1")]
        assert log.pairs.tolist() == [[0], [1]]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("impression", "click")),
                st.sampled_from("ab"),
                st.sampled_from(("p1", "p2", "p3")),
                st.integers(1, 5),
                st.integers(0, 3),
            ),
            max_size=25,
        )
    )
    def test_vectorised_log_equals_event_loop(self, drawn: list[tuple[str, str, str, int, int]]) -> None:
        rows = [(kind, answer, "q", product, place, second) for kind, answer, product, place, second in drawn]
        table = events(*rows).with_columns(pl.col("kind").cast(pl.Enum(["impression", "click"])))
        log, pairs = click_log(table, depth=4)
        assert log.depth == 4
        lists: dict[str, dict[int, str]] = {}
        for kind, answer, _, product, place, _ in sorted(rows, key=lambda row: row[5]):
            if kind == "impression" and place <= 4:
                lists.setdefault(answer, {}).setdefault(place, product)
        clicked = set()
        for kind, answer, _, product, place, _ in rows:
            places = [each for each, name in lists.get(answer, {}).items() if name == product]
            if kind == "click" and places:
                clicked.add((answer, place if place in places else min(places)))
        expected = sorted(
            ([places.get(each, "") for each in range(1, 5)], [(answer, each) in clicked for each in range(1, 5)])
            for answer, places in lists.items()
        )
        assert sorted(zip(shown(log, pairs), log.clicks.tolist(), strict=True)) == expected


RowOfAnswerWords = tuple[str, str, int]


def words(*rows: RowOfAnswerWords) -> list[tuple[str, str]]:
    table = pl.DataFrame(rows, schema={"query_id": pl.String, "query": pl.String, "at": pl.Int64}, orient="row")
    times = pl.Series("time", [START + timedelta(seconds=second) for second in table["at"]], pl.Datetime)
    return query_texts(table.with_columns(times)).rows()


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "x", "y"]), st.integers(0, 3))))
def test_vectorised_log_equals_event_loop_in_any_order(rows: list[RowOfAnswerWords]) -> None:
    first: dict[str, str] = {}
    for query_id, query, _ in sorted(rows, key=lambda row: (row[2], row[1])):
        if query_id and query:
            first.setdefault(query_id, query)
    assert words(*rows) == words(*reversed(rows)) == sorted(first.items())


def log(pairs: list[list[int]], clicks: list[list[int]]) -> ClickLog:
    return ClickLog(np.array(pairs, np.int32), np.array(clicks, np.bool_), 10)


def test_formula_matches_manual_calculation() -> None:
    made = ClickLikelihood(np.array([1.0, 0.5]), np.array([0.2, 0.1]))
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
    cut = simulation.log.size * 4 // 5
    earlier, later = (simulation.log.rows(part) for part in (slice(0, cut), slice(cut, None)))
    made = ClickLikelihood.fit(earlier)
    truth = small_store().attractiveness
    drawn = np.random.default_rng(1).normal(size=len(truth))

    def mean(of_pairs: np.ndarray) -> float:
        scores = [of_pairs[np.maximum(each.pairs, 0)] for each in (earlier, later)]
        return float(made.of(later, scores[1], made.calibration(earlier, scores[0])).mean())

    assert mean(np.log(truth / (1 - truth))) > mean(drawn) + 0.02


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
