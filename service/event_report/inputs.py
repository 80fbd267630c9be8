"""What a report is made from: derived tables, and the cleaned events of each day with what is known of their visits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from rerank.behaviour.cleaning import ASIDE_SCHEMA
from rerank.behaviour.derived import Derived, open_derived
from rerank.behaviour.folders import SUFFIX, read_frame
from rerank.behaviour.options import Window
from rerank.behaviour.parts import EMPTY, with_who
from rerank.behaviour.publishing import DERIVED
from retrieval.errors import StoreDamagedError, StoreMissingError

_NEEDED = ("time", "kind", "shopper", "who", "query_id", "query", "product_id", "position", "results", "visit", "need")
_NO_EVENTS = EMPTY.select(*_NEEDED, day=pl.lit(None, pl.Date), is_fraud=pl.lit(value=False))
_DAYS = "days"
_OF_PARTS = "-parts-"
"""Stands in the name of a day's parts after the name of the day that they were made from."""


@dataclass(frozen=True, slots=True, eq=False)
class ReportInputs:
    """One generation of derived tables with its events; docs/derived.md says what the tables' columns mean."""

    window: Window
    made: datetime
    """When the tables were made."""
    least_shoppers: int
    """Nothing that fewer have brought about is told of."""
    threshold: float
    """The score from which on a visit is called fraud."""
    honest: pl.DataFrame
    """The events that the tables are made from, ordered by visit and time: what is needed of `CLEAN_SCHEMA`, `who`, and
    `day`, on which the visit began; visits as in `visits`."""
    flagged: pl.DataFrame
    """The same of robots and fraud."""
    aside: pl.DataFrame
    """Of `ASIDE_SCHEMA`."""
    visits: pl.DataFrame
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
    visits = derived.visits
    events = _events(folder, derived, visits)
    honest = ~pl.col("is_fraud")
    return ReportInputs(
        window=derived.window,
        made=derived.made,
        least_shoppers=least_shoppers,
        threshold=threshold,
        honest=events.filter(honest).drop("is_fraud"),
        flagged=events.filter(~honest).drop("is_fraud"),
        aside=_aside(folder, derived),
        visits=visits,
        queries=derived.queries,
        reformulations=derived.reformulations,
        popularity=derived.popularity,
    )


def _rules(folder: Path, derived: Derived) -> tuple[int, float]:
    options = derived.manifest.options
    try:
        return int(options["least_shoppers"]), float(options["robots"]["threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreDamagedError(f"{folder / DERIVED} does not tell its options; refresh the tables") from error


def _events(folder: Path, derived: Derived, visits: pl.DataFrame) -> pl.DataFrame:
    # A day's visits are numbered from 0, in the order in which the table of visits has them.
    place = pl.int_range(pl.len(), dtype=pl.UInt32).over("day")
    told = visits.select("day", "is_fraud", _number="visit", visit=place)
    tables = [_NO_EVENTS]
    for day, path in _days(folder, derived):
        of_day = told.filter(pl.col("day").to_physical() == day).drop("day")
        date = pl.lit(day, pl.Int32).cast(pl.Date)
        events = with_who(_read(path / f"events{SUFFIX}", EMPTY.drop("who").schema))
        joined = events.join(of_day, on="visit", how="left", maintain_order="left")
        known = joined.with_columns(visit="_number", is_fraud=pl.col("is_fraud").fill_null(value=False), day=date)
        tables.append(known.select(_NO_EVENTS.columns))
    return pl.concat(tables)


def _aside(folder: Path, derived: Derived) -> pl.DataFrame:
    tables = [_read(path / f"aside{SUFFIX}", ASIDE_SCHEMA) for _, path in _days(folder, derived)]
    return pl.concat([pl.DataFrame(schema=ASIDE_SCHEMA), *tables])


def _read(path: Path, schema: pl.Schema) -> pl.DataFrame:
    """A file of a day; days have no checksums, and a refresh removes those that its tables are not made from."""
    if not path.parent.is_dir():
        raise StoreMissingError(f"{path.parent} is gone: a refresh has removed it; ask again, or refresh the tables")
    frame = read_frame(path)
    if frame.schema != schema:
        raise StoreDamagedError(f"{path} has other columns than a day has; remove its folder and refresh")
    return frame


def _days(folder: Path, derived: Derived) -> list[tuple[int, Path]]:
    """Each day (since 1970) of a generation and the folder of its cleaned events, ascending."""
    try:
        days = {int(day): name.partition(_OF_PARTS)[0] for day, name in derived.manifest.days.items()}
    except ValueError as error:
        raise StoreDamagedError(f"{folder / DERIVED} does not tell its days; refresh the tables") from error
    return [(day, folder / _DAYS / days[day]) for day in sorted(days)]
