"""The SQLite event store's own properties: one transaction for many threads, its file, its errors."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from shelfwise.retrieval.events.sqlite import EVENTS_FILE, SqliteEvents
from shelfwise.retrieval.updates.journal import lock_folder
from tests.event_stores import DECEMBER, at, event


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEvents]:
    opened = SqliteEvents(tmp_path)
    yield opened
    opened.close()


def test_waiting_events_are_written_in_one_transaction(store: SqliteEvents, tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as threads, lock_folder(tmp_path, None):
        appended = [threads.submit(store.append, [event(number)]) for number in range(20)]
        # One of them waits for the lock, with the events queued when it began; the others wait for it.
        while len(store._commits.queue) < len(appended) - 1:
            pass
    assert len({state.mark for state in store.days().values()}) == 1
    assert store.count() == sum(each.result().added for each in appended) == 20


def test_error_reaches_all_waiting_threads_and_later_events_are_stored(store: SqliteEvents) -> None:
    broken = event(1)._replace(kind=None)  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        store.append([event(2), broken])
    assert store.count() == 0
    assert store.append([event(2)]).added == 1


def test_append_waits_for_the_disk(store: SqliteEvents) -> None:
    full = 2
    assert store._connection.execute("PRAGMA synchronous").fetchone()[0] == full
    assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_erased_event_is_in_no_file(store: SqliteEvents, tmp_path: Path) -> None:
    name = "k1~" + "FORGET" * 3
    store.append([event(number, shopper=name) for number in range(1_000)])
    store.append([event(number, shopper="k1~other") for number in range(1_000, 2_000)])
    assert any(name.encode() in path.read_bytes() for path in tmp_path.iterdir())
    assert store.forget([name]) == 1_000
    assert not any(name.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_expired_events_free_their_space(store: SqliteEvents) -> None:
    store.append([event(number, time=at(1, number)) for number in range(20_000)])
    store.append([event(20_000, time=at(2))])
    before = store.path.stat().st_size + store.path.with_name(f"{EVENTS_FILE}-wal").stat().st_size
    assert store.expire(DECEMBER + 1) == 20_000
    assert store.path.stat().st_size < before / 10


def execute(path: Path, command: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(command)


def test_foreign_file_is_not_touched(tmp_path: Path) -> None:
    execute(tmp_path / EVENTS_FILE, "CREATE TABLE theirs (a)")
    before = (tmp_path / EVENTS_FILE).read_bytes()
    with pytest.raises(StoreForeignError, match="not an event store"):
        SqliteEvents(tmp_path)
    assert (tmp_path / EVENTS_FILE).read_bytes() == before


def test_file_of_a_newer_schema_is_not_touched(tmp_path: Path) -> None:
    SqliteEvents(tmp_path).close()
    execute(tmp_path / EVENTS_FILE, "PRAGMA user_version = 9")
    with pytest.raises(StoreForeignError, match="another version"):
        SqliteEvents(tmp_path)


def test_damaged_file_invalid_folder_and_closed_store_raise(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_bytes(b"not a database" * 1_000)
    with pytest.raises(StoreDamagedError, match=EVENTS_FILE):
        SqliteEvents(tmp_path)
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteEvents(tmp_path / EVENTS_FILE)
    closed = SqliteEvents(tmp_path / "other")
    closed.close()
    with pytest.raises(StoreError, match="is closed"):
        closed.append([event(1)])


def test_forked_process_must_reopen_the_store(store: SqliteEvents) -> None:
    store.append([event(1)])
    for use in (lambda: store.append([event(2)]), lambda: SqliteEvents(store.path.parent), store.count):
        child = os.fork()
        if child == 0:
            try:
                use()
            except StoreError as error:
                os._exit(0 if "forked" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.append([event(2)]).added == 1


def test_process_forked_in_a_transaction_does_not_hold_the_lock(tmp_path: Path) -> None:
    with lock_folder(tmp_path, None):
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
    try:
        with lock_folder(tmp_path, 5.0):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_concurrent_creation_gives_one_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for store in threads.map(lambda _: SqliteEvents(tmp_path), range(40)):
            store.close()
