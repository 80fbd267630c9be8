"""Events as Parquet files for training and for other tools: one a month (UTC), with the columns of `EVENT_SCHEMA`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from retrieval.errors import StoreError
from retrieval.events.store import EventStore
from retrieval.events.stored import DAY_MS, EVENT_SCHEMA, moment
from retrieval.manifest import scratch_path, sync

_GROUP_ROWS = 250_000


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: files by name with their number of events, and bytes of all of them."""

    files: Mapping[str, int]
    bytes: int


def export_events(store: EventStore, folder: Path, advance: Callable[[int], None] = lambda _: None) -> Exported:
    """Writes every month that has events, as `events-2026-11.parquet` and so on; each file appears once it is whole.

    Raises StoreError where the folder cannot be written.
    """
    files: dict[str, int] = {}
    size = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for month, days in groupby(store.days(), _month):
            path = folder / f"events-{month}.parquet"
            of_month = list(days)
            files[path.name] = _write(path, store.read(of_month[0], of_month[-1]), advance)
            size += path.stat().st_size
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror or error})") from error
    return Exported(files, size)


def _month(day: int) -> str:
    return moment(day * DAY_MS).strftime("%Y-%m")


def _write(path: Path, tables: Iterator[pl.DataFrame], advance: Callable[[int], None]) -> int:
    scratch = scratch_path(path)
    schema = pl.DataFrame(schema=EVENT_SCHEMA).to_arrow().schema
    count = 0
    try:
        with pq.ParquetWriter(scratch, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table.to_arrow().cast(schema), row_group_size=_GROUP_ROWS)
                count += table.height
                advance(table.height)
        sync(scratch)
        scratch.replace(path)
        sync(path.parent)
    finally:
        scratch.unlink(missing_ok=True)
    return count
