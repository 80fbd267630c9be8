"""Incremental refresh of the derived tables: only days whose events changed are cleaned again; the result is the same
as that of a full refresh.

FOLDER/
  derived.json              names the current tables, with their window, counts and checksums
  tables-000007/            one generation of tables; the previous one stays for readers
  days/2026-11-25-.../      one day's cleaned events, and the rejected ones
  bots/2026-11-16-.../      the scores of the sessions of some days
  parts/2026-11-25-.../     the day's partials of the tables, without bots
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from shelfwise.rerank.sessions.bots import score_sessions
from shelfwise.rerank.sessions.options import DeriveOptions, Window
from shelfwise.rerank.sessions.partitions import (
    Context,
    DailyPartials,
    Day,
    DayMaker,
    Scorer,
    ScoreSessions,
    TableMaker,
    flagged_by_day,
    read_partial,
    rejected_table,
    remove_others,
    session_table,
)
from shelfwise.rerank.sessions.product_tables import NEIGHBOURS, POPULARITY
from shelfwise.rerank.sessions.query_memory import QUERY_MEMORY
from shelfwise.rerank.sessions.query_tables import (
    DAILY,
    LABELS,
    PAGE_QUESTIONS,
    QUERIES,
    QUERY_CATEGORIES,
    REFORMULATIONS,
)
from shelfwise.rerank.sessions.tables import CACHES, publish, remove_generations
from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.events.store import EventStore
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.store.lock import hold_lock

TABLES: tuple[TableMaker, ...] = (
    POPULARITY,
    NEIGHBOURS,
    QUERIES,
    REFORMULATIONS,
    QUERY_CATEGORIES,
    PAGE_QUESTIONS,
    LABELS,
    QUERY_MEMORY,
    DAILY,
)


SCORED_TOGETHER = 5_000
"""About how many sessions are scored together: more give a better baseline, but are scored again more often."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The scorer and the table makers of a refresh; a store may have its own."""

    score_sessions: ScoreSessions = score_sessions
    tables: tuple[TableMaker, ...] = TABLES


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """The counts of a refresh."""

    window: Window
    days_made: int
    days_kept: int
    parts_made: int
    """Days whose partials were computed again because their events or their flagged sessions changed."""
    events: int
    """Cleaned events, including those of bots."""
    rejected: Mapping[str, int]
    """Rejected events by reason."""
    corrected: int
    """Cleaned or rejected events whose time was corrected: the clock of their shopper was wrong."""
    sessions: int
    sessions_scored: int
    """The sessions of groups of days in which a day changed."""
    flagged_sessions: int
    flagged_clicks: int
    tables: Mapping[str, int]
    """The number of rows by table."""
    seconds: float


def refresh(
    store: EventStore,
    folder: Path,
    products: pl.DataFrame | None,
    options: DeriveOptions | None = None,
    *,
    now: datetime,
    progress: Progress | None = None,
    purge: bool = False,
    steps: Steps | None = None,
) -> RefreshResult:
    """Updates the derived tables of a folder, which is created if needed, from a store of events.

    `products` is the catalog (`products.product_table`), or None: then events are not checked against it. `purge` also
    removes the previous generation: after a shopper is erased, no file has the shopper's data.

    Raises StoreLockedError while another refresh runs in the folder, and StoreError if something cannot be read or
    written. The old tables stay until the new ones are complete, also if the process is killed.
    """
    started = time.perf_counter()
    options, steps = options or DeriveOptions(), steps or Steps()
    _prepare(folder)
    with hold_lock(folder, "refresh of derived tables"):
        work = _Work(folder, Context(options.window(now), options, products), steps, progress or NullProgress())
        days, maker = work.days(store)
        sessions, scorer = work.sessions(days)
        parts = work.parts(days, sessions)
        tables = {**work.tables(parts), "sessions": session_table(sessions), "rejected": rejected_table(days)}
        names = {str(day): part.name for day, part in parts.folders.items()}
        manifest = publish(folder, tables, names, work.context.window, options, now)
        remove_generations(folder, manifest.folder, before=0 if purge else 1)
        used = [day.folder for day in days], scorer.folders, parts.folders.values()
        for cache, kept in zip(CACHES, used, strict=True):
            remove_others(folder / cache, frozenset(each.name for each in kept))
    flagged = sessions.filter("is_fraud")
    return RefreshResult(
        window=work.context.window,
        days_made=maker.made,
        days_kept=maker.kept,
        parts_made=parts.made,
        events=sum(day.facts.events for day in days),
        rejected=dict(sum((Counter(day.facts.rejected) for day in days), Counter())),
        corrected=sum(day.facts.corrected for day in days),
        sessions=sessions.height,
        sessions_scored=scorer.scored,
        flagged_sessions=flagged.height,
        flagged_clicks=int(flagged["clicks"].sum()),
        tables=manifest.tables,
        seconds=time.perf_counter() - started,
    )


def _prepare(folder: Path) -> None:
    try:
        for each in CACHES:
            (folder / each).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be created ({error.strerror}); check its permissions") from error


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """The steps of one refresh, in order."""

    folder: Path
    context: Context
    steps: Steps
    progress: Progress

    def days(self, store: EventStore) -> tuple[list[Day], DayMaker]:
        maker = DayMaker(store, self.context, self.folder / "days")
        days: list[Day] = []
        done = 0
        self.progress.begin("clean days", self.context.options.days, "days")
        for day in maker.days():
            days.append(day)
            position = day.number - self.context.window.first_day + 1
            self.progress.advance(position - done)
            done = position
        self.progress.end(f"{len(days):,} days with events")
        return days, maker

    def sessions(self, days: Sequence[Day]) -> tuple[pl.DataFrame, Scorer]:
        scorer = Scorer(self.folder / "bots", self.steps.score_sessions)
        self.progress.begin("find bots", None, "")
        sessions = scorer.score(days, SCORED_TOGETHER)
        self.progress.end(f"{sessions.height:,} sessions")
        return sessions, scorer

    def parts(self, days: Sequence[Day], sessions: pl.DataFrame) -> DailyPartials:
        needed = {part.name: part for table in self.steps.tables for part in table.parts}
        parts = DailyPartials(self.folder / "parts", needed)
        flagged = flagged_by_day(sessions)
        self.progress.begin("count days", len(days), "days")
        for day in days:
            parts.add(day, flagged.get(day.number, ()))
            self.progress.advance(1)
        self.progress.end(f"{parts.made:,} days counted")
        return parts

    def tables(self, parts: DailyPartials) -> dict[str, pl.DataFrame]:
        tables: dict[str, pl.DataFrame] = {}
        self.progress.begin("make tables", len(self.steps.tables), "tables")
        for table in self.steps.tables:
            made = table.make(lambda part: read_partial(part, parts.folders), self.context)
            tables.update({table.name: made} if isinstance(made, pl.DataFrame) else made)
            self.progress.advance(1)
        self.progress.end(f"{len(tables):,} tables")
        return tables
