"""A log of clicks in three periods, by time: the first trains, the next one chooses, the last one judges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast

import polars as pl

from retrieval.errors import TrainingError

LEAST_LISTS = 100
"""Shown lists that a log needs to be divided at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Periods:
    """Events of the columns that `rerank.clicks.click_log.click_log` takes. A list and all that was done on it are of
    one period: that of the list's first impression."""

    training: pl.DataFrame
    validation: pl.DataFrame
    held_out: pl.DataFrame

    @property
    def choosing(self) -> datetime:
        """When the second one begins: what is told from before may be told to all three."""
        return cast(datetime, self.validation["time"].min())


def by_time(events: pl.DataFrame, validation: float = 0.1, held_out: float = 0.2) -> Periods:
    """Divides a log by the time of its lists: the last share of them is held out, the one before it validates.

    Acts on answers of which no list was shown are in no period. Raises TrainingError for an empty log, or one of too
    few lists to divide.
    """
    return _divided(events, _shown_lists(events).sort("start", "query_id"), validation, held_out)


def by_list(events: pl.DataFrame, validation: float = 0.1, held_out: float = 0.2, seed: int = 0) -> Periods:
    """Divides a log that has no times by drawing its lists, each whole with all that was done on it; raises as
    `by_time`."""
    return _divided(events, _shown_lists(events).sort(pl.col("query_id").hash(seed), "query_id"), validation, held_out)


def _shown_lists(events: pl.DataFrame) -> pl.DataFrame:
    starts = events.filter((pl.col("kind") == "impression") & (pl.col("query_id") != ""))
    return starts.group_by("query_id").agg(pl.col("time").min().alias("start"))


def _divided(events: pl.DataFrame, lists: pl.DataFrame, validation: float, held_out: float) -> Periods:
    """By `lists` in their order."""
    if lists.height < LEAST_LISTS:
        raise TrainingError(
            f"the log has {lists.height} shown lists; learning from clicks takes {LEAST_LISTS} at least: import more "
            "events, or train with --from-catalog"
        )
    judging = lists.height - max(1, round(lists.height * held_out))
    choosing = judging - max(1, round(lists.height * validation))
    number = pl.int_range(pl.len())
    period = pl.when(number < choosing).then(0).when(number < judging).then(1).otherwise(2)
    known = events.join(lists.select("query_id", period=period), on="query_id", maintain_order="left")
    parts = (known.filter(pl.col("period") == each).drop("period") for each in range(3))
    return Periods(*parts)
