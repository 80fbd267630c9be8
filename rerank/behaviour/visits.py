"""Visits: which events were one shopper's, one after another, without a long pause.

A store's own session counts where there is one, else the shopper. Both are cut where nothing happened for half an
hour: the timeout that web analytics uses (Spiliopoulou et al. 2003, A Framework for the Evaluation of Session
Reconstruction Heuristics in Web-Usage Analysis), which studies of search logs place between 10 and 60 minutes (He &
Göker 2000, Detecting Session Boundaries from Web User Logs; Halfaker et al. 2015, User Session Identification Based on
Strong Regularities in Inter-activity Time).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

LONGEST = timedelta(hours=24)
"""What lasts longer than this is cut at each midnight (UTC): a rule that needs to see a day around an event only."""

ORDER = ("visit", "time", "kind", "position", "key")
"""The order of events by visit and time, the same whatever order they came in."""


@dataclass(frozen=True, slots=True)
class VisitOptions:
    """How events are told apart: the longest pause within a visit."""

    gap: timedelta = timedelta(minutes=30)


def with_visits(events: pl.DataFrame, options: VisitOptions | None = None) -> pl.DataFrame:
    """The events (columns of `EVENT_SCHEMA`) with `visit` (UInt32), ordered by visit and time.

    Visits are numbered from 0 in the order that they begin in. In a session of several shoppers each one has a visit
    of their own; an event without a shopper belongs to the one before it, or else after it. An event without a session
    belongs to the session of its query, or to one that its shopper was in less than a gap before.
    """
    gap = (options or VisitOptions()).gap
    owned = _with_owner(events, gap).sort("_owner", "time", "key")
    chains = owned.with_columns(_chain=_breaks(gap, "_owner").cum_sum())
    who = pl.col("_who").forward_fill().over("_chain")
    chains = chains.with_columns(_who=who).with_columns(_who=pl.col("_who").backward_fill().over("_chain"))
    apart = chains.sort("_chain", "_who", "time", "key").with_columns(_part=_breaks(gap, "_chain", "_who").cum_sum())
    return _in_order(_without_long(apart), list(events.columns))


def _with_owner(events: pl.DataFrame, gap: timedelta) -> pl.DataFrame:
    """Adds `_owner`, whose events are looked at together, and `_who`, the shopper or null."""
    named = events.with_columns(_session=_filled("session"), _who=_filled("shopper"), _asked=_filled("query_id"))
    named = _with_session_of_query(named)
    named = _with_session_of_shopper(named, gap)
    named = _with_shopper_of_query(named)
    owner = pl.coalesce("s" + pl.col("_session"), "u" + pl.col("_who"), "q" + pl.col("_asked"), pl.lit(""))
    return named.with_columns(_owner=owner)


def _filled(column: str) -> pl.Expr:
    return pl.when(pl.col(column) != "").then(pl.col(column))


def _with_session_of_query(named: pl.DataFrame) -> pl.DataFrame:
    known = named.filter(pl.col("_session").is_not_null() & pl.col("_asked").is_not_null())
    known = known.sort("time", "key").unique("_asked", keep="first", maintain_order=True)
    theirs = known.select("_asked", _of="_session", _by="_who")
    same = pl.col("_who").is_null() | pl.col("_by").is_null() | (pl.col("_who") == pl.col("_by"))
    joined = named.join(theirs, on="_asked", how="left")
    return joined.with_columns(pl.coalesce("_session", pl.when(same).then("_of")).alias("_session")).drop("_of", "_by")


def _with_session_of_shopper(named: pl.DataFrame, gap: timedelta) -> pl.DataFrame:
    """A purchase that the server tells of, without the session, belongs to the visit that led to it."""
    lacks = pl.col("_session").is_null() & pl.col("_who").is_not_null()
    lacking = named.filter(lacks)
    if lacking.is_empty():
        return named
    known = named.filter(pl.col("_session").is_not_null() & pl.col("_who").is_not_null())
    known = known.sort("time", "key").select("_who", "time", _of="_session")
    found = lacking.sort("time").join_asof(known, on="time", by="_who", tolerance=gap, check_sortedness=False)
    return pl.concat([named.filter(~lacks), found.with_columns(_session="_of").drop("_of")])


def _with_shopper_of_query(named: pl.DataFrame) -> pl.DataFrame:
    known = named.filter(pl.col("_who").is_not_null() & pl.col("_session").is_null() & pl.col("_asked").is_not_null())
    known = known.sort("time", "key").unique("_asked", keep="first", maintain_order=True)
    joined = named.join(known.select("_asked", _by="_who"), on="_asked", how="left")
    nobodys = pl.col("_session").is_null() & pl.col("_who").is_null()
    return joined.with_columns(pl.when(nobodys).then("_by").otherwise("_who").alias("_who")).drop("_by")


def _breaks(gap: timedelta, *columns: str) -> pl.Expr:
    """Where another owner's events begin, or the same one's after a pause; the rows are in this order."""
    changed = pl.any_horizontal(pl.col(column).ne_missing(pl.col(column).shift(1)) for column in columns)
    return (changed | (pl.col("time").diff() > gap)).fill_null(True)


def _without_long(apart: pl.DataFrame) -> pl.DataFrame:
    span = pl.col("time").max() - pl.col("time").min()
    day = pl.col("time").dt.date()
    begins = (pl.col("_part") != pl.col("_part").shift(1)).fill_null(True)
    marked = apart.with_columns(_long=span.over("_part") > LONGEST)
    begins |= pl.col("_long") & (day != day.shift(1))
    return marked.with_columns(_part=begins.fill_null(True).cum_sum())


def _in_order(apart: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    firsts = apart.unique("_part", keep="first", maintain_order=True).sort("time", "key")
    numbers = firsts.select("_part", visit=pl.int_range(pl.len(), dtype=pl.UInt32))
    joined = apart.join(numbers, on="_part", how="left")
    return joined.select(*columns, "visit").sort(ORDER)
