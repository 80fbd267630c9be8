"""Moves a store's events between the SQLite file on this machine and the cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from retrieval.errors import StoreError
from retrieval.events.store import EventStore
from retrieval.events.stored import StoredEvent

_BATCH = 5_000
_EVER = 1 << 24
"""A day after all others."""


@dataclass(frozen=True, slots=True)
class EventsMoved:
    """How many events were moved, and how many of them were there already, as after a move that was broken off."""

    moved: int
    repeated: int


def move_events(source: EventStore, target: EventStore, advance: Callable[[int], None] = lambda _: None) -> EventsMoved:
    """Copies all events, and removes them where they were once each is durable where they are now.

    It can be done again after it was broken off. Raises StoreError, and removes nothing, where an event of the target
    has the id of another one, or where events were recorded meanwhile.
    """
    taken = repeated = 0
    days = source.days()
    for day in days:
        for table in source.read(day, day):
            for batch in table.iter_slices(_BATCH):
                appended = target.append(stored_events(batch))
                if appended.differing:
                    raise StoreError(f"{len(appended.differing):,} ids are other events' there; nothing was removed")
                taken += appended.taken
                repeated += appended.repeated
                advance(batch.height)
    # What was recorded meanwhile is not lost: then none is removed.
    source.expire(_EVER, expected=days)
    return EventsMoved(taken, repeated)


def stored_events(table: pl.DataFrame) -> list[StoredEvent]:
    """The rows of a table of events as they were appended."""
    plain = table.with_columns(pl.col("kind").cast(pl.String), pl.col("time", "received").dt.epoch("ms"))
    return [StoredEvent(*row) for row in plain.iter_rows()]
