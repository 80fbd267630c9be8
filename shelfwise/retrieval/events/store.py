"""The event store protocol, tables of events, and their export to Parquet. One contract suite checks all stores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import polars as pl

from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent, moment
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.records import EventKind
from shelfwise.retrieval.store.files import atomic_file

_TIME = pl.Datetime("ms", "UTC")
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.Binary,
    "kind": pl.Enum([kind.value for kind in EventKind]),
    "time": _TIME,
    "received": _TIME,
    "shopper": pl.String,
    "session": pl.String,
    "query_id": pl.String,
    "query": pl.String,
    "product_id": pl.String,
    "position": pl.Int32,
    "quantity": pl.Int32,
    "rating": pl.Float64,
    "results": pl.Int32,
    "address": pl.String,
}
EVENT_SCHEMA = pl.Schema(_COLUMNS)
"""The columns of a table of events: for reading and training. An export lacks `address`."""


def event_table(events: Iterable[tuple[object, ...]]) -> pl.DataFrame:
    """A table of events with the columns of `EVENT_SCHEMA`."""
    plain = _COLUMNS | {"kind": pl.String, "time": pl.Int64, "received": pl.Int64}
    return pl.DataFrame(list(events), schema=plain, orient="row").cast(EVENT_SCHEMA)


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The result of an append: new events are durable, earlier ones unchanged."""

    added: int
    """The number of new events."""
    duplicates: int
    """The number of events that already existed with equal content."""
    conflicts: tuple[int, ...] = ()
    """Positions, from 0, of events whose id a different event has: they were rejected."""


@dataclass(frozen=True, slots=True)
class DayState:
    """The state of a day of events (UTC) in a store. Two states of a day are equal only if its events are the same."""

    count: int
    mark: str
    """Changes whenever an event of this day is added or removed."""


class EventStore(Protocol):
    """A store of events: thread-safe, and several processes may use it at once.

    Methods raise StoreError if the store cannot be read or written, ClusterError if a cluster cannot be used.
    """

    def append(self, events: Sequence[StoredEvent]) -> AppendResult:
        """Appends events, durably. Each key is stored once, also within a call."""

    def count(self) -> int:
        """The number of events."""
        return sum(state.count for state in self.days().values())

    def days(self) -> Mapping[int, DayState]:
        """The state of each day that has events, by days since 1970, ascending."""

    def read(self, first_day: int, last_day: int) -> Iterator[pl.DataFrame]:
        """The events of some days, inclusive, in tables of `EVENT_SCHEMA` ordered by time, then by key."""

    def holds(self, shoppers: Collection[str]) -> int:
        """The number of events under any of these pseudonyms."""

    def holds_key(self, name: str) -> bool:
        """Whether any event has a pseudonym, of a shopper or a session, made with the key of this name."""

    def forget(self, shoppers: Collection[str]) -> int:
        """Removes the events of these pseudonyms, and nameless events of the same sessions; returns the count."""

    def expire(self, before_day: int, expected: Mapping[int, DayState] | None = None) -> int:
        """Removes the events of all days before one; returns the count.

        Raises StoreError and removes none if the state of these days is not `expected`.
        """

    def close(self) -> None:
        """Closes the store after pending appends."""


def check_expected(days: Mapping[int, DayState], before_day: int, expected: Mapping[int, DayState]) -> None:
    """Raises StoreError if the state of the days before one is not `expected`."""
    if {day: state for day, state in days.items() if day < before_day} != dict(expected):
        raise StoreError("events were recorded or removed in the meantime, so nothing was removed; try again")


_GROUP_ROWS = 250_000


@dataclass(frozen=True, slots=True)
class EventExport:
    """The exported files with their numbers of events, and the total size in bytes."""

    files: Mapping[str, int]
    bytes: int


def export_events(store: EventStore, folder: Path, advance: Callable[[int], None] = lambda _: None) -> EventExport:
    """Writes `events-2026-11.parquet` and so on, one file per month (UTC), each atomically.

    Raises StoreError if the folder cannot be written.
    """
    files: dict[str, int] = {}
    size = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for month, days in groupby(store.days(), lambda day: moment(day * DAY_MS).strftime("%Y-%m")):
            path = folder / f"events-{month}.parquet"
            of_month = list(days)
            files[path.name] = _write(path, store.read(of_month[0], of_month[-1]), advance)
            size += path.stat().st_size
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror or error})") from error
    return EventExport(files, size)


def _write(path: Path, tables: Iterator[pl.DataFrame], advance: Callable[[int], None]) -> int:
    with optional_imports():
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

    exported = pl.DataFrame(schema=EVENT_SCHEMA).drop("address")
    schema = exported.to_arrow().schema
    count = 0
    with atomic_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.select(exported.columns).to_arrow().cast(schema), row_group_size=_GROUP_ROWS)
            count += table.height
            advance(table.height)
    return count
