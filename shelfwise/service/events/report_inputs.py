"""The inputs of the event report: derived tables, cleaned events of each day, rejected rows and events."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import polars as pl

from shelfwise.rerank.sessions.cleaning import REJECTED_SCHEMA
from shelfwise.rerank.sessions.options import Window
from shelfwise.rerank.sessions.partitions import EMPTY, SUFFIX, add_who, read_frame
from shelfwise.rerank.sessions.tables import DERIVED, DerivedTables, open_derived
from shelfwise.retrieval.errors import StoreDamagedError, StoreMissingError
from shelfwise.service.events.event_log import read_rejects

_UNUSED = ("key", "received", "session", "quantity", "rating")
_DAYS = "days"
_OF_PARTS = "-parts-"
"""Separates the day in the names of its partial files."""


@dataclass(frozen=True, slots=True, eq=False)
class ReportInputs:
    """One generation of derived tables with its events; docs/event-report.md describes the columns of the tables."""

    window: Window
    made: datetime
    """Time at which the tables were created."""
    least_shoppers: int
    """Queries and products of fewer shoppers are not named."""
    threshold: float
    """Minimum score of a flagged session."""
    honest: pl.DataFrame
    """Events of unflagged sessions, by session and time: columns of `CLEAN_SCHEMA`, `who` and `day`, the day of the
    session; numbered as in `sessions`."""
    flagged: pl.DataFrame
    """Events of flagged sessions, in the same form."""
    rejected: pl.DataFrame
    """Rejected events, in the columns of `ASIDE_SCHEMA`."""
    sessions: pl.DataFrame
    queries: pl.DataFrame
    reformulations: pl.DataFrame
    popularity: pl.DataFrame


def read_inputs(folder: Path) -> ReportInputs:
    """The newest tables of a folder that `refresh` has written, with their events.

    Raises StoreMissingError if there are none, or if a refresh has replaced them meanwhile, StoreDamagedError if a file
    cannot be read.
    """
    derived = open_derived(folder)
    options, sessions = derived.manifest.options, derived.sessions
    try:
        least_shoppers, threshold = int(options["least_shoppers"]), float(options["bots"]["threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreDamagedError(f"{folder / DERIVED} has no valid options; refresh the tables") from error
    events = _events(folder, derived, sessions)
    rejected = (_read(path / f"rejected{SUFFIX}", REJECTED_SCHEMA) for _, path in _days(folder, derived))
    honest = ~pl.col("is_fraud")
    return ReportInputs(
        window=derived.window,
        made=derived.made,
        least_shoppers=least_shoppers,
        threshold=threshold,
        honest=events.filter(honest).drop("is_fraud"),
        flagged=events.filter(~honest).drop("is_fraud"),
        rejected=pl.concat([pl.DataFrame(schema=REJECTED_SCHEMA), *rejected]),
        sessions=sessions,
        queries=derived.queries,
        reformulations=derived.reformulations,
        popularity=derived.popularity,
    )


def _events(folder: Path, derived: DerivedTables, sessions: pl.DataFrame) -> pl.DataFrame:
    # A day's sessions are numbered from 0, in the order of the table of sessions.
    place = pl.int_range(pl.len(), dtype=pl.UInt32).over("day")
    numbered = sessions.select("day", "is_fraud", _number="session_number", session_number=place)
    # Not at import: polars starts its threads with the first query, and processes forked afterwards hang.
    no_events = EMPTY.drop(_UNUSED).with_columns(day=pl.lit(None, pl.Date), is_fraud=pl.lit(value=False))
    tables = [no_events]
    for day, path in _days(folder, derived):
        of_day = numbered.filter(pl.col("day").to_physical() == day).drop("day")
        date = pl.lit(day, pl.Int32).cast(pl.Date)
        events = add_who(_read(path / f"events{SUFFIX}", EMPTY.drop("who").schema))
        joined = events.join(of_day, on="session_number", how="left", maintain_order="left")
        known = joined.with_columns(
            session_number="_number", is_fraud=pl.col("is_fraud").fill_null(value=False), day=date
        )
        tables.append(known.select(no_events.columns))
    return pl.concat(tables)


def _read(path: Path, schema: pl.Schema) -> pl.DataFrame:
    """A file of a day; a refresh removes the days from which its tables are not made."""
    if not path.parent.is_dir():
        raise StoreMissingError(
            f"{path.parent} no longer exists: a refresh has removed it; read the report again, or refresh the tables"
        )
    frame = read_frame(path)
    if frame.schema != schema:
        raise StoreDamagedError(f"{path} has unexpected columns; remove its folder and refresh")
    return frame


def _days(folder: Path, derived: DerivedTables) -> list[tuple[int, Path]]:
    """Each day (since 1970) of a generation and the folder of its cleaned events, ascending."""
    try:
        days = {int(day): name.partition(_OF_PARTS)[0] for day, name in derived.manifest.days.items()}
    except ValueError as error:
        raise StoreDamagedError(f"{folder / DERIVED} has no valid days; refresh the tables") from error
    return [(day, folder / _DAYS / days[day]) for day in sorted(days)]


_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class RowExample:
    """A row of a log."""

    file: str
    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class EventExample:
    """An event of the store, without its query and product, since it belongs to one shopper."""

    time: datetime
    kind: str


Example = TypeVar("Example", RowExample, EventExample)


@dataclass(frozen=True)  # an alias of a generic class sets an attribute on its instances
class RejectCount(Generic[Example]):
    """The number of rejects with one reason, and the first of them."""

    reason: str
    count: int
    examples: tuple[Example, ...]


RejectedRows = RejectCount[RowExample]
RejectedEvents = RejectCount[EventExample]


@dataclass(frozen=True, slots=True)
class RejectSummary:
    """Rejects by reason, the most frequent first."""

    rows: tuple[RejectedRows, ...]
    """Rows rejected by imports."""
    events: tuple[RejectedEvents, ...]
    """Events in the window rejected by cleaning."""


class _Row(msgspec.Struct):
    file: str
    line: int
    reason: str
    detail: str = ""


def summarize_rows(paths: Iterable[Path]) -> tuple[RejectedRows, ...]:
    """Counts the rows of reject files, oldest first. Raises StoreDamagedError for a file of another format."""
    rows = (row for path in paths for _, row in read_rejects(path, _Row))
    return _summarize((row.reason, RowExample(row.file, row.line, row.detail)) for row in rows)


def summarize_events(rejected: pl.DataFrame) -> tuple[RejectedEvents, ...]:
    """Counts events that cleaning rejected."""
    rows = rejected.sort("time", "key").select("reason", "time", "kind").iter_rows()
    return _summarize((reason, EventExample(time, kind)) for reason, time, kind in rows)


def _summarize(rejects: Iterable[tuple[str, Example]]) -> tuple[RejectCount[Example], ...]:
    counts: Counter[str] = Counter()
    examples: defaultdict[str, list[Example]] = defaultdict(list)
    for reason, example in rejects:
        counts[reason] += 1
        if counts[reason] <= _EXAMPLES:
            examples[reason].append(example)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(RejectCount(reason, count, tuple(examples[reason])) for reason, count in ordered)
