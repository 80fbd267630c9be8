"""Logs in which planted fraud is rarer, more, or better disguised, and in which honest shoppers behave oddly.

Each makes one labelled log of another: the columns of `EVENT_SCHEMA`, and `scheme`, the planted scheme or "honest".
They change what a detector could lean on: that fraud is fast, that its accounts come again, that few honest shoppers
hurry or click a lot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

HONEST = "honest"
Mixture = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]

_IS_HONEST = pl.col("scheme") == HONEST
_HURRIED = 0.1
_WHOLESALE = 0.01


def as_planted(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """The log as it is."""
    return log


def none(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """Without the fraud."""
    return log.filter(_IS_HONEST)


def tenth(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in ten of the sessions of fraud, at least one of each scheme."""
    sessions = log.filter(~_IS_HONEST).select("scheme", "session").unique().sort("scheme", "session")
    order = sessions.with_columns(_draw=pl.Series(random.random(len(sessions)))).sort("_draw")
    place = pl.int_range(pl.len()).over("scheme")
    kept = order.filter(place < pl.max_horizontal(pl.len().over("scheme") // 10, pl.lit(1)))
    return log.filter(_IS_HONEST | pl.col("session").is_in(kept["session"].implode()))


def fourfold(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With a quarter of the honest shoppers only, so that fraud weighs four times as much."""
    return log.filter(~_IS_HONEST | pl.col("shopper").is_in(_some(log, "shopper", 0.25, random).implode()))


def slow(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With fraud at shoppers' pace: each pause some fifteen times as long, unevenly."""
    return _paced(log, ~_IS_HONEST, random.lognormal(np.log(15), 0.6, len(log)))


def throwaway(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """With an account for each session of fraud."""
    return log.with_columns(shopper=pl.when(_IS_HONEST).then("shopper").otherwise("u" + pl.col("session")))


def hurried(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in ten honest shoppers opening results in tabs, a second or two apart."""
    chosen = pl.col("shopper").is_in(_some(log, "shopper", _HURRIED, random).implode())
    return _paced(log, _IS_HONEST & chosen, random.uniform(0.02, 0.06, len(log)))


def wholesale(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in a hundred honest sessions going on to open most of what they were shown, and to buy a part of it."""
    chosen = _some(log, "session", _WHOLESALE, random)
    mine = log.filter(pl.col("session").is_in(chosen.implode()))
    shown = mine.filter(pl.col("kind") == "impression").sort("session", "time", "position", "key")
    shown = shown.join(mine.group_by("session").agg(_end=pl.col("time").max()), on="session", maintain_order="left")
    shown = shown.filter(pl.Series(random.random(len(shown)) < 0.7))
    pauses = 10_000 + (1_000 * pl.Series(random.lognormal(np.log(15), 0.7, len(shown)))).cast(pl.Int64)
    clicks = shown.with_columns(_pause=pauses).with_columns(_at=pl.col("_pause").cum_sum().over("session"))
    bought = clicks.filter(pl.Series(random.random(len(clicks)) < 0.3))
    checkout = bought.with_columns(_at=pl.col("_pause").sum().over("session") + 3_600_000 // 4)
    parts = (log, _added(clicks, "click"), _added(checkout, "purchase"))
    return pl.concat([part.select(log.columns) for part in parts])


MIXTURES: Mapping[str, Mixture] = {
    "as planted": as_planted,
    "no fraud": none,
    "a tenth of it": tenth,
    "four times as much": fourfold,
    "at shoppers' pace": slow,
    "an account a session": throwaway,
    "beside hurried shoppers": hurried,
    "beside wholesale buyers": wholesale,
}
"""All of them, by the names that the figures are under."""


def _some(log: pl.DataFrame, column: str, share: float, random: np.random.Generator) -> pl.Series:
    found = log.filter(_IS_HONEST)[column].unique().sort()
    return found.filter(pl.Series(random.random(len(found)) < share))


def _paced(log: pl.DataFrame, whose: pl.Expr, factors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pl.DataFrame:
    """With the pauses of some sessions made longer or shorter by a factor each."""
    ordered = log.sort("session", "time", "key").with_columns(_factor=pl.Series(factors))
    pause = pl.col("time").diff().over("session").dt.total_milliseconds().fill_null(0) * pl.col("_factor")
    since = pl.duration(milliseconds=pause.cum_sum().over("session").cast(pl.Int64), time_unit="ms")
    moved = pl.col("time").first().over("session") + since
    return ordered.with_columns(time=pl.when(whose).then(moved).otherwise("time")).drop("_factor")


def _added(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    key = pl.concat_str(pl.col("key").cast(pl.String), pl.lit(f"+{kind}")).cast(pl.Binary)
    time = pl.col("_end") + pl.duration(milliseconds="_at", time_unit="ms")
    return rows.with_columns(key=key, kind=pl.lit(kind, rows.schema["kind"]), time=time)
