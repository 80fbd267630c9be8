"""The promotion gates: their measures, slices and rules."""

from __future__ import annotations

import numpy as np
import pytest

from shelfwise.rerank.click_models.click_log import Floats
from shelfwise.rerank.evaluation.metrics import query_means, reciprocal_rank
from shelfwise.rerank.evaluation.promotion import (
    LEAST_JUDGED,
    Decision,
    QueryMeasures,
    Slice,
    decide,
    language_slices,
    new_product_slice,
    new_query_slice,
    traffic_slices,
)
from shelfwise.retrieval.errors import InputError

QUERIES = 200
SLICE = Slice("language zh", np.arange(QUERIES) < 60)


def moved(ndcg: float = 0.0, rank: float = 0.0, likelihood: float = 0.0, noise: float = 0.02) -> Floats:
    """Differences (3, n) with these means and the same noise in each measure."""
    drawn = np.random.default_rng(1).normal(0, noise, QUERIES)
    drawn -= drawn.mean()
    return np.array([drawn + ndcg, drawn + rank, drawn + likelihood])


def decision_for(differences: Floats, slices: tuple[Slice, ...] = ()) -> Decision:
    served = np.random.default_rng(2).uniform(0.2, 0.8, (3, QUERIES))
    return decide(QueryMeasures(*(served + differences)), QueryMeasures(*served), None, slices)


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
        "equal": (np.zeros((3, QUERIES)), False, NEITHER),
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
        few = Slice("new products", np.arange(QUERIES) < LEAST_JUDGED - 1)
        differences[0, few.rows] -= 0.06
        found = decision_for(differences, (few,))
        assert found.publish
        shown = found.comparisons[3]
        assert (shown.slice, shown.queries, shown.difference) == ("new products", 49, None)
        assert shown.challenger is not None


def test_queries_are_weighted_by_traffic() -> None:
    served = np.full(QUERIES, 0.5)
    challenger = np.where(np.arange(QUERIES) < 50, 0.6, 0.49)
    unknown = np.full(QUERIES, np.nan)
    one, other = QueryMeasures(challenger, unknown, unknown), QueryMeasures(served, unknown, unknown)
    traffic = np.where(np.arange(QUERIES) < 50, 1.0, 100.0)
    assert decide(one, other).publish
    assert decide(one, other, traffic).reasons[0].startswith("worse: nDCG@10")


def test_arrays_of_different_lengths_are_refused() -> None:
    three, two = (QueryMeasures(*np.zeros((3, count))) for count in (3, 2))
    with pytest.raises(InputError, match="all queries count 2, 3 queries"):
        decide(three, two)
    with pytest.raises(InputError, match="count 2, 3 queries"):
        decide(three, three, np.ones(2))
    with pytest.raises(InputError, match="language zh count 3, 200 queries"):
        decide(three, three, slices=(SLICE,))


def test_false_promotion_rate_is_at_most_five_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfwise.rerank.evaluation.promotion.RESAMPLES", 400)

    def published(gain: float) -> int:
        count = 0
        for seed in range(100):
            random = np.random.default_rng(seed)
            served = random.uniform(0, 1, (3, QUERIES))
            other = served + random.normal(gain, 0.15, (3, QUERIES))
            count += decide(QueryMeasures(*other), QueryMeasures(*served)).publish
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
