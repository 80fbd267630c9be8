"""The report of a run of `shelfwise learn` as dataclasses, which define its JSON; docs/learn.md describes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec

from shelfwise.rerank.evaluation.off_policy import OffPolicyEstimate
from shelfwise.rerank.model_card import ModelReport
from shelfwise.rerank.ranker.spec import AddedRanker
from shelfwise.rerank.sessions.refresh import RefreshResult
from shelfwise.retrieval.progress import Progress
from shelfwise.service.training.click_dataset import FirstHits


def decision_of(added: AddedRanker) -> RunDecision:
    """The outcome of a run that trained a ranker."""
    if added.serves:
        return RunDecision.SERVES
    return RunDecision.REJECTED if added.model.report.rejection_reasons else RunDecision.SWITCHED_OFF


def summarize(added: AddedRanker, estimate: OffPolicyEstimate | None) -> Iterator[str]:
    """Sentences about a run that trained a ranker: the decision with its reasons, and the off-policy estimate."""
    report, ranker = added.model.report, f"The new ranker, {added.model.name},"
    reasons = "; ".join(report.rejection_reasons or (report.decision.reasons if report.decision else ()))
    match decision_of(added):
        case RunDecision.SERVES:
            yield f"{ranker} serves from now on in place of {report.against}. {reasons}"
        case RunDecision.SWITCHED_OFF:
            yield f"{ranker} may replace {report.against}, but does not serve: rankers are switched off. {reasons}"
        case _:
            yield f"{ranker} does not serve; {report.against} still serves. {reasons}"
    if estimate:
        yield f"{estimate.describe('the new ranker')}. This estimate does not decide."


def refusal_summary(why: str, stage: str) -> tuple[str, ...]:
    """Sentences about a run that stopped in a stage."""
    return f"No ranker was trained: {why}.", f"It stopped at: {stage}. What served before still serves."


class StageOutcome(StrEnum):
    """The outcome of a stage."""

    DONE = "done"
    STOPPED = "stopped here"
    NOT_REACHED = "not reached"
    NOT_TRAINED = "not trained"
    LEFT = "left as it is"


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded step of a stage."""

    name: str
    did: str
    """Summary of the step; empty if it did not end."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a run; every run lists all stages."""

    name: str
    about: str
    """Description of its purpose."""
    outcome: StageOutcome
    steps: tuple[Step, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)


class RecordedSteps:
    """A `Progress` that passes everything on and records each step with its duration."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.perf_counter) -> None:
        self._progress = progress
        self._clock = clock
        self._done: list[tuple[str, Step]] = []
        self._left: dict[str, StageOutcome] = {}
        self._under = ""
        self._stage = ""
        self._current = ""
        self._began = 0.0

    @contextmanager
    def under(self, stage: str) -> Iterator[None]:
        """Assigns steps that begin inside the context to this stage, whatever their names."""
        self._under = stage
        try:
            yield
        finally:
            self._under = ""

    @contextmanager
    def stage(
        self, name: str, failures: tuple[type[Exception], ...], others: tuple[type[Exception], ...] = ()
    ) -> Iterator[None]:
        """Like `under`; a failure except of the `others` ends the stage with its reason, and the run continues."""
        with self.under(name):
            try:
                yield
            except others:
                raise
            except failures as error:
                self.leave(StageOutcome.NOT_TRAINED, str(error))

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        self._current, self._began = phase, self._clock()
        self._stage = self._under or _STAGE_OF.get(phase, "ranker")
        self._progress.begin(phase, total, unit)

    def advance(self, amount: int) -> None:
        self._progress.advance(amount)

    def end(self, summary: str) -> None:
        self._done.append((self._stage, Step(self._current, summary, self._clock() - self._began)))
        self._current = ""
        self._progress.end(summary)

    def leave(self, outcome: StageOutcome, why: str) -> None:
        """Ends the stage set by `under` without a result, with the outcome and reason; the run continues."""
        if not self._current:
            self.begin(self._under, None, "")
        self._left[self._under] = outcome
        self.end(why)

    def stages(self, *, is_over: bool) -> tuple[Stage, ...]:
        """All stages in order; unless the run is over, the last stage that began is marked as stopped."""
        steps = list(self._done)
        if self._current:
            steps.append((self._stage, Step(self._current, "", self._clock() - self._began)))
        outcomes: dict[str, StageOutcome] = dict.fromkeys((stage for stage, _ in steps), StageOutcome.DONE) | self._left
        if not is_over:
            outcomes[steps[-1][0] if steps else next(iter(_ABOUT))] = StageOutcome.STOPPED
        return tuple(
            Stage(
                name,
                about,
                outcomes.get(name, StageOutcome.NOT_REACHED),
                tuple(step for stage, step in steps if stage == name),
            )
            for name, about in _ABOUT.items()
        )


SHOPPERS, TOWERS, EXPANSIONS = "shoppers", "towers", "expansions"
_ABOUT = {
    "clean": "The derived tables are refreshed: invalid events are rejected, bots and fraud are excluded.",
    TOWERS: "The encoder, which makes the vectors of all products, is trained and evaluated where requested.",
    "click model": "A click model separates position bias from the attractiveness of products.",
    "labels": "A training list is made for each query; later lists are held out for validation and the gate.",
    "ranker": "The serving ranker is trained further, or a new one is trained.",
    SHOPPERS: "The user tower is trained to predict shoppers' next acts, and serves if it predicts better.",
    "evaluation": "Each order is measured on the last lists, which no training has used.",
    "gate": "The new ranker is compared with the serving order, over all queries and by slice.",
    "publish": "The ranker serves from now on, or is rejected with the reasons.",
    EXPANSIONS: "Terms of products that match in place of query words are learned, and serve if searches improve.",
}
_STAGE_OF = {
    "events": "clean",
    "click model": "click model",
    "labels": "labels",
    "candidates": "labels",
    "trials": "labels",
    "export": "evaluation",
    "evaluation": "evaluation",
    "gate": "gate",
    "off-policy": "gate",
    "publish": "publish",
}
"""Stage by the name of a step; other steps belong to the training of the ranker."""


SCHEMA = 1
Days = Mapping[int, int]
"""Number of events of each day, by days since 1970."""


class RunDecision(StrEnum):
    """The outcome of a run."""

    SERVES = "serves"
    SWITCHED_OFF = "may serve, rankers are switched off"
    REJECTED = "rejected"
    REFUSED = "not trained"


@dataclass(frozen=True, slots=True)
class LearnedModel:
    """A model that a stage trained."""

    name: str
    """Name of the model, which has its own report; for an encoder, its folder."""
    serves: bool
    rejection_reasons: tuple[str, ...] = ()
    is_new: bool = True
    """Whether this run trained it; false if an earlier run did on the same data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnReport:
    """Report of one run."""

    started: datetime
    """Start time, UTC."""
    seconds: float
    """Duration of this run, without that of an interrupted run before it."""
    decision: RunDecision
    summary: tuple[str, ...]
    """The decision and its reasons, in sentences."""
    reasons: tuple[str, ...] = ()
    """Reasons of the gate; for a refused run, the error message."""
    ranker: str = ""
    """Name of the new ranker; empty if none was trained."""
    against: str = ""
    """Name of the order with which the new ranker was compared."""
    notices: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Names of removed rankers: the oldest, beyond the number to keep."""
    stages: tuple[Stage, ...]
    days: Days = field(default_factory=dict)
    """The events at the start of the last completed run, so that later removals do not hide new ones."""
    events: RefreshResult | None
    """The counts of the refresh; None if the run stopped before the events were cleaned."""
    report: ModelReport | None = None
    """The ranker's own report, as on its card; None if the run was refused."""
    examples: tuple[FirstHits, ...] = ()
    """Frequent held-out queries whose first hits the new ranker changes."""
    off_policy: OffPolicyEstimate | None = None
    """The estimated effect of the new ranker on the lists of the gate; None if no list has a known query."""
    learned: Mapping[str, LearnedModel] = field(default_factory=dict)
    """The user tower, the encoder and the query expansion, by stage; without those that were not trained, for which the
    stage has the reason."""
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)
