"""The inputs of the event report: derived tables, cleaned events of each day, rejected rows and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from rerank.sessions.cleaning import REJECTED_SCHEMA
from rerank.sessions.options import Window
from rerank.sessions.partitions import EMPTY, SUFFIX, add_who, read_frame
from rerank.sessions.tables import DERIVED, DerivedTables, open_derived
from retrieval.errors import StoreDamagedError, StoreMissingError

_NEEDED = (
    "time",
    "kind",
    "shopper",
    "who",
    "query_id",
    "query",
    "product_id",
    "position",
    "results",
    "session_number",
    "need",
)
_DAYS = "days"
_OF_PARTS = "-parts-"
"""Separates the day in the name of its partials."""


@dataclass(frozen=True, slots=True, eq=False)
class ReportInputs:
    """One generation of derived tables with its events; docs/derived.md says what the tables' columns mean."""

    window: Window
    made: datetime
    """When the tables were made."""
    least_shoppers: int
    """Queries and products of fewer shoppers are not named."""
    threshold: float
    """The least score of a flagged session."""
    honest: pl.DataFrame
    """Events of sessions that are not flagged, by session and time: columns of `CLEAN_SCHEMA`, `who` and `day`, the day
    of the session; numbered as in `sessions`."""
    flagged: pl.DataFrame
    """The same of flagged sessions."""
    rejected: pl.DataFrame
    """Of `ASIDE_SCHEMA`."""
    sessions: pl.DataFrame
    queries: pl.DataFrame
    reformulations: pl.DataFrame
    popularity: pl.DataFrame


def read_inputs(folder: Path) -> ReportInputs:
    """The newest tables of a folder that `refresh` has written, with their events.

    Raises StoreMissingError where there are none, or a refresh has replaced them meanwhile, StoreDamagedError where a
    file cannot be read.
    """
    derived = open_derived(folder)
    least_shoppers, threshold = _rules(folder, derived)
    sessions = derived.sessions
    events = _events(folder, derived, sessions)
    honest = ~pl.col("is_fraud")
    return ReportInputs(
        window=derived.window,
        made=derived.made,
        least_shoppers=least_shoppers,
        threshold=threshold,
        honest=events.filter(honest).drop("is_fraud"),
        flagged=events.filter(~honest).drop("is_fraud"),
        rejected=_rejected(folder, derived),
        sessions=sessions,
        queries=derived.queries,
        reformulations=derived.reformulations,
        popularity=derived.popularity,
    )


def _rules(folder: Path, derived: DerivedTables) -> tuple[int, float]:
    options = derived.manifest.options
    try:
        return int(options["least_shoppers"]), float(options["bots"]["threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreDamagedError(f"{folder / DERIVED} has no valid options; refresh the tables") from error


def _events(folder: Path, derived: DerivedTables, sessions: pl.DataFrame) -> pl.DataFrame:
    # A day's sessions are numbered from 0, in the order of the table of sessions.
    place = pl.int_range(pl.len(), dtype=pl.UInt32).over("day")
    numbered = sessions.select("day", "is_fraud", _number="session_number", session_number=place)
    # Not at import: polars starts its threads with the first query, and processes that are forked afterwards hang.
    no_events = EMPTY.select(*_NEEDED, day=pl.lit(None, pl.Date), is_fraud=pl.lit(value=False))
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


def _rejected(folder: Path, derived: DerivedTables) -> pl.DataFrame:
    tables = [_read(path / f"rejected{SUFFIX}", REJECTED_SCHEMA) for _, path in _days(folder, derived)]
    return pl.concat([pl.DataFrame(schema=REJECTED_SCHEMA), *tables])


def _read(path: Path, schema: pl.Schema) -> pl.DataFrame:
    """A file of a day; days have no checksums, and a refresh removes those that its tables are not made from."""
    if not path.parent.is_dir():
        raise StoreMissingError(
            f"{path.parent} is gone: a refresh has removed it; read the report again, or refresh the tables"
        )
    frame = read_frame(path)
    if frame.schema != schema:
        raise StoreDamagedError(f"{path} has other columns than a day has; remove its folder and refresh")
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
    """An event of the store, without its query and product, as it is one shopper's."""

    time: datetime
    kind: str


@dataclass(frozen=True, slots=True)
class RejectedRows:
    """Rows of one reason."""

    reason: str
    count: int
    examples: tuple[RowExample, ...]


@dataclass(frozen=True, slots=True)
class RejectedEvents:
    """Events of one reason."""

    reason: str
    count: int
    examples: tuple[EventExample, ...]


@dataclass(frozen=True, slots=True)
class RejectSummary:
    """Rejects by reason, the most frequent first, with the first examples."""

    rows: tuple[RejectedRows, ...]
    """At imports."""
    events: tuple[RejectedEvents, ...]
    """By cleaning, of the events in the window."""


class _Row(msgspec.Struct):
    file: str
    line: int
    reason: str
    detail: str = ""


def summarize_rows(paths: Iterable[Path]) -> tuple[RejectedRows, ...]:
    """Counts the rows of reject files, the oldest first. Raises StoreDamagedError for a file of another format."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[RowExample]] = {}
    for path in paths:
        for row in _rows(path):
            counts[row.reason] += 1
            if counts[row.reason] <= _EXAMPLES:
                examples.setdefault(row.reason, []).append(RowExample(row.file, row.line, row.detail))
    return tuple(RejectedRows(reason, count, tuple(examples[reason])) for reason, count in _ordered(counts))


def _rows(path: Path) -> Iterator[_Row]:
    decoder = msgspec.json.Decoder(_Row)
    try:
        with path.open("rb") as file:
            yield from map(decoder.decode, file)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); remove it, an import makes it anew") from error


def summarize_events(rejected: pl.DataFrame) -> tuple[RejectedEvents, ...]:
    """Counts events that cleaning rejected."""
    counts = dict(rejected.group_by("reason").len().iter_rows())
    first = rejected.sort("time", "key").group_by("reason", maintain_order=True).head(_EXAMPLES)
    examples: dict[str, list[EventExample]] = {}
    for reason, *values in first.select("reason", "time", "kind").iter_rows():
        examples.setdefault(reason, []).append(EventExample(*values))
    return tuple(RejectedEvents(reason, count, tuple(examples[reason])) for reason, count in _ordered(counts))


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
