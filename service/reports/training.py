"""The report of a run of `shelfwise learn` as a value, whose JSON is its schema; docs/learn.md describes it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec
import numpy as np

from rerank.click_models.evaluation import HeldOutFit
from rerank.evaluation.off_policy import OffPolicyEstimate
from rerank.evaluation.promotion import ALL_QUERIES, NDCG, MeasureComparison
from rerank.expansions import ExpansionReport
from rerank.ranker.spec import NAIVE, OrderResult
from rerank.sessions.refresh import RefreshResult
from rerank.training.click_dataset import ClickEvidence
from rerank.training.trainer import Epoch, best_of
from rerank.user_tower.files import UserTowerReport
from retrieval.progress import Progress
from service.training.click_dataset import ClickTraining, FirstHits
from service.training.user_tower import TOWER


def findings(done: ClickTraining) -> Findings:
    """The values of a report from a training."""
    made, report = done.dataset, done.added.model.report
    return Findings(
        lists=made.evidence.log.size,
        queries=made.clicks.query_count,
        judging_lists=made.held_out.log.size,
        left_out=made.clicks.excluded.counts(),
        borrowed=made.evidence.borrowed,
        models=made.predictions,
        positions=_positions(made.evidence),
        curves=tuple(Curve(way, tuple(each.curve), each.mixing.ndcg) for way, each in done.networks.items()),
        orders=report.orders,
        above_naive=_gain(report.measures),
        comparisons=report.decision.comparisons if report.decision else (),
        examples=done.examples,
        off_policy=done.off_policy,
    )


def _positions(evidence: ClickEvidence) -> tuple[Position, ...]:
    """Positions with impressions."""
    shown, clicks = evidence.log.shown.sum(axis=0), evidence.acts[..., 0].sum(axis=0)
    return tuple(
        Position(at + 1, int(shown[at]), int(clicks[at]), _known(float(evidence.examination[at])))
        for at in np.flatnonzero(shown).tolist()
    )


def _gain(measures: Mapping[str, float]) -> Gain | None:
    named = ("above naive", "above naive, at least", "above naive, at most")
    return Gain(*(measures[name] for name in named)) if all(name in measures for name in named) else None


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def summarize(
    decision: RunDecision, ranker: str, against: str, found: Findings, events: EventCounts | None
) -> Iterator[str]:
    """Sentences about a completed run; `against` is what the new ranker was compared with."""
    if decision is RunDecision.SERVES:
        yield f"The new ranker, {ranker}, serves from now on. It was found better than {against}, which served before."
    elif decision is RunDecision.SWITCHED_OFF:
        yield f"The new ranker, {ranker}, may serve: it was found better than {against}. Rankers are switched off."
    else:
        yield f"The new ranker, {ranker}, does not serve; {against} serves on. {_why_not(found.comparisons)}"
    yield from _reached(against, found)
    if found.off_policy:
        yield f"{found.off_policy.describe('the new ranker')}. This estimate does not decide."
    bots = f" Bots and fraud are left out: {events.flagged_sessions:,} sessions." if events else ""
    yield f"It learned from {found.lists:,} lists that shoppers were shown, of {found.queries:,} queries.{bots}"
    yield from _compared_with_naive(found)


def refusal_summary(why: str, stage: str) -> tuple[str, ...]:
    """Sentences about a run that stopped in a stage."""
    return f"No ranker was trained: {why}.", f"It stopped at: {stage}. What served before serves on."


def user_tower_summary(found: UserTowerResult | None) -> tuple[str, ...]:
    """A sentence about the user tower, where there is one."""
    if found is None:
        return ()
    new, before = (
        next(way for way in found.report.methods if way.name == name) for name in (TOWER, found.report.against)
    )
    decision = "recommends" if found.serves else f"does not recommend: {'; '.join(found.report.rejection_reasons)}"
    if not found.is_new:
        decision = f"was trained on the same acts before, and {decision}"
    elif found.serves:
        decision += " from now on"
    return (
        f"The user tower, {found.tower}, {decision}. What a shopper chose next is among its first ten for "
        f"{new.hit_rate:.1%} of {found.report.shoppers:,} shoppers; by {before.name}, for {before.hit_rate:.1%} "
        f"(nDCG@10 {new.ndcg:.4f} and {before.ndcg:.4f}).",
    )


def expansions_summary(found: ExpansionResult | None) -> tuple[str, ...]:
    """A sentence about query expansion, where it was trained."""
    if found is None:
        return ()
    reached, before = found.report.measures.values()
    reasons = "; ".join(found.report.rejection_reasons)
    decision = "serves from now on" if found.serves else f"does not serve: {reasons or 'expansions are switched off'}"
    return (
        f"Query expansion, {found.expansion}, of {found.words:,} words, {decision}. With it searches reach "
        f"{reached:.1%} of the best possible order on the last lists, without it {before:.1%} ({NDCG}).",
    )


def encoder_summary(found: TextTowers | None) -> tuple[str, ...]:
    """A sentence about the encoder, where one was trained."""
    if found is None or not found.folder:
        return ()
    decision = f"serves from now on, as {found.version}" if found.version else "is rejected"
    return (f"The encoder that was trained on {found.queries:,} clicked queries {decision}.",)


def _why_not(comparisons: Sequence[MeasureComparison]) -> str:
    if worse := [each for each in comparisons if each.is_worse]:
        named = (each.measure if each.slice == ALL_QUERIES else f"{each.measure} on {each.slice}" for each in worse)
        return f"It is surely worse in {', '.join(named)}."
    whole = _whole(comparisons)
    if whole is None or whole.difference is None:
        return f"Only {whole.queries if whole else 0:,} queries of the last lists can test it: too few to decide."
    return "It is not surely better: the difference may be chance."


def _reached(against: str, found: Findings) -> Iterator[str]:
    whole = _whole(found.comparisons)
    if whole is not None and whole.challenger is not None and whole.served is not None:
        yield (
            f"On the last {found.judging_lists:,} lists, which it had not seen, it puts what shoppers clicked and "
            f"bought at {whole.challenger:.1%} of the best possible order, {against} at {whole.served:.1%} ({NDCG})."
        )


def _compared_with_naive(found: Findings) -> Iterator[str]:
    """Where the requested way is not the naive one."""
    reached = {each.order: each.ndcg for each in found.orders}
    gain = found.above_naive
    if gain is None or NAIVE not in reached or found.curves[0].method == NAIVE:
        return
    sure = "surely less" if gain.low > 0 else "surely more" if gain.high < 0 else "no sure difference"
    yield (
        "Training on raw clicks, without correction for position bias, would have reached "
        f"{reached[NAIVE]:.1%}: {sure}."
    )


def _whole(comparisons: Sequence[MeasureComparison]) -> MeasureComparison | None:
    """nDCG@10 over all queries."""
    return next((each for each in comparisons if (each.measure, each.slice) == (NDCG, ALL_QUERIES)), None)


class StageOutcome(StrEnum):
    """The outcome of a stage."""

    DONE = "done"
    STOPPED = "stopped here"
    NOT_REACHED = "not reached"
    NOT_TRAINED = "not trained"
    LEFT = "left as it is"


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a stage."""

    name: str
    did: str
    """Its summary; empty for one that did not end."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the stages of every run."""

    name: str
    about: str
    """Its purpose."""
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
        """Steps that begin inside belong to this stage, whatever their names."""
        self._under = stage
        try:
            yield
        finally:
            self._under = ""

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
        """Ends the stage that it is `under` without its result, with the reason; the run goes on."""
        if not self._current:
            self.begin(self._under, None, "")
        self._left[self._under] = outcome
        self.end(why)

    def stages(self, *, is_over: bool) -> tuple[Stage, ...]:
        """All stages; a run that is not over stopped in the last one that began."""
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
    "clean": "The derived tables are refreshed: invalid events are rejected, bots and fraud are left out.",
    TOWERS: "The encoder, which makes the vectors of all products, is trained and evaluated where requested.",
    "click model": "A click model separates position bias from the attractiveness of products.",
    "labels": "Each query becomes a list to train on; later lists are held out for validation and for the gate.",
    "ranker": "The ranker that serves, or a new one, is trained, and another one on raw clicks.",
    SHOPPERS: "The user tower is trained to predict shoppers' next acts, and serves where it predicts better.",
    "evaluation": "Each order is measured on the last lists, which nothing has learned from.",
    "gate": "The new ranker is compared with what serves, over all queries and over parts of them.",
    "publish": "The ranker serves from now on, or is rejected with the reasons.",
    EXPANSIONS: "Words of products that stand for those of queries are learned, and serve where searches are better.",
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
"""The stage of a step; other steps are trainings of the ranker."""


SCHEMA = 1


class RunDecision(StrEnum):
    """The outcome of a run."""

    SERVES = "serves"
    SWITCHED_OFF = "may serve, rankers are switched off"
    REJECTED = "rejected"
    REFUSED = "not trained"


@dataclass(frozen=True, slots=True)
class EventCounts:
    """The events of a run."""

    first: datetime
    last: datetime
    """The window of the derived tables."""
    events: int
    """Cleaned ones, bots' among them."""
    rejected: Mapping[str, int]
    """Rejected events by reason."""
    corrected: int
    """Events whose time was corrected."""
    sessions: int
    flagged_sessions: int
    """Of bots and fraud, left out of training."""
    flagged_clicks: int

    @classmethod
    def of(cls, done: RefreshResult) -> EventCounts:
        return cls(
            done.window.first,
            done.window.last,
            done.events,
            done.rejected,
            done.corrected,
            done.sessions,
            done.flagged_sessions,
            done.flagged_clicks,
        )


@dataclass(frozen=True, slots=True)
class Position:
    """One position of the training lists."""

    position: int
    """From 1."""
    shown: int
    clicks: int
    examination: float | None
    """By the click model."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One network's training."""

    method: str
    """As `--method` names it."""
    epochs: tuple[Epoch, ...]
    mixed: float
    """nDCG@10 on the validation lists of its best epoch, mixed with the merged order."""

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return best_of(self.epochs)


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain in nDCG@10 over training on raw clicks, with its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings of a completed training."""

    lists: int
    """That trained."""
    queries: int
    """Usable for training."""
    judging_lists: int
    """The last ones, held out for the gate."""
    left_out: Mapping[str, int]
    """What could not be learned from, counted: see `rerank.training.click_dataset.LeftOut`."""
    borrowed: tuple[str, ...]
    """Carts or purchases, where there were too few, so that they are learned from clicks."""
    models: tuple[HeldOutFit, ...]
    """The click model, then plain click rates, on the validation lists."""
    positions: tuple[Position, ...]
    curves: tuple[Curve, ...]
    """The requested way first."""
    orders: tuple[OrderResult, ...]
    """On the lists of the gate."""
    above_naive: Gain | None
    comparisons: tuple[MeasureComparison, ...]
    """The gate's, over all queries and by slice."""
    examples: tuple[FirstHits, ...] = ()
    """Frequent held-out queries whose first hits the new ranker changes."""
    off_policy: OffPolicyEstimate | None = None
    """What it would have brought on the lists of the gate, beside what served; None where they have no query."""


@dataclass(frozen=True, slots=True)
class ExpansionResult:
    """Query expansion that was trained."""

    expansion: str
    """Its name."""
    serves: bool
    words: int
    """Of queries, with an expansion."""
    report: ExpansionReport


@dataclass(frozen=True, slots=True)
class UserTowerResult:
    """The user tower of a run."""

    tower: str
    """Its name."""
    serves: bool
    is_new: bool
    """False where the last run's events were these: it is that run's."""
    report: UserTowerReport
    """Its measures and the gate's reasons."""


@dataclass(frozen=True, slots=True)
class TextTowers:
    """The encoder of a run: its training data and result."""

    queries: int
    """That clicks have labelled."""
    next: tuple[str, ...]
    """Commands that train it, or that use it where it was rejected."""
    folder: str = ""
    """Of a trained one; empty where none is."""
    before: float | None = None
    after: float | None = None
    """nDCG@10 of the validation queries, over a part of the catalog, before and after training."""
    version: str = ""
    """The version that it serves in from now on; empty where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnReport:
    """One run."""

    started: datetime
    """UTC."""
    seconds: float
    """Of this run: what an interrupted one before it had done is not among them."""
    decision: RunDecision
    summary: tuple[str, ...]
    """The decision and its reasons, in sentences."""
    reasons: tuple[str, ...] = ()
    """The gate's; of a run that was refused, why."""
    ranker: str = ""
    """Its name; empty where none was trained."""
    against: str = ""
    """What it was judged against."""
    notices: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Older rankers beyond the number to keep."""
    stages: tuple[Stage, ...]
    events: EventCounts | None
    """None where the run stopped before."""
    findings: Findings | None = None
    """None where the run was refused."""
    shoppers: UserTowerResult | None = None
    """None where none was trained: its stage says why."""
    expansions: ExpansionResult | None = None
    """None where none was trained: its stage says why."""
    towers: TextTowers | None = None
    """None where the run did not come to it, or nothing came of it: its stage says why."""
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)
