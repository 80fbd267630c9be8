"""Tasks that run for long, such as a rebuild: kept in a SQLite file, run one after another, shown."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from retrieval.errors import InputError, ShelfwiseError, TaskFailedError, UnknownTaskError
from service.curation.document_store import Layout, SqliteFile

# The tasks of an index directory, in a SQLite file: what was asked for is on the disk before it is acknowledged.

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


class TaskState(StrEnum):
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
    state: TaskState
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    result: Any = None
    """What it said when it was done."""
    error: str = ""
    """Why it failed."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What it was asked for; forgotten when it is over where it is about a person."""


class TaskQueue:
    """Adds tasks and follows them. Processes may share it; each call is a transaction of its own."""

    def __init__(self, root: Path) -> None:
        self._file = SqliteFile(root / TASKS_FILE, _LAYOUT, private=True)

    def add(self, kind: str, arguments: Mapping[str, Any]) -> Task:
        """A new task; the one that waits already where it was asked for the same."""
        encoded = msgspec.json.encode(dict(arguments), order="deterministic").decode()
        with self._file.writing() as cursor:
            same = "SELECT id FROM tasks WHERE kind = ? AND arguments = ? AND state = ?"
            found = cursor.execute(same, (kind, encoded, TaskState.WAITING)).fetchone()
            identity = found[0] if found else uuid.uuid4().hex
            if not found:
                row = (identity, kind, encoded, TaskState.WAITING, time.time())
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
            found = cursor.execute(first, (TaskState.WAITING,)).fetchone()
            if found is None:
                return None
            cursor.execute(
                "UPDATE tasks SET state = ?, started = ? WHERE id = ?", (TaskState.RUNNING, time.time(), found[0])
            )
            return _task(_one(cursor, found[0]))

    def finish(self, identity: str, *, result: object = None, error: str = "", forget: bool = False) -> None:
        """It is over: done, or failed where there is an `error`. With `forget` its arguments are no longer kept."""
        state = TaskState.FAILED if error else TaskState.DONE
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
            return cursor is not None and cursor.execute(asked, (TaskState.WAITING,)).fetchone() is not None

    def resume(self) -> int:
        """Has those wait again that were running when their process ended; how many. Whoever runs tasks calls it once,
        before the first."""
        if not self._file.path.exists():
            return 0
        with self._file.writing() as cursor:
            asked = "UPDATE tasks SET state = ?, started = NULL WHERE state = ?"
            return cursor.execute(asked, (TaskState.WAITING, TaskState.RUNNING)).rowcount


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
        TaskState(state),
        _moment(created),
        _moment(started) if started else None,
        _moment(ended) if ended else None,
        msgspec.json.decode(result),
        error,
        msgspec.json.decode(arguments),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# What tasks do: the program's own commands, each in a process of its own, so that searches keep their threads.

_PROGRAM = "import os; os.nice(10); from service.cli.main import main; main()"
"""Searches go first."""
_POLL_SECONDS = 0.2
_MOST_ERROR = 2_000
"""Characters of what a command that failed has said."""


PERSONAL = frozenset({"forget"})
"""Kinds whose arguments are about somebody."""


def feed_paths(names: Sequence[str], folder: Path | None) -> list[Path]:
    """The feeds of these names in the folder of feeds; raises InputError for one that is not there."""
    if folder is None:
        raise InputError("service.feeds is not set: it names the folder that feeds are read from")
    base, paths = folder.resolve(), []
    for name in names:
        path = (base / name.replace("\0", "")).resolve()
        if "\0" in name or not path.is_relative_to(base) or not path.is_file():
            raise InputError(f"feeds: there is no file {name[:200]!r} in the folder of feeds")
        paths.append(path)
    return paths


def task_command(kind: str, arguments: Mapping[str, Any], root: Path, feeds: Path | None) -> list[str]:
    """The command line of a task, without the program; raises InputError for one that cannot be."""
    index = ["--index", str(root), "--json"]
    match kind:
        case "rebuild":
            flags = ["--force"] if arguments.get("force") else []
            maps = [part for each in arguments.get("map", ()) for part in ("--map", each)]
            return ["rebuild", *map(str, feed_paths(arguments["feeds"], feeds)), *maps, *flags, *index]
        case "refresh":
            return ["events", "refresh", *index]
        case "learn":
            least = arguments.get("if_new")
            return ["learn", *([] if least is None else ["--if-new", str(least)]), *index]
        case "forget":
            named = [part for each in arguments["pseudonyms"] for part in ("--pseudonym", each)]
            return ["events", "forget", *named, *index]
        case _:
            raise InputError(f"there is no task of the kind {kind!r}")


def run_command(command: Sequence[str], stop: threading.Event) -> Any:  # noqa: ANN401 - what the command's JSON says
    """Runs it to its end, and gives the JSON that it prints; raises TaskFailedError where it fails.

    Where `stop` is set it is ended, and None returned: run again it goes on from where it was.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    told: list[str] = []
    reading = threading.Thread(target=lambda: told.extend(process.communicate()), daemon=True)
    reading.start()
    while reading.is_alive() and not stop.wait(_POLL_SECONDS):
        reading.join(_POLL_SECONDS)
    if reading.is_alive():
        os.killpg(process.pid, signal.SIGTERM)
        reading.join()
        return None
    out, err = told
    if process.returncode:
        said = err.strip().removeprefix("error: ")[-_MOST_ERROR:]
        raise TaskFailedError(said or f"it ended with {process.returncode}")
    return msgspec.json.decode(out) if out.strip() else None


# Runs the tasks of an index directory, one after the other, in one of the processes that serve it.

LOCK_FILE = "tasks.lock"
_RUNNER_POLL_SECONDS = 0.5

Job = Callable[[str, Mapping[str, Any], threading.Event], Any]
"""Does what a kind of task and its arguments say, and returns what came of it; where the event is set it may end
early."""


class TaskRunner:
    """Looks for tasks in a thread of its own. Of several processes the one that has the lock runs them."""

    def __init__(self, root: Path, queue: TaskQueue, job: Job, personal: frozenset[str] = frozenset()) -> None:
        """Of `personal` kinds the arguments are not kept when they are over."""
        self._queue = queue
        self._job = job
        self._personal = personal
        self._lock = FileLock(root / LOCK_FILE, timeout=0)
        self._stop = threading.Event()
        self._added = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tasks", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """A task was added."""
        self._added.set()

    def close(self) -> None:
        """What is running is ended, and goes on when tasks are run again."""
        self._stop.set()
        self._added.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._lock:
                    self._queue.resume()
                    self._run_all()
            except (Timeout, ShelfwiseError, OSError):
                # Another process runs them, or the disk is gone for now.
                self._stop.wait(_RUNNER_POLL_SECONDS)

    def _run_all(self) -> None:
        while not self._stop.is_set():
            task = self._queue.claim()
            if task is None:
                self._added.wait(_RUNNER_POLL_SECONDS)
                self._added.clear()
            else:
                self._do(task)

    def _do(self, task: Task) -> None:
        forget = task.kind in self._personal
        try:
            result = self._job(task.kind, task.arguments, self._stop)
        except (ShelfwiseError, OSError) as error:
            self._queue.finish(task.id, error=str(error) or type(error).__name__, forget=forget)
        except Exception as error:  # one that fails in a way that nobody foresaw must not end the others
            self._queue.finish(task.id, error=str(TaskFailedError(f"a fault of the program: {error!r}")), forget=forget)
        else:
            # One that was ended stays as running: whoever runs tasks next begins it again.
            if not self._stop.is_set():
                self._queue.finish(task.id, result=result, forget=forget)


# The tasks of a service: what was asked for, and the thread that does it.


class TaskService:
    """Adds tasks of an index directory and has them done."""

    def __init__(self, root: Path, feeds: Path | None) -> None:
        """`feeds` is the folder that feeds are read from."""
        self.feeds = feeds
        self.queue = TaskQueue(root)
        self._root = root
        self._runner = TaskRunner(root, self.queue, self._do, PERSONAL)

    def add(self, kind: str, arguments: Mapping[str, Any]) -> Task:
        """One more; it is on the disk when this returns."""
        made = self.queue.add(kind, arguments)
        self._runner.notify()
        return made

    def close(self) -> None:
        """What is running is ended; it goes on when the index is served again."""
        self._runner.close()

    def _do(self, kind: str, arguments: Mapping[str, Any], stop: threading.Event) -> Any:  # noqa: ANN401 - JSON
        return run_command(task_command(kind, arguments, self._root, self.feeds), stop)
