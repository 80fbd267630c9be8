"""The steps of a run: what its progress tells of, timed, and put under the stages that every run has."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from service.training.from_catalog import Progress


class Outcome(StrEnum):
    """What became of a stage."""

    DONE = "done"
    STOPPED = "stopped here"
    NOT_REACHED = "not reached"
    NOT_MADE = "not part of this version"


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a stage."""

    name: str
    did: str
    """What it did and decided; empty for one that did not come to its end."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the stages that every run has, in their order."""

    name: str
    about: str
    """What it is for."""
    outcome: Outcome
    steps: tuple[Step, ...] = ()

    @property
    def seconds(self) -> float:
        """How long its steps took together."""
        return sum(step.seconds for step in self.steps)


class RecordedSteps:
    """Passes a run's progress on, and notes each step with how long it took."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.perf_counter) -> None:
        self._progress = progress
        self._clock = clock
        self._done: list[Step] = []
        self._current = ""
        self._began = 0.0

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """A step begins."""
        self._current, self._began = phase, self._clock()
        self._progress.begin(phase, total, unit)

    def advance(self, amount: int) -> None:
        """So much more of it is done."""
        self._progress.advance(amount)

    def end(self, summary: str) -> None:
        """It is over, and what it did."""
        self._done.append(Step(self._current, summary, self._clock() - self._began))
        self._current = ""
        self._progress.end(summary)

    def stages(self, *, is_over: bool) -> tuple[Stage, ...]:
        """All stages; a run that is not over stopped in the last one that began."""
        steps = list(self._done)
        if self._current:
            steps.append(Step(self._current, "", self._clock() - self._began))
        last = _stage_of(steps[-1].name) if steps else next(iter(_ABOUT))
        return tuple(_stage(name, steps, "" if is_over else last) for name in _ABOUT)


_ABOUT = {
    "clean": "The tables of events are brought up to date: what cannot be is set aside, robots and fraud are left out.",
    "click model": "What a product's place does to its clicks is told apart from what the product does.",
    "labels": "Each query becomes a list to learn from; later lists are kept, to choose by and to judge by.",
    "towers": "The encoder stays as it is: to train the towers on a store's own clicks is not written yet.",
    "ranker": "The ranker that serves, or a new one, is trained; beside it, one on clicks as they are.",
    "evaluation": "Each order is measured on the last lists, which nothing has learned from.",
    "gate": "The new ranker is compared with what serves, over all queries and over parts of them.",
    "publish": "It serves from now on, or is kept aside with the reasons.",
}
_RANKER = "ranker"
_STAGE_OF = {
    "events": "clean",
    "click model": "click model",
    "labels": "labels",
    "candidates": "labels",
    "trials": "labels",
    "export": "evaluation",
    "evaluation": "evaluation",
    "gate": "gate",
    "publish": "publish",
}


def _stage_of(step: str) -> str:
    """All that is trained, by whatever name, is of one stage."""
    return _STAGE_OF.get(step, _RANKER)


def _stage(name: str, steps: list[Step], stopped: str) -> Stage:
    own = tuple(step for step in steps if _stage_of(step.name) == name)
    if name == "towers":
        outcome = Outcome.NOT_MADE
    elif name == stopped:
        outcome = Outcome.STOPPED
    else:
        outcome = Outcome.DONE if own else Outcome.NOT_REACHED
    return Stage(name, _ABOUT[name], outcome, own)
