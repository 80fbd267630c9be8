"""The gate's rule: what is published, what speaks against it, and how often chance gets through."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from rerank.click_models.click_log import Floats
from rerank.evaluation.promotion import Decision, GateRules, QueryMeasures, Slice, decide
from retrieval.errors import InputError

QUERIES = 200
RULES = GateRules(resamples=1_000)
SLICE = Slice("language zh", np.arange(QUERIES) < 60)


def moved(ndcg: float = 0.0, rank: float = 0.0, likelihood: float = 0.0, noise: float = 0.02) -> Floats:
    """(3, n): differences of so much in the mean, of the same noise in each measure."""
    drawn = np.random.default_rng(1).normal(0, noise, QUERIES)
    drawn -= drawn.mean()
    return np.array([drawn + ndcg, drawn + rank, drawn + likelihood])


def verdict(differences: Floats, slices: tuple[Slice, ...] = (), rules: GateRules = RULES) -> Decision:
    served = np.random.default_rng(2).uniform(0.2, 0.8, (3, QUERIES))
    return decide(QueryMeasures(*(served + differences)), QueryMeasures(*served), None, slices, rules)


class TestGrounds:
    def test_better_by_ndcg(self) -> None:
        found = verdict(moved(ndcg=0.01))
        assert found.publish
        (reason,) = found.reasons
        assert reason.startswith("better: nDCG@10 +0.0100 (+0.0")

    def test_not_worse_by_ndcg_and_better_by_clicks(self) -> None:
        found = verdict(moved(likelihood=0.01))
        assert found.publish
        assert found.reasons[0].startswith("better: click likelihood +0.0100")
        assert "; not worse: nDCG@10 +0.0000" in found.reasons[0]

    def test_better_by_clicks_alone_is_none_where_ndcg_may_be_worse(self) -> None:
        found = verdict(moved(likelihood=0.01), rules=dataclasses.replace(RULES, ndcg_margin=0.001))
        assert not found.publish
        assert found.reasons[0].startswith("not surely better, and perhaps worse by 0.001 or more: nDCG@10")

    def test_better_by_mrr_alone_is_none(self) -> None:
        found = verdict(moved(rank=0.05))
        assert not found.publish
        assert [reason.partition(":")[0] for reason in found.reasons] == ["not surely better"] * 2

    def test_the_same_ranker_is_not_published_again(self) -> None:
        assert not verdict(np.zeros((3, QUERIES))).publish

    def test_nothing_speaks_for_what_few_queries_say(self) -> None:
        found = verdict(moved(ndcg=0.05), rules=dataclasses.replace(RULES, least_queries=QUERIES + 1))
        assert found.reasons == ("nDCG@10: 200 held-out queries have it; 201 are needed",)
        assert found.comparisons[0].difference is None

    def test_without_sessions_ndcg_decides(self) -> None:
        differences = moved(ndcg=0.01)
        differences[2] = np.nan
        assert verdict(differences).publish
        differences[0] -= 0.01
        assert (
            verdict(differences).reasons[1]
            == "not surely better: click likelihood: 0 queries have it, too few to decide"
        )


class TestGuards:
    @pytest.mark.parametrize(
        ("name", "change"), [("MRR", {"rank": -0.01}), ("click likelihood", {"likelihood": -0.01})]
    )
    def test_any_measure_that_is_worse_over_all_queries(self, name: str, change: dict[str, float]) -> None:
        found = verdict(moved(**{"ndcg": 0.05, **change}))
        assert not found.publish
        (reason,) = found.reasons
        assert reason.startswith(f"worse: {name} -0.0100")

    def test_worse_by_ndcg_is_said_once(self) -> None:
        (reason,) = verdict(moved(ndcg=-0.01)).reasons
        assert reason.startswith("worse: nDCG@10 -0.0100")

    @pytest.mark.parametrize(("row", "name"), [(0, "nDCG@10"), (2, "click likelihood")])
    def test_a_slice_that_is_worse_however_good_the_whole_is(self, row: int, name: str) -> None:
        differences = moved(ndcg=0.05, likelihood=0.05)
        differences[row, SLICE.rows] -= 0.1
        found = verdict(differences, (SLICE,))
        assert not found.publish
        (reason,) = found.reasons
        assert reason.startswith(f"worse: {name} on language zh -0.0")
        assert verdict(differences).publish

    def test_a_slice_of_few_queries_decides_nothing_and_is_shown(self) -> None:
        differences = moved(ndcg=0.05)
        few = Slice("new products", np.arange(QUERIES) < RULES.least_queries - 1)
        differences[0, few.rows] -= 0.06
        found = verdict(differences, (few,))
        assert found.publish
        shown = found.comparisons[3]
        assert (shown.slice, shown.queries, shown.difference) == ("new products", 49, None)
        assert shown.challenger is not None

    def test_a_slice_without_queries(self) -> None:
        found = verdict(moved(ndcg=0.05), (Slice("none", np.zeros(QUERIES, np.bool_)),))
        assert found.publish
        assert str(found.comparisons[3]) == "nDCG@10 on none: 0 queries have it, too few to decide"


def test_traffic_weighs_the_queries() -> None:
    served = np.full(QUERIES, 0.5)
    challenger = np.where(np.arange(QUERIES) < 50, 0.6, 0.49)
    unknown = np.full(QUERIES, np.nan)
    one, other = QueryMeasures(challenger, unknown, unknown), QueryMeasures(served, unknown, unknown)
    traffic = np.where(np.arange(QUERIES) < 50, 1.0, 100.0)
    assert decide(one, other, rules=RULES).publish
    assert decide(one, other, traffic, rules=RULES).reasons[0].startswith("worse: nDCG@10")


def test_arrays_of_different_lengths_are_refused() -> None:
    three, two = (QueryMeasures(*np.zeros((3, count))) for count in (3, 2))
    with pytest.raises(InputError, match="all queries count 2, 3 queries"):
        decide(three, two)
    with pytest.raises(InputError, match="count 2, 3 queries"):
        decide(three, three, np.ones(2))
    with pytest.raises(InputError, match="language zh count 3, 200 queries"):
        decide(three, three, slices=(SLICE,))


def test_a_verdict_comes_back_from_json_as_it_was() -> None:
    found = verdict(moved(ndcg=0.05), (SLICE,))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Decision) == found


def test_chance_publishes_one_equal_ranker_in_twenty_at_most_and_hardly_a_worse_one() -> None:
    def published(gain: float) -> int:
        count = 0
        for seed in range(100):
            random = np.random.default_rng(seed)
            served = random.uniform(0, 1, (3, QUERIES))
            other = served + random.normal(gain, 0.15, (3, QUERIES))
            rules = dataclasses.replace(RULES, resamples=400)
            count += decide(QueryMeasures(*other), QueryMeasures(*served), rules=rules).publish
        return count

    assert published(0.0) <= 5
    assert published(-0.02) == 0
    assert published(0.05) >= 90
