"""The event store on one machine: a SQLite file with a write-ahead log.

A committed transaction is on disk (`synchronous = FULL`). Threads that append at the same time share a transaction:
group commit (DeWitt et al., Implementation Techniques for Main Memory Database Systems, 1984, section 5). Processes
take turns with a lock. A process forked while the file was open is refused, since SQLite's locks are not inherited.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import polars as pl
from xxhash import xxh3_64_intdigest

from shelfwise.retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from shelfwise.retrieval.events.privacy import prefix
from shelfwise.retrieval.events.store import (
    EVENT_SCHEMA,
    AppendResult,
    DayState,
    EventStore,
    check_expected,
    event_table,
)
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent, moment
from shelfwise.retrieval.events.wal import copy_if_damaged, damaged_copies, log_path
from shelfwise.retrieval.store.files import sync
from shelfwise.retrieval.updates.journal import lock_folder

EVENTS_FILE = "events.sqlite"
_APPLICATION_ID = 0x53574556
_SCHEMA_VERSION = 3
_WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_READ_ROWS = 50_000
_CACHE_KB = 64_000
"""Keys are random, so their index should fit into memory."""
_OPENED: Counter[tuple[Path, int]] = Counter()
"""The number of open stores by file and process, to detect a fork."""

_COLUMNS = ", ".join(EVENT_SCHEMA)
# Ordered by time, so that a day is read sequentially and new events are added at the end.
_SCHEMA = """
CREATE TABLE events (
    key BLOB NOT NULL, kind TEXT NOT NULL, time INTEGER NOT NULL, received INTEGER NOT NULL, shopper TEXT NOT NULL,
    session TEXT NOT NULL, query_id TEXT NOT NULL, query TEXT NOT NULL, product_id TEXT NOT NULL, position INTEGER,
    quantity INTEGER, rating REAL, results INTEGER, address TEXT NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (time, key)
) WITHOUT ROWID;
CREATE UNIQUE INDEX events_by_key ON events (key);
CREATE TABLE days (day INTEGER PRIMARY KEY, count INTEGER NOT NULL, mark TEXT NOT NULL);
"""
_PLACES = ", ".join("?" * (len(EVENT_SCHEMA) + 1))
_INSERT = f"INSERT INTO events ({_COLUMNS}, checksum) VALUES ({_PLACES}) ON CONFLICT DO NOTHING"  # noqa: S608  # ours
_ALL = f"SELECT checksum, {_COLUMNS} FROM events"  # noqa: S608
_BY_KEY = f"SELECT {_COLUMNS} FROM events WHERE key = ?"  # noqa: S608
_BY_TIME = f"SELECT {_COLUMNS} FROM events WHERE time >= ? AND time < ? ORDER BY time, key"  # noqa: S608
_ADD_TO_DAY = """
INSERT INTO days VALUES (?, ?, ?)
ON CONFLICT (day) DO UPDATE SET count = count + excluded.count, mark = excluded.mark
"""


class SqliteEvents(EventStore):
    """The events of a folder; see `shelfwise.retrieval.events.store.EventStore`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / EVENTS_FILE
        self._commits = GroupCommit(self._commit)
        with self._translate_errors():
            folder.mkdir(parents=True, exist_ok=True)
            if log_path(self.path).exists():
                # Before SQLite opens it: it would drop the damaged part.
                with lock_folder(folder, None, "the events"):
                    copy_if_damaged(self.path)
            self._connection = self._connect()
            _OPENED[self.path, os.getpid()] += 1
            try:
                self._prepare()
            except BaseException:
                self._close()
                raise

    @property
    def notices(self) -> tuple[str, ...]:
        """Damage to the write-ahead log of which a copy is kept."""
        return tuple(f"{self.path} is damaged: {problem}" for problem in damaged_copies(self.path).values())

    def append(self, events: Sequence[StoredEvent]) -> AppendResult:
        self._check_process()
        return self._commits.append(events)

    def _commit(self, appends: Sequence[Sequence[StoredEvent]]) -> list[AppendResult]:
        with self._transaction() as cursor:
            results = [_insert(cursor, events) for events in appends]
            days = Counter(event.time // DAY_MS for _, added in results for event in added)
            cursor.executemany(_ADD_TO_DAY, [(day, count, _mark()) for day, count in days.items()])
        return [appended for appended, _ in results]

    def days(self) -> Mapping[int, DayState]:
        with self._translate_errors(), closing(self._connect()) as connection:
            return _days(connection.cursor())

    def read(self, first_day: int, last_day: int) -> Iterator[pl.DataFrame]:
        with self._translate_errors(), closing(self._connect()) as connection:
            cursor = connection.execute(_BY_TIME, (first_day * DAY_MS, (last_day + 1) * DAY_MS))
            while rows := cursor.fetchmany(_READ_ROWS):
                yield event_table(rows)

    def holds(self, shoppers: Collection[str]) -> int:
        query = f"SELECT count(*) FROM events WHERE shopper IN ({_marks(shoppers)})"  # noqa: S608  # question marks only
        with self._translate_errors(), closing(self._connect()) as connection:
            return int(connection.execute(query, tuple(shoppers)).fetchone()[0])

    def holds_key(self, name: str) -> bool:
        begin = f"{prefix(name)}*"
        query = "SELECT 1 FROM events WHERE shopper GLOB ? OR session GLOB ? LIMIT 1"
        with self._translate_errors(), closing(self._connect()) as connection:
            return connection.execute(query, (begin, begin)).fetchone() is not None

    def forget(self, shoppers: Collection[str]) -> int:
        """Removes a shopper's events and nameless events of the same sessions, and copies of damaged logs; overwrites
        them with zeros."""
        theirs = f"shopper IN ({_marks(shoppers)})"
        sessions = f"SELECT session FROM events WHERE {theirs} AND session <> ''"  # noqa: S608  # question marks only
        for path in damaged_copies(self.path):
            path.unlink()
        nameless = f"shopper = '' AND session IN ({sessions})"
        # All keys are selected first: SQLite would look for the sessions while it removes the events that name them.
        all_keys = f"SELECT key FROM events WHERE {theirs} OR ({nameless})"  # noqa: S608  # question marks only
        return self._remove(f"key IN ({all_keys})", (*shoppers, *shoppers))

    def expire(self, before_day: int, expected: Mapping[int, DayState] | None = None) -> int:
        def check(cursor: sqlite3.Cursor) -> None:
            if expected is not None:
                check_expected(_days(cursor), before_day, expected)

        for path in damaged_copies(self.path):
            if path.stat().st_mtime * 1_000 < before_day * DAY_MS:
                path.unlink()
        return self._remove("time < ?", (before_day * DAY_MS,), check)

    def _remove(
        self, which: str, values: Sequence[object], check: Callable[[sqlite3.Cursor], None] = lambda _: None
    ) -> int:
        with self._commits.exclusive:
            with self._transaction() as cursor:
                check(cursor)
                counts = f"SELECT time / {DAY_MS}, count(*) FROM events WHERE {which} GROUP BY 1"  # noqa: S608
                days = cursor.execute(counts, values).fetchall()
                cursor.execute(f"DELETE FROM events WHERE {which}", values)  # noqa: S608
                cursor.executemany(_ADD_TO_DAY, [(day, -count, _mark()) for day, count in days])
                cursor.execute("DELETE FROM days WHERE count = 0")
            self._overwrite()
        return sum(count for _, count in days)

    def _overwrite(self) -> None:
        """Rewrites the file, whose pages keep stale copies, and empties the log once no reader needs it."""
        with lock_folder(self.path.parent, None, "the events"), self._translate_errors():
            self._connection.execute("VACUUM")
        until = time.monotonic() + _WAIT_SECONDS
        while True:
            with lock_folder(self.path.parent, None, "the events"), self._translate_errors():
                self._connection.execute("PRAGMA busy_timeout = 0")
                is_busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                self._connection.execute(f"PRAGMA busy_timeout = {int(1_000 * _WAIT_SECONDS)}")
            if not is_busy:
                return
            if time.monotonic() > until:
                raise StoreError(f"events were removed, but {self.path}-wal still has them for a reader; try again")
            time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        with self._commits.exclusive, self._translate_errors():
            self._close()

    def _close(self) -> None:
        if _OPENED[self.path, os.getpid()] > 0:
            _OPENED[self.path, os.getpid()] -= 1
        self._connection.close()

    def _check_process(self) -> None:
        if any(count and path == self.path and process != os.getpid() for (path, process), count in _OPENED.items()):
            raise StoreError(
                f"{self.path} was open when this process was forked, and SQLite's locks are not inherited: open it in "
                f"each process after the fork, or start processes by spawn"
            )

    def _connect(self) -> sqlite3.Connection:
        self._check_process()
        connection = sqlite3.connect(self.path, _WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        return connection

    def _prepare(self) -> None:
        """Creates the tables of a new file; raises StoreForeignError for a file of another program."""
        connection = self._connection
        if self._version() == 0:
            with lock_folder(self.path.parent, None, "the events"):
                connection.execute("PRAGMA journal_mode = WAL")
                if self._version() == 0:
                    connection.executescript(
                        f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID};"
                        f"PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
                    )
                sync(self.path.parent)

    def _version(self) -> int:
        """The schema version, 0 for a new file. A single query, since another process may be creating it."""
        query = "SELECT count(*), (SELECT * FROM pragma_application_id), (SELECT * FROM pragma_user_version)"
        counts: tuple[int, int, int] = self._connection.execute(f"{query} FROM sqlite_master").fetchone()
        tables, application, version = counts
        if (application, version) == (_APPLICATION_ID, _SCHEMA_VERSION) or (application, version, tables) == (0, 0, 0):
            return version
        if application == _APPLICATION_ID:
            raise StoreForeignError(f"{self.path} is of another version of Shelfwise: use that one, or import again")
        raise StoreForeignError(f"{self.path} is not an event store; move it away")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        """A transaction: durable on leaving, rolled back on an error."""
        self._check_process()
        with lock_folder(self.path.parent, None, "the events"), self._translate_errors():
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "decode" in str(error):
                raise StoreDamagedError(f"{self.path} is damaged: {error}; restore it from a backup") from error
            raise StoreError(f"{self.path} cannot be used: {error}; check the disk and its permissions") from error
        except sqlite3.ProgrammingError as error:
            raise StoreError(f"{self.path} is closed; open it again") from error
        except sqlite3.DatabaseError as error:
            raise StoreDamagedError(f"{self.path} is damaged: {error}; restore it from a backup") from error
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be used ({error.strerror}); check the permissions of its folder"
            ) from error


def _insert(cursor: sqlite3.Cursor, events: Sequence[StoredEvent]) -> tuple[AppendResult, list[StoredEvent]]:
    added, repeated, differing = [], 0, []
    for place, event in enumerate(events):
        if cursor.execute(_INSERT, (*event, row_checksum(event))).rowcount:
            added.append(event)
        elif StoredEvent(*cursor.execute(_BY_KEY, (event.key,)).fetchone()).content == event.content:
            repeated += 1
        else:
            differing.append(place)
    return AppendResult(len(added), repeated, tuple(differing)), added


def row_checksum(event: StoredEvent) -> int:
    """XXH3 of an event as SQLite returns it: an integer of 63 bits."""
    return xxh3_64_intdigest(msgspec.msgpack.encode(event)) >> 1


def find_damage(path: Path) -> str:
    """Reads every event of a file. Returns the problem of the first event that is not as it was stored, or of the first
    day that does not have its number of events, else ""."""
    counts = Counter[int]()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda content: content.decode(errors="replace")
        connection.execute("BEGIN")
        for checksum, *values in connection.execute(_ALL):
            event = StoredEvent(*values)
            if checksum != row_checksum(event):
                return f"an event of {moment(event.time):%Y-%m-%d %H:%M:%S} has changed"
            counts[event.day] += 1
        days = _days(connection.cursor())
    differing = sorted(day for day in days.keys() | counts if day not in days or days[day].count != counts[day])
    return f"{moment(differing[0] * DAY_MS):%Y-%m-%d} does not have as many events as were stored" if differing else ""


def _days(cursor: sqlite3.Cursor) -> dict[int, DayState]:
    rows = cursor.execute("SELECT day, count, mark FROM days ORDER BY day").fetchall()
    return {day: DayState(count, mark) for day, count, mark in rows}


def _mark() -> str:
    return secrets.token_hex(8)


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))


_MAX_TOGETHER = 2_000
"""The most events of one transaction, which limits the wait of the last append."""


class GroupCommit:
    """Group commit: the thread that has the lock writes all waiting appends. `commit` returns a result for each."""

    def __init__(self, commit: Callable[[Sequence[Sequence[StoredEvent]]], Sequence[AppendResult]]) -> None:
        self._commit = commit
        self.queue: deque[tuple[Sequence[StoredEvent], Future[AppendResult]]] = deque()
        self.exclusive = threading.Lock()

    def append(self, events: Sequence[StoredEvent]) -> AppendResult:
        """Waits until the events are written, by this thread or another; raises the error of a failed write."""
        mine: Future[AppendResult] = Future()
        self.queue.append((events, mine))
        with self.exclusive:
            while not mine.done():
                self._write_next()
        return mine.result()

    def _write_next(self) -> None:
        """Writes the first waiting append, and those after it that fit into one transaction."""
        part = [self.queue.popleft()]
        size = len(part[0][0])
        while self.queue and (size := size + len(self.queue[0][0])) <= _MAX_TOGETHER:
            part.append(self.queue.popleft())
        error: Exception = StoreError("an append was broken off; send its events again")
        try:
            for (_, future), result in zip(part, self._commit([events for events, _ in part]), strict=True):
                future.set_result(result)
        except Exception as raised:  # each of the threads raises it
            error = raised
        finally:
            for _, future in part:
                if not future.done():
                    future.set_exception(error)
