"""The inputs of the event report and of experiments: cleaned and rejected events of each day, and the sessions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from shelfwise.rerank.sessions.cleaning import REJECTED_SCHEMA
from shelfwise.rerank.sessions.options import Window
from shelfwise.rerank.sessions.partitions import EMPTY, SUFFIX, add_who, read_frame
from shelfwise.rerank.sessions.tables import DERIVED, DerivedTables, open_derived
from shelfwise.retrieval.errors import StoreDamagedError, StoreMissingError

_UNUSED = ("key", "received", "session", "quantity", "rating")
_DAYS = "days"
_OF_PARTS = "-parts-"
"""Separates the day in the names of its partial files."""


@dataclass(frozen=True, slots=True, eq=False)
class ReportInputs:
    """One generation of derived tables with its events."""

    window: Window
    made: datetime
    """Time at which the tables were created."""
    honest: pl.DataFrame
    """Events of unflagged sessions, by session and time: columns of `CLEAN_SCHEMA`, `who` and `day`, the day of the
    session; numbered as in `sessions`."""
    flagged: pl.DataFrame
    """Events of flagged sessions, in the same form."""
    rejected: pl.DataFrame
    """Rejected events, in the columns of `ASIDE_SCHEMA`."""
    sessions: pl.DataFrame
    """The derived table of sessions."""


def read_inputs(folder: Path) -> ReportInputs:
    """The newest tables of a folder that `refresh` has written, with their events.

    Raises StoreMissingError if there are none, or if a refresh has replaced them meanwhile, StoreDamagedError if a file
    cannot be read.
    """
    derived = open_derived(folder)
    sessions = derived.sessions
    events = _events(folder, derived, sessions)
    rejected = (_read(path / f"rejected{SUFFIX}", REJECTED_SCHEMA) for _, path in _days(folder, derived))
    honest = ~pl.col("is_fraud")
    return ReportInputs(
        window=derived.window,
        made=derived.made,
        honest=events.filter(honest).drop("is_fraud"),
        flagged=events.filter(~honest).drop("is_fraud"),
        rejected=pl.concat([pl.DataFrame(schema=REJECTED_SCHEMA), *rejected]),
        sessions=sessions,
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
