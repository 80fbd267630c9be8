"""The steps of a run: what its progress tells of, timed, and put under the stages that every run has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from service.training.from_catalog import Progress


class Outcome(StrEnum):
    """What became of a stage."""

    DONE = "done"
    STOPPED = "stopped here"
    NOT_REACHED = "not reached"
    NOT_TRAINED = "not trained"
    """It says why, and the run went on."""
    LEFT = "left as it is"
    """Nobody asked for more."""


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
        self._done: list[tuple[str, Step]] = []
        self._left: dict[str, Outcome] = {}
        self._under = ""
        self._stage = ""
        self._current = ""
        self._began = 0.0

    @contextmanager
    def under(self, stage: str) -> Iterator[None]:
        """All steps that begin inside are of this stage, whatever their names."""
        self._under = stage
        try:
            yield
        finally:
            self._under = ""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """A step begins."""
        self._current, self._began = phase, self._clock()
        self._stage = self._under or _stage_of(phase)
        self._progress.begin(phase, total, unit)

    def advance(self, amount: int) -> None:
        """So much more of it is done."""
        self._progress.advance(amount)

    def end(self, summary: str) -> None:
        """It is over, and what it did."""
        self._done.append((self._stage, Step(self._current, summary, self._clock() - self._began)))
        self._current = ""
        self._progress.end(summary)

    def leave(self, outcome: Outcome, why: str) -> None:
        """The stage that it is `under` ends without what it is for, and says why; the run goes on."""
        if not self._current:
            self.begin(self._under, None, "")
        self._left[self._under] = outcome
        self.end(why)

    def stages(self, *, is_over: bool) -> tuple[Stage, ...]:
        """All stages; a run that is not over stopped in the last one that began."""
        steps = list(self._done)
        if self._current:
            steps.append((self._stage, Step(self._current, "", self._clock() - self._began)))
        outcomes: dict[str, Outcome] = dict.fromkeys((stage for stage, _ in steps), Outcome.DONE) | self._left
        if not is_over:
            outcomes[steps[-1][0] if steps else next(iter(_ABOUT))] = Outcome.STOPPED
        return tuple(_stage(name, outcomes.get(name, Outcome.NOT_REACHED), steps) for name in _ABOUT)


SHOPPERS, TOWERS = "shoppers", "towers"
_ABOUT = {
    "clean": "The tables of events are brought up to date: what cannot be is set aside, robots and fraud are left out.",
    TOWERS: "The encoder, which makes the vectors of all products: where asked for, a new one is trained and judged.",
    "click model": "What a product's place does to its clicks is told apart from what the product does.",
    "labels": "Each query becomes a list to learn from; later lists are kept, to choose by and to judge by.",
    "ranker": "The ranker that serves, or a new one, is trained; beside it, one on clicks as they are.",
    SHOPPERS: "What recommends is trained on what shoppers did next, and serves where it foretells that better.",
    "evaluation": "Each order is measured on the last lists, which nothing has learned from.",
    "gate": "The new ranker is compared with what serves, over all queries and over parts of them.",
    "publish": "The ranker serves from now on, or is kept aside with the reasons.",
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


def _stage(name: str, outcome: Outcome, steps: Sequence[tuple[str, Step]]) -> Stage:
    return Stage(name, _ABOUT[name], outcome, tuple(step for stage, step in steps if stage == name))
