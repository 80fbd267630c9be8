"""Robots: the visits of some days scored together, kept as files, scored again only where one of these days changed.

What is usual needs many visits, and a score from all events of the window would be made anew with each event. So the
window is cut into stretches of days that hold enough visits; a store with few visits has one stretch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path

import polars as pl
import xxhash

from rerank.behaviour.cleaning import CLEAN_SCHEMA
from rerank.behaviour.days import Day
from rerank.behaviour.folders import SUFFIX, read_frame, write_folder
from rerank.behaviour.robots import RobotOptions
from retrieval.events.stored import DAY_MS, moment

RECIPE = 2
"""Counts up when scoring changes, so that what an older program scored is scored again."""
_PLACES = {"day": pl.Int32, "place": pl.UInt32}

ScoreVisits = Callable[[pl.DataFrame, RobotOptions], pl.DataFrame]


class Scorer:
    """Scores the visits of days, a stretch at a time; counts those that were not kept from before."""

    def __init__(self, folder: Path, score_visits: ScoreVisits, options: RobotOptions) -> None:
        self._folder = folder
        self._score_visits = score_visits
        self._options = options
        self.folders: list[Path] = []
        self.scored = 0

    def visits(self, days: Sequence[Day], together: int) -> pl.DataFrame:
        """One row a visit, in order: what `score_visits` gives, with its `day` (days since 1970) and `place`, its
        number there. About so many visits are scored `together`, at least."""
        tables = [self._stretch(stretch) for stretch in stretches(days, together)] or [self._scores(())]
        return pl.concat(tables).sort("day", "place").with_row_index("visit")

    def _stretch(self, days: Sequence[Day]) -> pl.DataFrame:
        rules = f"{RECIPE} {self._options!r}"
        made_from = xxhash.xxh3_64_hexdigest("\n".join((rules, *(day.folder.name for day in days))).encode())
        folder = self._folder / f"{_date(days[0])}-{made_from}"
        self.folders.append(folder)
        if not folder.exists():
            self.scored += sum(day.facts.visits for day in days)
            write_folder(folder, {"visits": self._scores(days)}, {}, {})
        return read_frame(folder / f"visits{SUFFIX}")

    def _scores(self, days: Sequence[Day]) -> pl.DataFrame:
        tables, numbers = [pl.DataFrame(schema=CLEAN_SCHEMA)], [pl.DataFrame(schema=_PLACES)]
        visits = needs = 0
        for day in days:
            moved = (pl.col("visit") + pl.lit(visits, pl.UInt32), pl.col("need") + pl.lit(needs, pl.UInt32))
            tables.append(day.events().with_columns(*moved))
            numbers.append(pl.DataFrame({"day": day.number, "place": range(day.facts.visits)}, schema=_PLACES))
            visits, needs = visits + day.facts.visits, needs + day.facts.needs
        places = pl.concat(numbers).with_row_index("visit")
        return self._score_visits(pl.concat(tables), self._options).join(places, on="visit").drop("visit")


def stretches(days: Sequence[Day], together: int) -> list[list[Day]]:
    """Days cut into stretches of equal length, a power of two, in which so many visits are to be expected.

    They begin at multiples of that length since 1970, so that those of yesterday's window are those of today's.
    """
    if not days:
        return []
    visits = sum(day.facts.visits for day in days)
    span = days[-1].number - days[0].number + 1
    length = 1
    while length < span and visits * length < together * span:
        length *= 2
    if length >= span:
        return [list(days)]
    return [list(stretch) for _, stretch in groupby(days, lambda day: day.number // length)]


def flagged_by_day(visits: pl.DataFrame) -> Mapping[int, tuple[int, ...]]:
    """For each day with any, the numbers there of the visits that are called robots', ascending."""
    flagged = visits.filter("is_fraud").group_by("day", maintain_order=True).agg("place")
    return {day: tuple(places) for day, places in flagged.iter_rows()}


def visit_table(visits: pl.DataFrame) -> pl.DataFrame:
    """The visits as they are published: the day that each begins in as a date."""
    return visits.drop("place").with_columns(pl.col("day").cast(pl.Date))


def aside_table(days: Sequence[Day]) -> pl.DataFrame:
    """How many events were set aside, by day and reason."""
    counts = [(_date(day), reason, count) for day in days for reason, count in day.facts.aside.items()]
    return pl.DataFrame(counts, schema={"day": pl.Date, "reason": pl.String, "events": pl.UInt32}, orient="row")


def _date(day: Day) -> date:
    return moment(day.number * DAY_MS).date()
