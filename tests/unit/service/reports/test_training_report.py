"""The report of a run of `shelfwise learn`: summary and steps."""

from __future__ import annotations

import io
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from shelfwise.rerank.evaluation.promotion import Decision
from shelfwise.retrieval.progress import NullProgress
from shelfwise.service.cli import output
from shelfwise.service.cli.train import show_learned
from shelfwise.service.reports.training import (
    SHOPPERS,
    LearnReport,
    RecordedSteps,
    RunDecision,
    StageOutcome,
    Step,
    summarize,
)
from tests.reports import HOSTILE, added_ranker, learn_report, off_policy


def test_summary_has_the_decision_its_reasons_and_the_estimate() -> None:
    better, worse = Decision(True, ("better: nDCG@10",), ()), Decision(False, ("worse: MRR", "worse: nDCG@10"), ())
    decision, estimate = summarize(added_ranker(better, serves=True), off_policy())
    assert decision == "The new ranker, ranker-0002, serves from now on in place of ranker-0001. better: nDCG@10"
    assert "+4.0% (95%: +2.0% to +6.0%), surely more. This estimate does not decide." in estimate
    assert "rankers are switched off. better: nDCG@10" in next(summarize(added_ranker(better), None))
    assert "ranker-0001 still serves. worse: MRR; worse: nDCG@10" in next(summarize(added_ranker(worse), None))


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


def shown(report: LearnReport) -> str:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "out", Console(file=file, width=100))
        show_learned(report, Path("store/training/learn.json"), Path("store"))
    return file.getvalue()


def test_terminal_shows_a_summary() -> None:
    text = shown(learn_report())
    assert text.splitlines()[0] == "nothing was clicked"
    assert "left as it is" not in text  # the file says more
    assert text.count("nothing was clicked") >= 4
    assert "stopped here" in text
    assert text.splitlines()[-1] == "Full report: store/training/learn.json"
    assert not {"\x1b", "\x07"} & {*shown(learn_report(HOSTILE))}
    served = shown(learn_report(decision=RunDecision.SERVES, against="ranker-0001"))
    assert "to go back to it: shelfwise models rollback store" in served
