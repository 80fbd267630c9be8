"""The report of a run of `shelfwise learn`, in a terminal and as dataclasses, which define its JSON; docs/learn.md
describes it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shelfwise.rerank.click_models.evaluation import HeldOutFit
from shelfwise.rerank.evaluation.off_policy import OffPolicyEstimate
from shelfwise.rerank.evaluation.promotion import ALL_QUERIES, NDCG, MeasureComparison
from shelfwise.rerank.expansions import ExpansionReport
from shelfwise.rerank.ranker.spec import MERGED, NAIVE, NEW, SERVED, OrderResult
from shelfwise.rerank.sessions.refresh import RefreshResult
from shelfwise.rerank.training.click_dataset import ClickEvidence
from shelfwise.rerank.training.trainer import Epoch, best_of
from shelfwise.rerank.user_tower.files import UserTowerReport
from shelfwise.retrieval.html_report import measure_text, printable, seconds_text
from shelfwise.retrieval.progress import Progress
from shelfwise.service.training.click_dataset import ClickTraining, FirstHits
from shelfwise.service.training.user_tower import TOWER


def findings(done: ClickTraining) -> Findings:
    """Collects the findings of a completed training for the report."""
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
    """Statistics of the positions that have impressions."""
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
    """Sentences about a completed run; `against` is the order with which the new ranker was compared."""
    if decision is RunDecision.SERVES:
        yield f"The new ranker, {ranker}, serves from now on. It is better than {against}, which served before."
    elif decision is RunDecision.SWITCHED_OFF:
        yield f"The new ranker, {ranker}, is better than {against}, but does not serve: rankers are switched off."
    else:
        yield f"The new ranker, {ranker}, does not serve; {against} still serves. {_why_not(found.comparisons)}"
    yield from _reached(against, found)
    if found.off_policy:
        yield f"{found.off_policy.describe('the new ranker')}. This estimate does not decide."
    bots = f" Sessions of bots and fraud, {events.flagged_sessions:,}, are excluded." if events else ""
    yield f"It was trained on {found.lists:,} lists that shoppers were shown, of {found.queries:,} queries.{bots}"
    yield from _compared_with_naive(found)


def refusal_summary(why: str, stage: str) -> tuple[str, ...]:
    """Sentences about a run that stopped in a stage."""
    return f"No ranker was trained: {why}.", f"It stopped at: {stage}. What served before still serves."


def user_tower_summary(found: UserTowerResult | None) -> tuple[str, ...]:
    """A sentence about the user tower, if one was trained."""
    if found is None:
        return ()
    new, before = (
        next(way for way in found.report.methods if way.name == name) for name in (TOWER, found.report.against)
    )
    decision = "recommends" if found.serves else f"does not recommend: {'; '.join(found.report.rejection_reasons)}"
    if not found.is_new:
        decision = f"was trained in an earlier run, and {decision}"
    elif found.serves:
        decision += " from now on"
    return (
        f"The user tower, {found.tower}, {decision}. What a shopper chose next is among its first ten for "
        f"{new.hit_rate:.1%} of {found.report.shoppers:,} shoppers; by {before.name}, for {before.hit_rate:.1%} "
        f"(nDCG@10 {new.ndcg:.4f} and {before.ndcg:.4f}).",
    )


def expansions_summary(found: ExpansionResult | None) -> tuple[str, ...]:
    """A sentence about query expansion, if it was trained."""
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
    """A sentence about the encoder, if one was trained."""
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
    """A sentence that compares with naive training; none if the requested method is the naive one."""
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
    """The comparison of nDCG@10 over all queries."""
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
    "ranker": "The serving ranker is trained further, or a new one is, and a second one on raw clicks.",
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


class RunDecision(StrEnum):
    """The outcome of a run."""

    SERVES = "serves"
    SWITCHED_OFF = "may serve, rankers are switched off"
    REJECTED = "rejected"
    REFUSED = "not trained"


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Counts of the events of a run."""

    first: datetime
    last: datetime
    """Last time of the window of the derived tables."""
    events: int
    """Events after cleaning, including those of bots."""
    rejected: Mapping[str, int]
    """Rejected events by reason."""
    corrected: int
    """Events whose time was corrected."""
    sessions: int
    flagged_sessions: int
    """Sessions of bots and fraud, excluded from training."""
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
    """Statistics of one position of the training lists."""

    position: int
    """Position, from 1."""
    shown: int
    clicks: int
    examination: float | None
    """Examination probability by the click model; None if it is not finite."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Training curve of one network."""

    method: str
    """Training method, as in `--method`."""
    epochs: tuple[Epoch, ...]
    mixed: float
    """nDCG@10 of the best epoch on the validation lists, with its scores mixed with the merged order."""

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are used."""
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
    """Number of training lists."""
    queries: int
    """Number of queries usable for training."""
    judging_lists: int
    """Number of lists held out for the gate: the last ones."""
    left_out: Mapping[str, int]
    """Counts of excluded queries and pairs by reason: see `shelfwise.rerank.training.click_dataset.ExclusionCounts`."""
    borrowed: tuple[str, ...]
    """Acts ("carts", "purchases") of which there are too few, so that their heads are trained on clicks."""
    models: tuple[HeldOutFit, ...]
    """Fit of the click model, then of plain click rates, on the validation lists."""
    positions: tuple[Position, ...]
    curves: tuple[Curve, ...]
    """Training curves, that of the requested method first."""
    orders: tuple[OrderResult, ...]
    """nDCG@10 of each order on the lists of the gate."""
    above_naive: Gain | None
    comparisons: tuple[MeasureComparison, ...]
    """The gate's comparisons, over all queries and by slice."""
    examples: tuple[FirstHits, ...] = ()
    """Frequent held-out queries whose first hits the new ranker changes."""
    off_policy: OffPolicyEstimate | None = None
    """Estimated effect of the new ranker on the lists of the gate; None if no list has a known query."""


@dataclass(frozen=True, slots=True)
class ExpansionResult:
    """Result of the training of query expansion."""

    expansion: str
    """Name of the model."""
    serves: bool
    words: int
    """Number of query words with an expansion."""
    report: ExpansionReport


@dataclass(frozen=True, slots=True)
class UserTowerResult:
    """Result of the training of the user tower."""

    tower: str
    """Name of the model."""
    serves: bool
    is_new: bool
    """Whether this run trained it; false if an earlier run did on the same acts."""
    report: UserTowerReport
    """Measures of the tower, and the gate's reasons."""


@dataclass(frozen=True, slots=True)
class TextTowers:
    """The encoder of a run: its training data and result."""

    queries: int
    """Number of queries labelled by clicks."""
    next: tuple[str, ...]
    """Command that trains an encoder, or that uses the rejected one; empty if the new one serves."""
    folder: str = ""
    """Folder of the trained encoder; empty if none was trained."""
    before: float | None = None
    after: float | None = None
    """nDCG@10 of the validation queries over a part of the catalog, after training; `before`, before it."""
    version: str = ""
    """Version in which the encoder serves; empty if it does not serve."""


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
    events: EventCounts | None
    """Event counts; None if the run stopped before the events were cleaned."""
    findings: Findings | None = None
    """Findings of the ranker's training; None if the run was refused."""
    shoppers: UserTowerResult | None = None
    """Result of the user tower; None if none was trained (its stage has the reason)."""
    expansions: ExpansionResult | None = None
    """Result of query expansion; None if none was trained (its stage has the reason)."""
    towers: TextTowers | None = None
    """Result of the encoder; None if the run did not reach its stage or had no result (the stage has the reason)."""
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


# In a terminal.

_ORDERS: Mapping[str, str] = {MERGED: "merged order", SERVED: "served before", NAIVE: "raw clicks", NEW: "new ranker"}
HEADLINES: Mapping[RunDecision, str] = {
    RunDecision.SERVES: "A better ranker serves",
    RunDecision.SWITCHED_OFF: "A better ranker is ready; rankers are switched off",
    RunDecision.REJECTED: "The new ranker is rejected",
    RunDecision.REFUSED: "No ranker was trained",
}


def order_name(order: str) -> str:
    """The display name of an order."""
    return _ORDERS.get(order, order)


def show_learned(report: LearnReport, file: Path, index: Path, console: Console) -> None:
    """Prints a short form of the report."""
    console.print(Text(HEADLINES[report.decision], style="bold"))
    for sentence in report.summary:
        console.print(Text(printable(sentence)))
    console.print()
    console.print(_steps(report))
    if report.findings and report.findings.orders:
        console.print()
        console.print(_order_rows(report.findings.orders))
    if report.findings and report.findings.examples:
        console.print()
        console.print(_example_rows(report.findings.examples))
    console.print()
    if report.removed:
        console.print(Text(f"Removed the oldest models: {', '.join(report.removed)}"), soft_wrap=True)
    if report.decision is RunDecision.SERVES and report.against.startswith("ranker-"):
        undo = f"{report.against} is kept; to go back to it: shelfwise models rollback {index}"
        console.print(Text(undo), soft_wrap=True)
    console.print(Text(f"Full report: {file}"), soft_wrap=True)


def show_waiting(new: int, needed: int, console: Console) -> None:
    """Prints that there are too few new events to train on."""
    console.print(Text(f"Nothing to learn yet: {new:,} new events since the last run, {needed:,} are needed."))


def _steps(report: LearnReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("step", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("summary")
    for stage in report.stages:
        table.add_row(stage.name, seconds_text(stage.seconds) if stage.steps else "", Text(_did(stage)))
    return table


def _did(stage: Stage) -> str:
    """Summaries of the stage's steps, one line each, or its outcome."""
    lines = [f"{'' if step.name == stage.name else f'{step.name}: '}{step.did}" for step in stage.steps if step.did]
    if not lines or stage.outcome is StageOutcome.STOPPED:
        lines.append(stage.outcome.value)
    return "\n".join(map(printable, lines))


def _example_rows(examples: Sequence[FirstHits]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("query", "first hits before", "with the new ranker"):
        table.add_column(name, overflow="fold")
    for each in examples:
        columns = (each.query,), each.before, each.after
        table.add_row(*(Text("\n".join(map(printable, column))) for column in columns), end_section=True)
    return table


def _order_rows(orders: Sequence[OrderResult]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("order", "nDCG@10", "95%"):
        table.add_column(name, justify="left" if name == "order" else "right", no_wrap=True)
    for each in orders:
        interval = f"{measure_text(each.low)} to {measure_text(each.high)}"
        table.add_row(order_name(each.order), measure_text(each.ndcg), interval)
    return table
