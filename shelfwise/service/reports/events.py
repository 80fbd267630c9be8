"""The event report as dataclasses, which define its JSON; docs/event-report.md describes it."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from shelfwise.rerank.click_models.base import FitOptions
from shelfwise.rerank.click_models.click_log import ClickLog, Floats, click_log, query_texts
from shelfwise.rerank.click_models.models import PositionBased
from shelfwise.rerank.evaluation.statistics import Estimate, Z, wilson
from shelfwise.rerank.sessions.query_tables import ANSWER_PARTIAL
from shelfwise.rerank.sessions.tables import read_manifest
from shelfwise.retrieval.records import EventKind
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.events.event_log import DERIVED_FOLDER, reject_files
from shelfwise.service.events.report_inputs import (
    RejectedRows,
    RejectSummary,
    ReportInputs,
    read_inputs,
    summarize_events,
    summarize_rows,
)
from shelfwise.service.reports.event_bots import FraudReport, fraud_found


@dataclass(frozen=True, slots=True)
class KindCount:
    """Number of events of one kind: in honest sessions, in flagged sessions, rejected by cleaning."""

    kind: str
    honest: int
    flagged: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts of events, sessions and shoppers in the window."""

    first: datetime | None
    """Time of the first event after cleaning."""
    last: datetime | None
    kinds: tuple[KindCount, ...]
    """Counts in the order of `EventKind`, without kinds that have no events."""
    sessions: int
    """All sessions, including flagged ones."""
    flagged_sessions: int
    shoppers: int
    """Distinct shopper pseudonyms in sessions that are not flagged."""
    anonymous_sessions: int
    """Unflagged sessions without a shopper."""

    @property
    def events(self) -> int:
        """All events of the window, including rejected ones."""
        return sum(kind.honest + kind.flagged + kind.rejected for kind in self.kinds)

    @property
    def rejected(self) -> int:
        return sum(kind.rejected for kind in self.kinds)


def traffic(inputs: ReportInputs) -> Traffic:
    """Counts the events of the window."""
    sessions = inputs.sessions
    honest = sessions.filter(~pl.col("is_fraud"))
    times = pl.concat([inputs.honest["time"], inputs.flagged["time"]])
    named = inputs.honest.filter(pl.col("shopper") != "")
    return Traffic(
        first=times.min(),  # type: ignore[arg-type]
        last=times.max(),  # type: ignore[arg-type]
        kinds=_kinds(inputs),
        sessions=sessions.height,
        flagged_sessions=sessions.height - honest.height,
        shoppers=named["shopper"].n_unique(),
        anonymous_sessions=honest.height - named["session_number"].n_unique(),
    )


def _kinds(inputs: ReportInputs) -> tuple[KindCount, ...]:
    frames = (inputs.honest, inputs.flagged, inputs.rejected)
    counts = [dict(events.group_by("kind").len().iter_rows()) for events in frames]
    found = (KindCount(kind.value, *(count.get(kind.value, 0) for count in counts)) for kind in EventKind)
    return tuple(each for each in found if each.honest or each.flagged or each.rejected)


_BROWSED = "\x00"
"""Placeholder query text of browsed pages; no real query equals it."""
_CLICKED = ("clicks", "carts", "purchases")


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One step of the funnel: answers that reached it, and sessions with such an answer."""

    name: str
    answers: int
    sessions: int
    answer_share: float | None
    """Share of the first step's answers; None if it has none."""
    session_share: float | None
    answer_rate: float | None
    """Share of the previous step's answers; None at the first step."""
    session_rate: float | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """Conversion funnel without flagged sessions. A purchase counts at all steps, even if the log lacks one of them."""

    searches: tuple[FunnelStep, ...]
    """Answers to searches."""
    pages: tuple[FunnelStep, ...]
    """Browsed pages: answers without a query."""
    carts_elsewhere: int
    """Carts that belong to no answer."""
    purchases_elsewhere: int


def funnel(events: pl.DataFrame) -> Funnel:
    """Computes the funnel from the events of honest sessions, with columns `who` and `day`."""
    answers = _answers(_marked(events))
    shown = answers.filter("searched")
    is_browsed = pl.col("query") == _BROWSED
    return Funnel(
        searches=_steps(shown.filter(~is_browsed), ("searches", "with results", "clicked", "cart", "purchase")),
        pages=_steps(shown.filter(is_browsed), ("pages", "clicked", "cart", "purchase")),
        carts_elsewhere=_elsewhere("cart", events, shown["carts"]),
        purchases_elsewhere=_elsewhere("purchase", events, shown["purchases"]),
    )


def _marked(events: pl.DataFrame) -> pl.DataFrame:
    """Sets the query of browsed pages' events to `_BROWSED`."""
    searched = query_texts(events)["query_id"].implode()
    browsed = (pl.col("query_id") != "") & ~pl.col("query_id").is_in(searched)
    return events.with_columns(query=pl.when(browsed).then(pl.lit(_BROWSED)).otherwise("query"))


def _answers(events: pl.DataFrame) -> pl.DataFrame:
    """Answers, aggregated by day as in the derived tables, since only some days have impressions."""
    days = events.partition_by("day", maintain_order=True)
    return pl.concat([ANSWER_PARTIAL.make(day) for day in [events.clear(), *days]])


def _elsewhere(kind: str, events: pl.DataFrame, of_answers: pl.Series) -> int:
    return int((events["kind"] == kind).sum()) - int(of_answers.sum())


def _steps(answers: pl.DataFrame, names: tuple[str, ...]) -> tuple[FunnelStep, ...]:
    reached = {"with results": ~pl.col("empty") | _did(0), "clicked": _did(0), "cart": _did(1), "purchase": _did(2)}
    there = {name: answers.filter(reached.get(name, pl.lit(value=True))) for name in names}
    counts = [(name, found.height, found["session_number"].n_unique()) for name, found in there.items()]
    _, first, first_sessions = counts[0]
    steps = [FunnelStep(*counts[0], _share(first, first), _share(first_sessions, first_sessions), None, None)]
    for (_, before, sessions_before), (name, answer_count, sessions) in pairwise(counts):
        shares = _share(answer_count, first), _share(sessions, first_sessions)
        rates = _share(answer_count, before), _share(sessions, sessions_before)
        steps.append(FunnelStep(name, answer_count, sessions, *shares, *rates))
    return tuple(steps)


def _did(least: int) -> pl.Expr:
    """Whether an answer led to the act at this place in `_CLICKED` or a later one."""
    return pl.any_horizontal(pl.col(act) > 0 for act in _CLICKED[least:])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


_ROUGHLY = FitOptions(iterations=200, tolerance=1e-4)
"""Looser convergence options for resamples, of which only the spread is used."""


@dataclass(frozen=True, slots=True)
class PositionOptions:
    """Options of `positions`."""

    depth: int = 20
    """The last position."""
    least_impressions: int = 100
    """Positions with fewer impressions are left out."""
    most_answers: int = 25_000
    """Maximum number of answers to searches (the latest) to which the models are fitted."""
    resamples: int = 30
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One position, from 1."""

    position: int
    impressions: int
    clicks: int
    """Impressions that were clicked."""
    ctr: Estimate
    """Clicks by impressions, with the Wilson interval."""
    examination: Estimate
    """Examination by the position-based model, in which the first position is always examined."""
    debiased: Estimate
    """The click rate of examined products: `ctr` divided by `examination`."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Click rates by position of answers to searches, without flagged sessions.

    A click needs an examination (Craswell et al. 2008, An Experimental Comparison of Click Position-Bias Models). The
    intervals of model estimates are normal on the logarithm, from Poisson bootstrap resamples of the answers (Chamandy
    et al. 2012, Estimating Uncertainty for Massive Data Streams).
    """

    answers: int
    """Number of analysed answers: the latest ones."""
    least_impressions: int
    rows: tuple[PositionRow, ...]


def positions(events: pl.DataFrame, options: PositionOptions = PositionOptions()) -> Positions:
    """Fits the models to the answers in a table of cleaned events; there are no rows without enough impressions."""
    log, _ = click_log(_latest_searches(events, options.most_answers), options.depth)
    impressions, clicks = log.shown.sum(axis=0), log.clicks.sum(axis=0)
    places = [at for at in range(log.depth) if impressions[at] >= max(1, options.least_impressions)]
    if not places:
        return Positions(log.size, options.least_impressions, ())
    counts = pl.DataFrame({"clicks": clicks, "impressions": impressions})
    lower, upper = wilson(pl.col("clicks"), pl.col("impressions"))
    bounds = counts.select(lower=lower, upper=upper).rows()
    position_based = PositionBased.fit(log).examination
    spread_examination, spread_rate = _spreads(log, options)
    rows = []
    for at in places:
        rate = float(clicks[at] / impressions[at])
        examination = _estimate(float(position_based[at]), spread_examination[at])
        debiased = _estimate(rate / float(position_based[at]), spread_rate[at])
        counted = (at + 1, int(impressions[at]), int(clicks[at]))
        rows.append(PositionRow(*counted, Estimate(rate, *bounds[at]), examination, debiased))
    return Positions(log.size, options.least_impressions, tuple(rows))


def _latest_searches(events: pl.DataFrame, most: int) -> pl.DataFrame:
    """The events of the latest answers to queries."""
    impressions = events.filter(pl.col("kind") == "impression")
    searched = impressions.join(query_texts(events), on="query_id", how="semi")
    starts = searched.group_by("query_id").agg(start=pl.col("time").min()).sort("start", "query_id")
    return events.join(starts.tail(most), on="query_id", how="semi")


def _spreads(log: ClickLog, options: PositionOptions) -> tuple[Floats, Floats]:
    """(depth,) each: standard deviations of log examination and of log debiased click rate; not finite if a resample
    has no click."""
    draw = np.random.default_rng(options.seed)
    found = np.empty((options.resamples, 2, log.depth))
    for resample in found:
        weights = draw.poisson(1.0, log.size).astype(np.float32)
        examination = PositionBased.fit(ClickLog(log.pairs, log.clicks, log.count, weights), _ROUGHLY).examination
        rate = (weights @ log.clicks) / np.maximum(weights @ log.shown, 1.0)
        resample[:] = examination, rate / examination
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log(found).std(axis=0, ddof=1)
    return spread[0], spread[1]


def _estimate(share: float, spread: float) -> Estimate:
    share = min(share, 1.0)
    if not math.isfinite(spread):
        return Estimate(share)
    factor = math.exp(Z * float(spread))
    return Estimate(share, share / factor, min(share * factor, 1.0))


_MOST = 20
"""Rows of a table."""


class Problem(StrEnum):
    """A kind of failed search."""

    EMPTY = "finds nothing"
    UNCLICKED = "not clicked"
    """Searches with results but no click."""
    REFORMULATED = "searched again"
    """Searches that were followed by a reformulation."""


@dataclass(frozen=True, slots=True)
class FailingQuery:
    """A query that fails more often than others, by the problem that costs it most."""

    query: str
    searches: int
    shoppers: int
    problem: Problem
    failed: int
    """Searches with the problem."""
    share: float
    lower: float
    """Lower end of the 95% interval of the share."""
    overall: float
    """Share over all queries; taken as 0 for `Problem.EMPTY`."""
    lost: float
    """Lower bound of the number of failures above the average: (lower - overall) times the searches that can fail;
    queries are ordered by it."""


@dataclass(frozen=True, slots=True)
class Reformulation:
    """A query and the one that replaced it successfully: candidates for synonyms."""

    query: str
    to_query: str
    count: int
    shoppers: int
    clicked: int
    """Chains that ended with a click; each chain counts once, by its furthest act."""
    carted: int
    purchased: int
    share: float
    """Share of chains that ended with a click, a cart or a purchase."""
    lower: float
    """Lower end of the 95% interval of `share`; rows are ordered by `lower` times `count`."""
    clicked_share: float | None
    """Share of the first query's searches with a click; None if it has too few shoppers."""
    to_clicked_share: float | None


def failing_queries(table: pl.DataFrame) -> tuple[FailingQuery, ...]:
    """The failing queries of the derived table of queries, at most twenty, the worst first."""
    if table.is_empty():
        return ()
    found = pl.concat([_with_problem(table, problem) for problem in Problem])
    worst = found.filter(pl.col("lost") > 0).sort("lost", "query", "problem", descending=[True, False, False])
    worst = worst.unique("query", keep="first", maintain_order=True).head(_MOST)
    rows = worst.drop("query").iter_rows(named=True)
    return tuple(FailingQuery(query=row.pop("spelling"), problem=Problem(row.pop("problem")), **row) for row in rows)


def _with_problem(table: pl.DataFrame, problem: Problem) -> pl.DataFrame:
    """All queries with their failures of one kind."""
    searches, empty = pl.col("searches").cast(pl.Int64), pl.col("empty").cast(pl.Int64)
    unclicked = searches - empty - (pl.col("clicked_share") * searches).round().cast(pl.Int64)
    reformulated = (pl.col("reformulated_share") * searches).round().cast(pl.Int64)
    failed, judged = {
        Problem.EMPTY: (empty, searches),
        Problem.UNCLICKED: (unclicked.clip(0), searches - empty),
        Problem.REFORMULATED: (reformulated, searches),
    }[problem]
    overall = pl.lit(0.0) if problem is Problem.EMPTY else failed.sum() / judged.sum()
    judged_queries = table.with_columns(failed=failed, _judged=judged, overall=overall).filter(pl.col("_judged") > 0)
    lower = wilson(pl.col("failed"), pl.col("_judged"))[0]
    judged_queries = judged_queries.with_columns(lower=pl.when(pl.col("failed") > 0).then(lower).otherwise(0.0))
    return judged_queries.select(
        *("query", "spelling", "searches", "shoppers", "failed", "lower", "overall"),
        problem=pl.lit(problem.value),
        share=pl.col("failed") / pl.col("_judged"),
        lost=(pl.col("lower") - pl.col("overall")) * pl.col("_judged"),
    )


def successful_reformulations(table: pl.DataFrame, known: pl.DataFrame) -> tuple[Reformulation, ...]:
    """At most twenty rows of the derived table of reformulations; `known` is that of queries."""
    successes = pl.col("clicked") + pl.col("carted") + pl.col("purchased")
    lower = wilson(pl.col("_ended"), pl.col("count"))[0]
    ended = table.with_columns(_ended=successes).filter(pl.col("_ended") > 0)
    ended = ended.with_columns(share=pl.col("_ended") / pl.col("count"), lower=lower)
    first = known.select("query", "spelling", "clicked_share")
    second = known.select(to_query="query", to_spelling="spelling", to_clicked_share="clicked_share")
    ended = ended.join(first, on="query", how="left").join(second, on="to_query", how="left")
    ended = ended.with_columns(_sure=pl.col("lower") * pl.col("count"))
    ordered = ended.sort("_sure", "query", "to_query", descending=[True, False, False]).head(_MOST)
    columns = ordered.select(
        pl.coalesce("spelling", "query"),
        pl.coalesce("to_spelling", "to_query"),
        *("count", "shoppers", "clicked", "carted", "purchased", "share", "lower", "clicked_share", "to_clicked_share"),
    )
    return tuple(Reformulation(*row) for row in columns.iter_rows())


SCHEMA = 1


@dataclass(frozen=True, slots=True)
class EventReport:
    """All sections of the report; unless noted, flagged sessions are excluded."""

    first: datetime
    """Start of the window, which covers everything except rows rejected by imports."""
    last: datetime
    made: datetime
    """Time of the last refresh of the derived tables."""
    least_shoppers: int
    """Queries and products of fewer shoppers are not named."""
    traffic: Traffic
    funnel: Funnel
    positions: Positions
    failing: tuple[FailingQuery, ...]
    reformulations: tuple[Reformulation, ...]
    fraud: FraudReport
    rejected: RejectSummary
    schema: int = SCHEMA

    @property
    def is_empty(self) -> bool:
        return self.traffic.events == 0

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def build_report(
    inputs: ReportInputs, rejected_rows: tuple[RejectedRows, ...] = (), options: PositionOptions = PositionOptions()
) -> EventReport:
    """Builds the report; equal inputs give equal reports."""
    return EventReport(
        first=inputs.window.first,
        last=inputs.window.last,
        made=inputs.made,
        least_shoppers=inputs.least_shoppers,
        traffic=traffic(inputs),
        funnel=funnel(inputs.honest),
        positions=positions(inputs.honest, options),
        failing=failing_queries(inputs.queries),
        reformulations=successful_reformulations(inputs.reformulations, inputs.queries),
        fraud=fraud_found(inputs),
        rejected=RejectSummary(rejected_rows, summarize_events(inputs.rejected)),
    )


def stored_report(index: Path) -> EventReport:
    """The report of an index directory's derived tables; raises StoreMissingError if there are none.

    Building takes seconds, so the last four reports are cached until the tables or the rejected rows change.
    """
    folder = index / EVENTS_FOLDER
    manifest = read_manifest(folder / DERIVED_FOLDER)
    rejected = tuple((path, path.stat().st_mtime_ns) for path in reject_files(folder))
    return _report(folder, (manifest.folder, manifest.made, rejected))


@lru_cache(maxsize=4)
def _report(folder: Path, _state: Hashable) -> EventReport:
    return build_report(read_inputs(folder / DERIVED_FOLDER), summarize_rows(reject_files(folder)))
