"""The tasks of an index directory, in a SQLite file: what was asked for is on the disk before it is acknowledged."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from retrieval.errors import UnknownTaskError
from service.sqlite_file import Layout, SqliteFile

TASKS_FILE = "tasks.sqlite"
_MOST_KEPT = 1_000
"""Tasks that are over; older ones are removed."""
_LAYOUT = Layout(
    "tasks",
    0x5357544B,
    1,
    """
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, arguments TEXT NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
    result TEXT NOT NULL DEFAULT 'null', error TEXT NOT NULL DEFAULT ''
);
""",
)
_COLUMNS = "id, kind, arguments, state, created, started, ended, result, error"


class State(StrEnum):
    """How far a task is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work."""

    id: str
    kind: str
    state: State
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    result: Any = None
    """What it said when it was done."""
    error: str = ""
    """Why it failed."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What it was asked for; forgotten when it is over where it is about a person."""


class TaskBook:
    """Adds tasks and follows them. Processes may share it; each call is a transaction of its own."""

    def __init__(self, root: Path) -> None:
        self._file = SqliteFile(root / TASKS_FILE, _LAYOUT, private=True)

    def add(self, kind: str, arguments: Mapping[str, Any]) -> Task:
        """A new task; the one that waits already where it was asked for the same."""
        encoded = msgspec.json.encode(dict(arguments), order="deterministic").decode()
        with self._file.writing() as cursor:
            same = "SELECT id FROM tasks WHERE kind = ? AND arguments = ? AND state = ?"
            found = cursor.execute(same, (kind, encoded, State.WAITING)).fetchone()
            identity = found[0] if found else uuid.uuid4().hex
            if not found:
                row = (identity, kind, encoded, State.WAITING, time.time())
                cursor.execute("INSERT INTO tasks (id, kind, arguments, state, created) VALUES (?, ?, ?, ?, ?)", row)
                over = "SELECT id FROM tasks WHERE ended IS NOT NULL ORDER BY number DESC LIMIT -1 OFFSET ?"
                cursor.execute(f"DELETE FROM tasks WHERE id IN ({over})", (_MOST_KEPT,))  # noqa: S608 - our names
            return _task(_one(cursor, identity))

    def get(self, identity: str) -> Task:
        """One task; raises UnknownTaskError where there is none of this id."""
        with self._file.reading() as cursor:
            return _task(_one(cursor, identity))

    def list(self, limit: int = 100) -> tuple[Task, ...]:
        """The last ones, newest first."""
        with self._file.reading() as cursor:
            if cursor is None:
                return ()
            asked = f"SELECT {_COLUMNS} FROM tasks ORDER BY number DESC LIMIT ?"  # noqa: S608 - our names
            return tuple(map(_task, cursor.execute(asked, (limit,)).fetchall()))

    def claim(self) -> Task | None:
        """The one that has waited longest, which is running from now on; None where none waits."""
        if not self._waits():
            return None
        with self._file.writing() as cursor:
            first = "SELECT id FROM tasks WHERE state = ? ORDER BY number LIMIT 1"
            found = cursor.execute(first, (State.WAITING,)).fetchone()
            if found is None:
                return None
            cursor.execute(
                "UPDATE tasks SET state = ?, started = ? WHERE id = ?", (State.RUNNING, time.time(), found[0])
            )
            return _task(_one(cursor, found[0]))

    def finish(self, identity: str, *, result: object = None, error: str = "", forget: bool = False) -> None:
        """It is over: done, or failed where there is an `error`. With `forget` its arguments are no longer kept."""
        state = State.FAILED if error else State.DONE
        told = msgspec.json.encode(result).decode()
        with self._file.writing() as cursor:
            values = (state, time.time(), told, error, forget, identity)
            cursor.execute(
                "UPDATE tasks SET state = ?, ended = ?, result = ?, error = ?, "
                "arguments = CASE WHEN ? THEN '{}' ELSE arguments END WHERE id = ?",
                values,
            )

    def _waits(self) -> bool:
        """Looked at often, so without a lock that keeps others waiting."""
        with self._file.reading() as cursor:
            asked = "SELECT 1 FROM tasks WHERE state = ? LIMIT 1"
            return cursor is not None and cursor.execute(asked, (State.WAITING,)).fetchone() is not None

    def resume(self) -> int:
        """Has those wait again that were running when their process ended; how many. Whoever runs tasks calls it once,
        before the first."""
        if not self._file.path.exists():
            return 0
        with self._file.writing() as cursor:
            asked = "UPDATE tasks SET state = ?, started = NULL WHERE state = ?"
            return cursor.execute(asked, (State.WAITING, State.RUNNING)).rowcount


def _one(cursor: sqlite3.Cursor | None, identity: str) -> tuple[Any, ...]:
    asked = f"SELECT {_COLUMNS} FROM tasks WHERE id = ?"  # noqa: S608 - our names
    found: tuple[Any, ...] | None = cursor.execute(asked, (identity,)).fetchone() if cursor else None
    if found is None:
        raise UnknownTaskError(f"there is no task {identity[:100]!r}")
    return found


def _task(row: tuple[Any, ...]) -> Task:
    identity, kind, arguments, state, created, started, ended, result, error = row
    return Task(
        identity,
        kind,
        State(state),
        _moment(created),
        _moment(started) if started else None,
        _moment(ended) if ended else None,
        msgspec.json.decode(result),
        error,
        msgspec.json.decode(arguments),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
