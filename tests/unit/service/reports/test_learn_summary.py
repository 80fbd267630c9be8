"""What a run decided, in sentences."""

from __future__ import annotations

import pytest

from rerank.evaluation.promotion import LIKELIHOOD, NDCG, Comparison
from service.reports.training import Curve, Findings, Gain, RunDecision, refusal_summary, summarize, user_tower_summary
from tests.reports import BETTER, UNSURE, WORSE, comparison, findings, recommends


def sentences(decision: RunDecision = RunDecision.REJECTED, found: Findings | None = None) -> str:
    return " ".join(summarize(decision, "ranker-0002", "ranker-0001", found or findings(), None))


def test_one_that_serves() -> None:
    text = sentences(RunDecision.SERVES)
    assert text.startswith("The new ranker, ranker-0002, serves from now on. It was found better than ranker-0001")
    assert "at 53.0% of the best possible order, ranker-0001 at 50.0% (nDCG@10)" in text
    assert "would have reached 51.0%: surely less." in text


def test_one_that_may_serve_while_rankers_are_off() -> None:
    assert "Rankers are switched off." in sentences(RunDecision.SWITCHED_OFF)


@pytest.mark.parametrize(
    ("comparisons", "why"),
    [
        (
            (comparison(WORSE, LIKELIHOOD), comparison(WORSE, NDCG, "tail queries")),
            "It is surely worse in click likelihood, nDCG@10 on tail queries.",
        ),
        ((comparison(UNSURE),), "It is not surely better: the difference may be chance."),
        ((comparison(None),), "Only 400 queries of the last lists can judge it: too few to decide."),
        ((Comparison(NDCG, "all queries", 0),), "Only 0 queries of the last lists can judge it: too few to decide."),
    ],
)
def test_why_one_is_kept_aside(comparisons: tuple[Comparison, ...], why: str) -> None:
    text = sentences(found=findings(comparisons=comparisons))
    assert text.startswith(f"The new ranker, ranker-0002, does not serve; ranker-0001 serves on. {why}")


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Gain(0.02, 0.01, 0.03), "surely less"),
        (Gain(-0.02, -0.03, -0.01), "surely more"),
        (Gain(0.0, -0.01, 0.01), "no sure difference"),
    ],
)
def test_beside_clicks_as_they_are(gain: Gain, said: str) -> None:
    assert f"would have reached 51.0%: {said}." in sentences(found=findings(above_naive=gain))


def test_the_naive_way_itself_is_not_set_beside_itself() -> None:
    only = (Curve("naive", findings().curves[1].epochs, 0.5),)
    assert "Training on raw clicks" not in sentences(found=findings(curves=only))


def test_one_that_was_refused_says_where() -> None:
    assert refusal_summary("nothing was clicked", "labels") == (
        "No ranker was trained: nothing was clicked.",
        "It stopped at: labels. What served before serves on.",
    )


def test_a_better_one_has_nothing_against_it() -> None:
    assert "surely worse" not in sentences(RunDecision.SERVES, findings(comparisons=(comparison(BETTER),)))


@pytest.mark.parametrize(
    ("reason", "is_new", "said"),
    [
        ("", True, "recommends from now on"),
        ("not surely better", True, "does not recommend: not surely better"),
        ("", False, "was trained on the same acts before, and recommends"),
        ("not surely better", False, "was trained on the same acts before, and does not recommend: not surely better"),
    ],
)
def test_what_recommends(reason: str, is_new: bool, said: str) -> None:
    (text,) = user_tower_summary(recommends(reason, is_new=is_new))
    assert text == (
        f"The user tower, tower-0003, {said}. What a shopper chose next is among its first ten for 25.0% of 400 "
        "shoppers; by near to the last products, for 20.0% (nDCG@10 0.1250 and 0.1000)."
    )


def test_no_tower_leaves_nothing_to_say() -> None:
    assert user_tower_summary(None) == ()
