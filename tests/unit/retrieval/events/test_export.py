"""Events as Parquet: every month a file, the same events, and no half of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from retrieval.errors import StoreError
from retrieval.events.sqlite import SqliteEvents
from retrieval.events.store import export_events
from retrieval.events.stored import EVENT_SCHEMA, StoredEvent, milliseconds


def event(number: int, time: datetime) -> StoredEvent:
    ms = milliseconds(time)
    return StoredEvent(number.to_bytes(16, "big"), "cart", ms, ms, "k1~a", "", "", "", "p1", None, 2, None, None)


EVENTS = [
    event(3, datetime(2026, 10, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
    event(1, datetime(2026, 11, 1, tzinfo=UTC)),
    event(2, datetime(2026, 11, 30, 12, tzinfo=UTC)),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEvents]:
    with closing(SqliteEvents(tmp_path / "events")) as opened:
        opened.append(EVENTS)
        yield opened


def test_every_month_is_a_file(store: SqliteEvents, tmp_path: Path) -> None:
    exported = export_events(store, tmp_path / "out")
    assert exported.files == {"events-2026-10.parquet": 1, "events-2026-11.parquet": 2}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list(exported.files)
    assert exported.bytes == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())


def test_holds_what_the_store_holds(store: SqliteEvents, tmp_path: Path) -> None:
    export_events(store, tmp_path)
    read = pl.concat(pl.read_parquet(path) for path in sorted(tmp_path.glob("*.parquet")))
    assert read.cast(EVENT_SCHEMA).equals(pl.concat(store.read(0, 1 << 20)))


def test_an_empty_store_has_no_file(tmp_path: Path) -> None:
    with closing(SqliteEvents(tmp_path / "events")) as store:
        assert export_events(store, tmp_path / "out").files == {}


def test_a_folder_that_is_none_is_an_error_of_ours(store: SqliteEvents, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        export_events(store, tmp_path / "file")
