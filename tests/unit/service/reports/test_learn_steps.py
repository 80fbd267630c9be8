"""Steps as they are noted, under the stages that every run has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from retrieval.progress import NullProgress
from service.reports.training import SHOPPERS, RecordedSteps, StageOutcome, Step


def clock() -> Iterator[float]:
    """A second passes between any two looks."""
    second = 0.0
    while True:
        yield second
        second += 1.0


def recorded(*names: str) -> RecordedSteps:
    """Steps that came to their end."""
    ticks = clock()
    steps = RecordedSteps(NullProgress(), lambda: next(ticks))
    for name in names:
        steps.begin(name, None, "")
        steps.advance(1)
        steps.end(f"{name} is done")
    return steps


def test_each_step_is_timed_and_stands_under_its_stage() -> None:
    stages = {stage.name: stage for stage in recorded("events", "labels", "trials").stages(is_over=True)}
    assert stages["clean"].steps == (Step("events", "events is done", 1.0),)
    assert [step.name for step in stages["labels"].steps] == ["labels", "trials"]
    assert stages["labels"].seconds == 2.0


def test_whatever_is_trained_is_of_one_stage() -> None:
    stages = {stage.name: stage for stage in recorded("debiased", "naive", "histories").stages(is_over=True)}
    assert [step.name for step in stages["ranker"].steps] == ["debiased", "naive", "histories"]


def test_steps_under_a_stage_are_of_it_whatever_their_names() -> None:
    steps = recorded("debiased")
    with steps.under(SHOPPERS):
        steps.begin("train", None, "")
        steps.end("12 epochs")
    steps.begin("evaluation", None, "")
    stages = {stage.name: stage for stage in steps.stages(is_over=False)}
    assert [step.name for step in stages["ranker"].steps] == ["debiased"]
    assert [step.name for step in stages[SHOPPERS].steps] == ["train"]
    assert stages["evaluation"].outcome is StageOutcome.STOPPED


@pytest.mark.parametrize("inside", [True, False])
def test_a_stage_that_is_left_says_why_and_the_run_goes_on(inside: bool) -> None:
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


def test_a_run_that_is_not_over_stopped_where_it_was() -> None:
    steps = recorded("events", "click model")
    steps.begin("labels", None, "")
    stages = steps.stages(is_over=False)
    outcomes = {stage.name: stage.outcome for stage in stages}
    assert [outcomes[name] for name in ("clean", "click model")] == [StageOutcome.DONE, StageOutcome.DONE]
    assert (outcomes["towers"], outcomes["ranker"]) == (StageOutcome.NOT_REACHED, StageOutcome.NOT_REACHED)
    (stopped,) = (stage for stage in stages if stage.outcome is StageOutcome.STOPPED)
    assert stopped.name == "labels"
    assert stopped.steps == (Step("labels", "", 1.0),)


def test_one_that_stopped_between_two_steps_stopped_in_the_first() -> None:
    stages = recorded("events").stages(is_over=False)
    assert [stage.outcome for stage in stages[:2]] == [StageOutcome.STOPPED, StageOutcome.NOT_REACHED]


def test_one_that_never_began_stopped_at_once() -> None:
    stages = recorded().stages(is_over=False)
    assert [stage.outcome for stage in stages[:2]] == [StageOutcome.STOPPED, StageOutcome.NOT_REACHED]
