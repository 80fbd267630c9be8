"""Statistics of comparisons, their use in promotions, and off-policy estimates."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog, Floats
from shelfwise.rerank.evaluation.metrics import query_means, reciprocal_rank
from shelfwise.rerank.evaluation.off_policy import LoggedSearches, evaluate_rankings, logged_searches
from shelfwise.rerank.evaluation.promotion import (
    LIKELIHOOD,
    MIN_JUDGED,
    MRR,
    NDCG,
    Decision,
    Slice,
    decide,
    language_slices,
    new_product_slice,
    new_query_slice,
    traffic_slices,
)
from shelfwise.rerank.evaluation.statistics import (
    ALPHA,
    RatioSums,
    SequentialDifference,
    above_half,
    paired_bootstrap,
    ratio_difference,
    sequence_margin,
)
from tests.logged_searches import DEPTH, QUERIES, clicks, clicks_of, ordered, searches_of, simulated_searches


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


JUDGED = 200
SLICE = Slice("language zh", np.arange(JUDGED) < 60)


def moved(ndcg: float = 0.0, rank: float = 0.0, likelihood: float = 0.0, noise: float = 0.02) -> Floats:
    """Differences (3, n) with these means and the same noise in each measure."""
    drawn = np.random.default_rng(1).normal(0, noise, JUDGED)
    drawn -= drawn.mean()
    return np.array([drawn + ndcg, drawn + rank, drawn + likelihood])


def measures(*by_query: Floats) -> dict[str, Floats]:
    return dict(zip((NDCG, MRR, LIKELIHOOD), by_query, strict=True))


def decision_for(differences: Floats, slices: tuple[Slice, ...] = ()) -> Decision:
    served = np.random.default_rng(2).uniform(0.2, 0.8, (3, JUDGED))
    return decide(measures(*(served + differences)), measures(*served), None, slices)


BETTER = ("better: nDCG@10 +0.0100 (+0.0",)
CLICKS = ("better: click likelihood +0.0100",)
UNSURE = ("not surely better, and perhaps worse by 0.01 or more: nDCG@10",)
NEITHER = ("not surely better: nDCG@10", "not surely better: click likelihood")


@pytest.mark.parametrize(
    ("differences", "publish", "reasons"),
    {
        "better nDCG": (moved(ndcg=0.01), True, BETTER),
        "equal nDCG and better clicks": (moved(likelihood=0.01), True, CLICKS),
        "better clicks, perhaps worse nDCG": (moved(ndcg=-0.001, likelihood=0.1, noise=0.1), False, UNSURE),
        "better by MRR only": (moved(rank=0.05), False, NEITHER),
        "equal": (np.zeros((3, JUDGED)), False, NEITHER),
        "worse MRR": (moved(ndcg=0.05, rank=-0.01), False, ("worse: MRR -0.0100",)),
        "worse clicks": (moved(ndcg=0.05, likelihood=-0.01), False, ("worse: click likelihood -0.0100",)),
    }.values(),
)
def test_rankers_are_published_by_their_measures(differences: Floats, publish: bool, reasons: tuple[str, ...]) -> None:
    found = decision_for(differences)
    assert found.publish == publish
    assert all(reason.startswith(begin) for reason, begin in zip(found.reasons, reasons, strict=True))


class TestReasons:
    def test_too_few_queries_are_rejected(self) -> None:
        differences = moved(ndcg=0.05)
        differences[0, 49:] = np.nan
        found = decision_for(differences)
        assert "nDCG@10: 49 held-out queries have it; 50 are needed" in found.reasons
        assert found.comparisons[0].difference is None

    def test_without_sessions_ndcg_decides(self) -> None:
        differences = moved(ndcg=0.01)
        differences[2] = np.nan
        assert decision_for(differences).publish
        differences[0] -= 0.01
        message = "not surely better: click likelihood: 0 queries have it, too few to decide"
        assert decision_for(differences).reasons[1] == message

    @pytest.mark.parametrize(("row", "name"), [(0, "nDCG@10"), (2, "click likelihood")])
    def test_worse_slice_is_rejected_despite_better_total(self, row: int, name: str) -> None:
        differences = moved(ndcg=0.05, likelihood=0.05)
        differences[row, SLICE.rows] -= 0.1
        found = decision_for(differences, (SLICE,))
        assert not found.publish
        (reason,) = found.reasons
        assert reason.startswith(f"worse: {name} on language zh -0.0")
        assert decision_for(differences).publish

    def test_small_slice_is_reported_but_does_not_decide(self) -> None:
        differences = moved(ndcg=0.05)
        few = Slice("new products", np.arange(JUDGED) < MIN_JUDGED - 1)
        differences[0, few.rows] -= 0.06
        found = decision_for(differences, (few,))
        assert found.publish
        shown = found.comparisons[3]
        assert (shown.slice, shown.queries, shown.difference) == ("new products", 49, None)
        assert shown.challenger is not None


def test_queries_are_weighted_by_traffic() -> None:
    served = np.full(JUDGED, 0.5)
    challenger = np.where(np.arange(JUDGED) < 50, 0.6, 0.49)
    one, other = {NDCG: challenger}, {NDCG: served}
    traffic = np.where(np.arange(JUDGED) < 50, 1.0, 100.0)
    assert decide(one, other).publish
    assert decide(one, other, traffic).reasons[0].startswith("worse: nDCG@10")


def test_false_promotion_rate_is_at_most_five_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfwise.rerank.evaluation.promotion.RESAMPLES", 400)

    def published(gain: float) -> int:
        count = 0
        for seed in range(100):
            random = np.random.default_rng(seed)
            served = random.uniform(0, 1, (3, JUDGED))
            other = served + random.normal(gain, 0.15, (3, JUDGED))
            count += decide(measures(*other), measures(*served)).publish
        return count

    assert published(0.0) <= 5
    assert published(-0.02) == 0
    assert published(0.05) >= 90


ALL = np.ones((1, 3), np.bool_)


def test_ties_keep_their_order_and_nan_scores_are_last() -> None:
    gains = np.array([[0.0, 1.0, 0.0]])
    assert reciprocal_rank(gains, np.zeros((1, 3)), ALL)[0] == 1 / 2
    assert reciprocal_rank(gains, np.array([[0.0, np.nan, -5.0]]), ALL)[0] == 1 / 3


def test_query_means_are_weighted_by_session() -> None:
    values, queries, weights = np.array([1.0, 4.0, 5.0]), np.array([0, 0, 2]), np.array([1.0, 2.0, 3.0])
    means, total = query_means(values, queries, 3, weights)
    assert means[0] == (1 * 1.0 + 2 * 4.0) / 3
    assert np.isnan(means[1])
    assert means[2] == 5.0
    assert total.tolist() == [3.0, 0.0, 3.0]


class TestSlices:
    def test_head_torso_and_tail_have_a_third_of_the_traffic_each(self) -> None:
        traffic = np.array([1.0] * 30 + [10.0] * 3 + [30.0])
        head, torso, tail = traffic_slices(traffic)
        assert [part.name for part in (head, torso, tail)] == ["head queries", "torso queries", "tail queries"]
        assert traffic[head.rows].tolist() == [30.0]
        assert traffic[torso.rows].tolist() == [10.0] * 3
        assert traffic[tail.rows].tolist() == [1.0] * 30

    @pytest.mark.parametrize("traffic", [[], [5.0], [2.0, 2.0, 2.0], [0.0, 0.0], [9.0, 1.0]])
    def test_every_query_is_in_one_traffic_slice(self, traffic: list[float]) -> None:
        parts = traffic_slices(np.array(traffic))
        assert np.sum([part.rows for part in parts], axis=0).tolist() == [1] * len(traffic)

    def test_slice_of_queries_with_new_products(self) -> None:
        gains = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        is_new = np.array([[True, False], [True, False], [True, True]])
        assert new_product_slice(gains, is_new).rows.tolist() == [True, False, False]

    def test_slice_of_queries_that_were_not_trained_on(self) -> None:
        assert new_query_slice(["drill", "saw", "drill"], {"saw"}).rows.tolist() == [True, False, True]

    def test_one_slice_per_language(self) -> None:
        found = language_slices(["zh", "en", "", "en"])
        assert [(part.name, part.rows.tolist()) for part in found] == [
            ("language en", [False, True, False, True]),
            ("language zh", [True, False, False, False]),
        ]
        assert language_slices(["en", "en"]) == language_slices([]) == ()


@pytest.fixture(scope="module")
def simulated() -> tuple[LoggedSearches, Floats]:
    return simulated_searches()


def test_a_ranking_compared_with_itself_makes_no_difference(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, attractiveness = simulated
    ranking = ordered(searches, attractiveness)
    (found,) = evaluate_rankings(searches, [ranking], base=ranking, replicates=5)
    (row,) = found.outcomes
    assert (row.difference, row.low, row.high) == (0.0, 0.0, 0.0)
    assert row.before == pytest.approx(clicks_of(searches, ranking, attractiveness), rel=0.1)


def test_products_never_shown_widen_the_interval(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, attractiveness = simulated
    ranking = ordered(searches, attractiveness)
    count = searches.log.count
    unseen = ranking.copy()
    unseen[:, 1] = count + np.arange(QUERIES)
    query = np.concatenate([searches.query, np.arange(QUERIES, dtype=np.int32)])
    wider = replace(searches, log=ClickLog(searches.log.pairs, searches.log.clicks, count + QUERIES), query=query)
    known, found = clicks(searches, ranking), clicks(wider, unseen)
    assert found.low < known.low
    assert found.high - found.low > 1.5 * (known.high - known.low)
    assert found.difference < known.difference


def test_a_ranking_of_products_never_shown_is_refused(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, _ = simulated
    count = searches.log.count
    ranking = np.arange(count, count + QUERIES * DEPTH, dtype=np.int32).reshape(QUERIES, DEPTH)
    query = np.concatenate([searches.query, np.repeat(np.arange(QUERIES, dtype=np.int32), DEPTH)])
    log = ClickLog(searches.log.pairs, searches.log.clicks, count + QUERIES * DEPTH)
    (found,) = evaluate_rankings(replace(searches, log=log, query=query), [ranking], replicates=2)
    assert found.refusal == "the log has shown 0% of what the new ranking shows first, 50% are needed"
    assert not found.outcomes


def test_a_log_in_which_no_product_changes_its_position_is_refused() -> None:
    pairs = np.tile(np.array([[0, 1]], np.int32), (1_000, 1))
    clicked = np.random.default_rng(0).random(pairs.shape) < 0.3
    searches = searches_of(ClickLog(pairs, clicked, 2), np.zeros(2, np.int32), np.arange(1_000))
    (found,) = evaluate_rankings(searches, [np.array([[1, 0]], np.int32)], replicates=2)
    assert found.refusal.startswith("0 clicks are on products that a query's lists had at several positions")


def test_few_clicks_are_refused(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, attractiveness = simulated
    few = replace(searches, evaluated=np.arange(searches.log.size) < 60)
    (found,) = evaluate_rankings(few, [ordered(searches, attractiveness)], replicates=2)
    assert "effective clicks, 100 are needed" in found.refusal or "of what the new ranking shows" in found.refusal
    nothing = replace(searches, evaluated=np.zeros(searches.log.size, np.bool_))
    (found,) = evaluate_rankings(nothing, [ordered(searches, attractiveness)])
    assert found.refusal == "there is no search to evaluate it on"


def test_events_become_a_log_with_the_pairs_of_rankings() -> None:
    begins = datetime(2026, 11, 2, tzinfo=UTC)
    rows = [
        ("impression", "1", "drill", "a", 1, "u1", begins - timedelta(days=1)),
        ("click", "1", "drill", "a", 1, "u1", begins - timedelta(days=1)),
        ("impression", "2", "drill", "b", 1, "u2", begins),
        ("purchase", "2", "drill", "b", 1, "u2", begins),
        ("impression", "3", "saw", "c", 1, "u1", begins),
    ]
    names = ["kind", "query_id", "query", "product_id", "position", "shopper", "time"]
    events = pl.DataFrame(rows, names, orient="row")
    searches, (table,) = logged_searches(events, [{"drill": ["b", "new"], "lamp": ["x"]}], begins, first=3, depth=5)
    assert searches.log.count == 4
    assert searches.query.tolist() == [0, 0, 1, 0]
    assert table.tolist() == [[1, 3, NOTHING], [NOTHING] * 3]
    assert searches.evaluated.tolist() == [False, True, False]
    assert searches.shopper.tolist() == [0, 1, 0]
    assert searches.acts[:, 0].tolist() == [[True, False, False], [False, False, True], [False, False, False]]
