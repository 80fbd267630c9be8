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

_EVENTS = EMPTY.with_columns(is_fraud=pl.lit(value=False))
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
    events: pl.DataFrame
    """Of `CLEAN_SCHEMA` with `who` and `is_fraud`, ordered by visit and time; visits as in `visits`."""
    aside: pl.DataFrame
    """Of `ASIDE_SCHEMA`."""
    visits: pl.DataFrame
    queries: pl.DataFrame
    reformulations: pl.DataFrame
    popularity: pl.DataFrame

    @property
    def honest(self) -> pl.DataFrame:
        """The events without those of robots and fraud, as the tables are made from them."""
        return self.events.filter(~pl.col("is_fraud"))


def read_inputs(folder: Path) -> ReportInputs:
    """The newest tables of a folder that `refresh` has written, with their events.

    Raises StoreMissingError where there are none, StoreDamagedError where a file cannot be read, as one that a refresh
    has removed meanwhile.
    """
    derived = open_derived(folder)
    options = derived.manifest.options
    visits = derived.visits
    return ReportInputs(
        window=derived.window,
        made=derived.made,
        least_shoppers=int(options["least_shoppers"]),
        threshold=float(options["robots"]["threshold"]),
        events=_events(folder, derived, visits),
        aside=_aside(folder, derived),
        visits=visits,
        queries=derived.queries,
        reformulations=derived.reformulations,
        popularity=derived.popularity,
    )


def _events(folder: Path, derived: Derived, visits: pl.DataFrame) -> pl.DataFrame:
    # A day's visits are numbered from 0, in the order in which the table of visits has them.
    place = pl.int_range(pl.len(), dtype=pl.UInt32).over("day")
    told = visits.select(pl.col("day").to_physical(), "is_fraud", _number="visit", visit=place)
    tables = [_EVENTS]
    for day, path in _days(folder, derived):
        of_day = told.filter(pl.col("day") == day).drop("day")
        events = with_who(read_frame(path / f"events{SUFFIX}"))
        joined = events.join(of_day, on="visit", how="left", maintain_order="left")
        known = joined.with_columns(visit="_number", is_fraud=pl.col("is_fraud").fill_null(value=False))
        tables.append(known.select(_EVENTS.columns))
    return pl.concat(tables)


def _aside(folder: Path, derived: Derived) -> pl.DataFrame:
    tables = [read_frame(path / f"aside{SUFFIX}") for _, path in _days(folder, derived)]
    return pl.concat([pl.DataFrame(schema=ASIDE_SCHEMA), *tables])


def _days(folder: Path, derived: Derived) -> list[tuple[int, Path]]:
    """Each day (since 1970) of a generation and the folder of its cleaned events, ascending."""
    days = {int(day): name.partition(_OF_PARTS)[0] for day, name in derived.manifest.days.items()}
    return [(day, folder / _DAYS / days[day]) for day in sorted(days)]
