"""The report of a run of `shelfwise learn`: summary and steps."""

from __future__ import annotations

import io
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from shelfwise.rerank.evaluation.promotion import LIKELIHOOD, NDCG, MeasureComparison
from shelfwise.retrieval.progress import NullProgress
from shelfwise.service.reports.training import (
    SHOPPERS,
    Curve,
    Findings,
    Gain,
    LearnReport,
    RecordedSteps,
    RunDecision,
    StageOutcome,
    Step,
    refusal_summary,
    show_learned,
    summarize,
    user_tower_summary,
)
from tests.reports import HOSTILE, UNSURE, WORSE, comparison, findings, learn_report, off_policy, recommends


def sentences(decision: RunDecision = RunDecision.REJECTED, found: Findings | None = None) -> str:
    return " ".join(summarize(decision, "ranker-0002", "ranker-0001", found or findings(), None))


def test_serving_ranker_is_reported() -> None:
    text = sentences(RunDecision.SERVES)
    assert text.startswith("The new ranker, ranker-0002, serves from now on. It is better than ranker-0001")
    assert "at 53.0% of the best possible order, ranker-0001 at 50.0% (nDCG@10)" in text
    assert "would have reached 51.0%: surely less." in text
    assert "rankers are switched off." in sentences(RunDecision.SWITCHED_OFF)


@pytest.mark.parametrize(
    ("comparisons", "why"),
    [
        (
            (comparison(WORSE, LIKELIHOOD), comparison(WORSE, NDCG, "tail queries")),
            "It is surely worse in click likelihood, nDCG@10 on tail queries.",
        ),
        ((comparison(UNSURE),), "It is not surely better: the difference may be chance."),
        ((comparison(None),), "Only 400 queries of the last lists can test it: too few to decide."),
        (
            (MeasureComparison(NDCG, "all queries", 0),),
            "Only 0 queries of the last lists can test it: too few to decide.",
        ),
    ],
)
def test_rejected_ranker_has_reasons(comparisons: tuple[MeasureComparison, ...], why: str) -> None:
    text = sentences(found=findings(comparisons=comparisons))
    assert text.startswith(f"The new ranker, ranker-0002, does not serve; ranker-0001 still serves. {why}")


@pytest.mark.parametrize(
    ("gain", "message"),
    [
        (Gain(0.02, 0.01, 0.03), "surely less"),
        (Gain(-0.02, -0.03, -0.01), "surely more"),
        (Gain(0.0, -0.01, 0.01), "no sure difference"),
    ],
)
def test_comparison_with_naive_clicks_unless_trained_on_them(gain: Gain, message: str) -> None:
    assert f"would have reached 51.0%: {message}." in sentences(found=findings(above_naive=gain))
    only = (Curve("naive", findings().curves[1].epochs, 0.5),)
    assert "Training on raw clicks" not in sentences(found=findings(above_naive=gain, curves=only))


def test_refused_training_names_its_stage() -> None:
    assert refusal_summary("nothing was clicked", "labels") == (
        "No ranker was trained: nothing was clicked.",
        "It stopped at: labels. What served before still serves.",
    )


@pytest.mark.parametrize(
    ("reason", "is_new", "message"),
    [
        ("", True, "recommends from now on"),
        ("not surely better", True, "does not recommend: not surely better"),
        ("", False, "was trained in an earlier run, and recommends"),
        ("not surely better", False, "was trained in an earlier run, and does not recommend: not surely better"),
    ],
)
def test_user_tower_is_reported(reason: str, is_new: bool, message: str) -> None:
    assert user_tower_summary(None) == ()
    (text,) = user_tower_summary(recommends(reason, is_new=is_new))
    assert text == (
        f"The user tower, tower-0003, {message}. What a shopper chose next is among its first ten for 25.0% of 400 "
        "shoppers; by near to the last products, for 20.0% (nDCG@10 0.1250 and 0.1000)."
    )


def recorded(*names: str) -> RecordedSteps:
    """Steps by a clock that advances by a second at each reading."""
    steps = RecordedSteps(NullProgress(), map(float, count()).__next__)
    for name in names:
        steps.begin(name, None, "")
        steps.advance(1)
        steps.end(f"{name} is done")
    return steps


@pytest.mark.parametrize("inside", [True, False])
def test_skipped_stage_has_a_reason_and_the_run_continues(inside: bool) -> None:
    steps = recorded("debiased")
    with steps.under(SHOPPERS):
        if inside:
            steps.begin("acts", None, "")
        steps.leave(StageOutcome.NOT_TRAINED, "too few shoppers")
    steps.begin("evaluation", None, "")
    steps.end("evaluated")
    stages = {stage.name: stage for stage in steps.stages(is_over=True)}
    assert stages[SHOPPERS].outcome is StageOutcome.NOT_TRAINED
    assert stages[SHOPPERS].steps == (Step("acts" if inside else SHOPPERS, "too few shoppers", 1.0),)
    assert stages["evaluation"].outcome is StageOutcome.DONE
    assert stages["towers"].outcome is StageOutcome.NOT_REACHED


def test_unfinished_run_shows_where_it_stopped() -> None:
    steps = recorded("events", "click model")
    steps.begin("labels", None, "")
    stages = steps.stages(is_over=False)
    outcomes = {stage.name: stage.outcome for stage in stages}
    assert [outcomes[name] for name in ("clean", "click model")] == [StageOutcome.DONE, StageOutcome.DONE]
    assert (outcomes["towers"], outcomes["ranker"]) == (StageOutcome.NOT_REACHED, StageOutcome.NOT_REACHED)
    (stopped,) = (stage for stage in stages if stage.outcome is StageOutcome.STOPPED)
    assert stopped.name == "labels"
    assert stopped.steps == (Step("labels", "", 1.0),)


@pytest.mark.parametrize("done", [("events",), ()], ids=["between two steps", "before the first"])
def test_run_between_steps_stopped_in_the_last_started_step(done: tuple[str, ...]) -> None:
    stages = recorded(*done).stages(is_over=False)
    assert [stage.outcome for stage in stages[:2]] == [StageOutcome.STOPPED, StageOutcome.NOT_REACHED]


def shown(report: LearnReport, width: int = 100) -> str:
    file = io.StringIO()
    show_learned(report, Path("store/training/learn.json"), Path("store"), Console(file=file, width=width))
    return file.getvalue()


def test_terminal_shows_a_summary() -> None:
    text = shown(learn_report())
    assert text.splitlines()[0] == "The new ranker is rejected"
    assert "left as it is" not in text  # the file says more
    assert text.count("nothing was clicked") >= 4
    assert "stopped here" in text
    assert "merged order" in text
    assert text.splitlines()[-1] == "Full report: store/training/learn.json"
    assert not {"\x1b", "\x07"} & {*shown(learn_report(HOSTILE))}
    served = shown(learn_report(decision=RunDecision.SERVES, against="ranker-0001"))
    assert "to go back to it: shelfwise models rollback store" in served


def test_first_hits_before_and_after_are_shown_per_query() -> None:
    report = learn_report(findings=findings())
    lines = [line.split("  ") for line in shown(report).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows[rows.index(["query", "first hits before", "with the new ranker"]) + 1 :][:2] == [
        ["steel pan", "Pan lid", "Steel pan"],
        ["Steel pan", "Iron pan"],
    ]


def test_the_off_policy_estimate_of_the_new_ranker_is_reported() -> None:
    sentence = (
        "By the clicks of 2,000 searches, the new ranker would have brought 0.520 clicks a search and what was served "
        "0.500: +4.0% (95%: +2.0% to +6.0%), surely more"
    )
    assert f"{sentence}. This estimate does not decide." in sentences(found=findings())
    refused = findings(off_policy=off_policy("the log has shown 12% of it"))
    assert "would have achieved: the log has shown 12% of it. This" in sentences(found=refused)
