"""The event report: clicks by position, bots and fraud, rejected rows and events; docs/event-report.md describes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from shelfwise.rerank.click_models.click_log import click_log, query_texts
from shelfwise.rerank.click_models.models import PositionBased
from shelfwise.retrieval.records import EventKind
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.events.event_log import DERIVED_FOLDER, read_rejects, reject_files
from shelfwise.service.events.report_inputs import ReportInputs, read_inputs

_DEPTH = 20
_MIN_IMPRESSIONS = 100
_MAX_ANSWERS = 25_000
"""Maximum number of answers to searches (the latest) to which the click model is fitted."""
_MAX_SUSPECTS = 20
_DIGEST_CHARACTERS = 8
"""Digest characters of a pseudonym in the report; enough to find it in the table of sessions."""


@dataclass(frozen=True, slots=True)
class KindCount:
    """Number of events of one kind: in honest sessions, in flagged sessions, rejected by cleaning."""

    kind: str
    honest: int
    flagged: int
    rejected: int


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One position, from 1, of answers to searches, without flagged sessions."""

    position: int
    impressions: int
    clicks: int
    """Impressions that were clicked."""
    ctr: float
    """Clicks by impressions."""
    examination: float
    """Examination by the position-based model, in which the first position is always examined."""
    debiased: float
    """The click rate of examined products: `ctr` divided by `examination`, at most 1."""


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """Counts of flagged sessions with one reason; a session can have several."""

    reason: str
    sessions: int
    clicks: int
    shoppers: int
    """Distinct shoppers; for sessions without one, distinct session ids."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A shopper with flagged sessions, or a flagged session without a shopper."""

    who: str
    """Start of the shopper's or session's pseudonym; empty if there is neither."""
    score: float
    """Highest score of the flagged sessions."""
    sessions: int
    """Number of flagged sessions."""
    clicks: int
    first: datetime
    last: datetime
    """Start times of the first and of the last flagged session."""


@dataclass(frozen=True, slots=True)
class RejectCount:
    """The number of rejected rows or events with one reason, and where the first is."""

    reason: str
    count: int
    first: str
    """File and line of a row; time of an event."""


@dataclass(frozen=True, slots=True)
class EventReport:
    """The events of a window, in so far as neither the derived tables nor the analytics show them."""

    first: datetime
    """Start of the window, which covers everything except rows rejected by imports."""
    last: datetime
    made: datetime
    """Time of the last refresh of the derived tables."""
    kinds: tuple[KindCount, ...]
    """Counts in the order of `EventKind`, without kinds that have no events."""
    sessions: int
    """All sessions, including flagged ones."""
    flagged_sessions: int
    flagged_clicks: int
    positions: tuple[PositionRow, ...]
    reasons: tuple[ReasonCount, ...]
    """Reasons for flagged sessions, most frequent first."""
    suspects: tuple[Suspect, ...]
    """At most twenty suspects, highest score first."""
    rejected_rows: tuple[RejectCount, ...]
    """Rows rejected by imports, most frequent reason first."""
    rejected_events: tuple[RejectCount, ...]
    """Events of the window rejected by cleaning."""


def stored_report(index: Path) -> EventReport:
    """The report of an index directory's derived tables; raises StoreMissingError if there are none."""
    folder = index / EVENTS_FOLDER
    return build_report(read_inputs(folder / DERIVED_FOLDER), rejected_rows(reject_files(folder)))


def build_report(inputs: ReportInputs, rows: tuple[RejectCount, ...] = ()) -> EventReport:
    """Builds the report; `rows` are those rejected by imports."""
    shopper, session = pl.col("shopper"), pl.col("session")
    nobody = pl.format("#{}", "session_number")
    who = pl.when(shopper != "").then(shopper).when(session != "").then(session).otherwise(nobody)
    flagged = inputs.sessions.filter("is_fraud").with_columns(_who=who)
    rejects = inputs.rejected.sort("time", "key").select("reason", "time").iter_rows()
    return EventReport(
        first=inputs.window.first,
        last=inputs.window.last,
        made=inputs.made,
        kinds=_kinds(inputs),
        sessions=inputs.sessions.height,
        flagged_sessions=flagged.height,
        flagged_clicks=int(flagged["clicks"].sum()),
        positions=tuple(positions(inputs.honest)),
        reasons=_reasons(flagged),
        suspects=tuple(_suspects(flagged)),
        rejected_rows=rows,
        rejected_events=_count((reason, f"{time:%Y-%m-%d %H:%M}") for reason, time in rejects),
    )


def _kinds(inputs: ReportInputs) -> tuple[KindCount, ...]:
    frames = (inputs.honest, inputs.flagged, inputs.rejected)
    counts = [dict(events.group_by("kind").len().iter_rows()) for events in frames]
    rows = (KindCount(kind.value, *(count.get(kind.value, 0) for count in counts)) for kind in EventKind)
    return tuple(row for row in rows if row.honest or row.flagged or row.rejected)


def positions(events: pl.DataFrame) -> Iterator[PositionRow]:
    """Click rates by position of answers to searches, without positions of fewer than 100 impressions.

    A click needs an examination (Craswell et al. 2008, An Experimental Comparison of Click Position-Bias Models).
    """
    searched = events.filter(pl.col("kind") == "impression").join(query_texts(events), on="query_id", how="semi")
    starts = searched.group_by("query_id").agg(start=pl.col("time").min()).sort("start", "query_id")
    log, _ = click_log(events.join(starts.tail(_MAX_ANSWERS), on="query_id", how="semi"), _DEPTH)
    impressions, clicks = log.shown.sum(axis=0), log.clicks.sum(axis=0)
    if not (impressions >= _MIN_IMPRESSIONS).any():
        return
    examination = PositionBased.fit(log).examination
    for index in range(log.depth):
        if impressions[index] >= _MIN_IMPRESSIONS:
            rate, examined = float(clicks[index] / impressions[index]), float(examination[index])
            debiased = min(rate / examined, 1.0)
            yield PositionRow(index + 1, int(impressions[index]), int(clicks[index]), rate, examined, debiased)


def _reasons(flagged: pl.DataFrame) -> tuple[ReasonCount, ...]:
    each = flagged.explode("reasons").drop_nulls("reasons").group_by("reasons")
    counts = each.agg(sessions=pl.len(), clicks=pl.col("clicks").sum(), shoppers=pl.col("_who").n_unique())
    ordered = counts.sort("sessions", "reasons", descending=[True, False])
    return tuple(ReasonCount(*row) for row in ordered.iter_rows())


def _suspects(flagged: pl.DataFrame) -> Iterator[Suspect]:
    grouped = flagged.group_by("_who").agg(
        score=pl.col("score").max(),
        sessions=pl.len(),
        clicks=pl.col("clicks").sum(),
        first=pl.col("first").min(),
        last=pl.col("first").max(),
    )
    score = pl.col("score").round(2)
    worst = grouped.sort(score, "clicks", "sessions", "_who", descending=[True, True, True, False])
    for who, *figures in worst.head(_MAX_SUSPECTS).iter_rows():
        key, mark, digest = who.rpartition("~")
        yield Suspect("" if who.startswith("#") else f"{key}{mark}{digest[:_DIGEST_CHARACTERS]}", *figures)


class _Row(msgspec.Struct):
    file: str
    line: int
    reason: str


def rejected_rows(paths: Iterable[Path]) -> tuple[RejectCount, ...]:
    """Counts the rows of reject files, oldest first. Raises StoreDamagedError for a file of another format."""
    rows = (row for path in paths for _, row in read_rejects(path, _Row))
    return _count((row.reason, f"{row.file}:{row.line}") for row in rows)


def _count(rejects: Iterable[tuple[str, str]]) -> tuple[RejectCount, ...]:
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for reason, at in rejects:
        counts[reason] += 1
        first.setdefault(reason, at)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(RejectCount(reason, count, first[reason]) for reason, count in ordered)
