"""Clocks that are wrong: the times of a live client whose events all come in late, or early, by the same amount.

An event that comes in as it happens is received a moment later. Where several events of one client, over some time,
are all off by the same large amount, its clock is; the smallest difference is the clock's, since a message can only be
late (as NTP's clock filter takes it: Mills 1991, Internet Time Synchronization). A log that is imported, or
sent in one go by a client that was offline, is received all at once, so its differences are not the same, and its
times stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

_EVENTS = 3
"""At how many moments an event must have come in."""


@dataclass(frozen=True, slots=True)
class ClockOptions:
    """When a clock is called wrong, and when the events of one client agree on it."""

    tolerance: timedelta = timedelta(minutes=2)
    """What is received within this much of its time is left as it is."""
    agreement: timedelta = timedelta(seconds=10)
    """How far the differences of one client's events may lie apart."""
    least: timedelta = timedelta(seconds=30)
    """Over how long its events must have come in: within less, a log read in one go could look alike."""
    gap: timedelta = timedelta(minutes=30)
    """A longer pause between two events that come in begins a new look: clocks are set."""


def with_right_times(events: pl.DataFrame, options: ClockOptions | None = None) -> pl.DataFrame:
    """The events with the times of wrong clocks corrected, in their order."""
    options = options or ClockOptions()
    rows = events.with_row_index("_row")
    off = rows.filter((pl.col("received") - pl.col("time")).abs() > options.tolerance)
    if off.is_empty():
        return events
    shifts = _shifts(off, options)
    moved = rows.join(shifts, on="_row", how="left", maintain_order="left")
    right = pl.col("time") + pl.coalesce("_shift", pl.duration(milliseconds=0, time_unit="ms"))
    return moved.with_columns(time=right).select(events.columns)


def _shifts(off: pl.DataFrame, options: ClockOptions) -> pl.DataFrame:
    """For each row whose clock is wrong, `_row` and `_shift` (Duration)."""
    ids = ("session", "shopper", "query_id")
    client = pl.coalesce(
        *(pl.when(pl.col(name) != "").then(pl.lit(f"{name}:") + pl.col(name)) for name in ids), pl.lit("")
    )
    late = off.select("_row", "received", _late=pl.col("received") - pl.col("time"), _client=client)
    late = late.sort("_client", "received")
    begins = (pl.col("_client") != pl.col("_client").shift(1)) | (pl.col("received").diff() > options.gap)
    late = late.with_columns(_look=begins.fill_null(True).cum_sum())
    looks = late.group_by("_look").agg(
        _shift=pl.col("_late").min(),
        _spread=pl.col("_late").max() - pl.col("_late").min(),
        _lasted=pl.col("received").max() - pl.col("received").min(),
        _moments=pl.col("received").n_unique(),
    )
    agreed = (pl.col("_spread") <= options.agreement) & (pl.col("_lasted") >= options.least)
    wrong = looks.filter(agreed & (pl.col("_moments") >= _EVENTS))
    return late.join(wrong, on="_look").select("_row", "_shift")
