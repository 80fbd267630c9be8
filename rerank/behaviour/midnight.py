"""Visits that cross midnight: each belongs, whole, to the day (UTC) that it begins in.

A day is cleaned together with what its visits may go on with on the day after. What they do go on with is claimed:
the day after is cleaned without it. So every event belongs to one day, and a day depends on the events of two days and
on what the day before has claimed, on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from rerank.behaviour.cleaning import Cleaned

_WHOSE = ("session", "shopper", "query_id")
_NEAR = timedelta(minutes=30)
"""How long after a visit's last event one that was set aside is still taken for a part of it."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnVisits:
    """What belongs to a day: events of its visits (numbered from 0), those set aside, and the keys that it claims;
    and of how many of these events the time was corrected."""

    events: pl.DataFrame
    aside: pl.DataFrame
    claims: pl.DataFrame
    corrected: int


def related(own: pl.DataFrame, following: pl.DataFrame) -> pl.DataFrame:
    """Those events of the day after which share a session, shopper or query with the day's own, directly or not."""
    known = {column: _names(own, column) for column in _WHOSE}
    found = following.clear()
    while True:
        shares = pl.any_horizontal(pl.col(column).is_in(names.implode()) for column, names in known.items())
        more = following.filter(shares)
        if more.height == found.height:
            return found
        found = more
        known = {column: pl.concat([names, _names(found, column)]).unique() for column, names in known.items()}


def own_visits(own: pl.DataFrame, following: pl.DataFrame, cleaned: Cleaned) -> OwnVisits:
    """Of what was cleaned together, what belongs to the day; `own` and `following` are the events as they came."""
    begun = cleaned.events.join(own, on="key", how="semi").select("visit").unique()
    events = cleaned.events.join(begun, on="visit", how="semi", maintain_order="left")
    beyond = _set_aside_in(begun, following, cleaned)
    aside = pl.concat([cleaned.aside.join(own, on="key", how="semi", maintain_order="left"), beyond])
    claims = pl.concat([events.join(own, on="key", how="anti").select("key"), beyond.select("key")])
    corrected = _corrected(
        pl.concat([own, following]), pl.concat([each.select("key", "time") for each in (events, aside)])
    )
    return OwnVisits(_renumbered(events), aside.sort("time", "key"), claims.sort("key"), corrected)


def _corrected(told: pl.DataFrame, cleaned: pl.DataFrame) -> int:
    both = cleaned.join(told.select("key", _told="time"), on="key")
    return both.filter(pl.col("time") != pl.col("_told")).height


def _set_aside_in(begun: pl.DataFrame, following: pl.DataFrame, cleaned: Cleaned) -> pl.DataFrame:
    """What was set aside of the day after, in visits that began on the day: their double clicks and reloads."""
    aside = following.join(cleaned.aside, on="key", how="semi").select("key", "time", whose=_whose())
    if aside.is_empty():
        return cleaned.aside.clear()
    acts = cleaned.events.select("time", "visit", whose=_whose()).sort("time")
    found = aside.sort("time").join_asof(acts, on="time", by="whose", tolerance=_NEAR, check_sortedness=False)
    keys = found.join(begun, on="visit", how="semi").select("key")
    return cleaned.aside.join(keys, on="key", how="semi", maintain_order="left")


def _whose() -> pl.Expr:
    return pl.coalesce(pl.when(pl.col(column) != "").then(pl.col(column)) for column in _WHOSE)


def _names(events: pl.DataFrame, column: str) -> pl.Series:
    names = events[column].unique()
    return names.filter(names != "")


def _renumbered(events: pl.DataFrame) -> pl.DataFrame:
    dense = (pl.col(column).rank("dense").cast(pl.UInt32) - 1 for column in ("visit", "need"))
    return events.with_columns(*dense)
