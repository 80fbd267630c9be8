"""Long-running tasks, such as a rebuild: a durable queue in SQLite, and the thread that runs them in turn."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from shelfwise.retrieval.errors import InputError, ShelfwiseError, TaskFailedError, UnknownTaskError
from shelfwise.service.curation.sqlite_file import SqliteFile

TASKS_FILE = "tasks.sqlite"
LOCK_FILE = "tasks.lock"
UPLOADS = ".uploads"
"""Folder of uploads inside the folder of feeds; rebuilds do not read it by themselves."""
PERSONAL = frozenset({"forget"})
"""Kinds of tasks whose arguments concern a person; they are deleted when the task ends."""
CANCELLABLE = frozenset({"rebuild", "check", "refresh", "learn"})
"""Kinds of tasks that may be stopped early; the next one continues their work."""
_MAX_KEPT = 1_000
"""Number of ended tasks that are kept; older ones are deleted."""
_TABLES = """
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, arguments TEXT NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
    result TEXT NOT NULL DEFAULT 'null', error TEXT NOT NULL DEFAULT '', progress TEXT NOT NULL DEFAULT ''
);
"""
_COLUMNS = "id, kind, arguments, state, created, started, ended, result, error, progress"
_PROGRAM = "import os; os.nice(10); from shelfwise.service.cli.main import main; main()"
"""Program that runs a command with a lower priority than searches."""
_POLL_SECONDS = 0.2
_IDLE_POLL_SECONDS = 0.5
_MAX_ERROR = 10_000
"""Maximum length of a failed command's error message, in characters."""
_MAX_PROGRESS = 4_000
"""Maximum length of a command's last messages, in characters."""


class TaskState(StrEnum):
    """State of a task."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Task:
    """A long-running task."""

    id: str
    kind: str
    state: TaskState
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    result: Any = None
    """The JSON that the command printed."""
    error: str = ""
    progress: str = ""
    """The last messages of the command, one per line: the finished steps."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the command; deleted when the task ends, if they concern a person."""


class TaskQueue:
    """The durable task queue of an index directory. Processes may share it; each call is one transaction."""

    def __init__(self, root: Path) -> None:
        self._file = SqliteFile(root / TASKS_FILE, "tasks", 0x5357544B, _TABLES, version=2, private=True)

    def add(self, kind: str, arguments: Mapping[str, Any]) -> Task:
        """Queues a new task, or returns the waiting one of the same kind and arguments."""
        content = msgspec.json.encode(dict(arguments), order="deterministic").decode()
        with self._file.writing() as cursor:
            same = "SELECT id FROM tasks WHERE kind = ? AND arguments = ? AND state = ?"
            row = cursor.execute(same, (kind, content, TaskState.WAITING)).fetchone()
            identity = row[0] if row else uuid.uuid4().hex
            if not row:
                values = (identity, kind, content, TaskState.WAITING, time.time())
                cursor.execute("INSERT INTO tasks (id, kind, arguments, state, created) VALUES (?, ?, ?, ?, ?)", values)
                old = "SELECT id FROM tasks WHERE ended IS NOT NULL ORDER BY number DESC LIMIT -1 OFFSET ?"
                cursor.execute(f"DELETE FROM tasks WHERE id IN ({old})", (_MAX_KEPT,))  # noqa: S608 - our names
            return _select(cursor, identity)

    def get(self, identity: str) -> Task:
        """A task by id; raises UnknownTaskError."""
        with self._file.reading() as cursor:
            return _select(cursor, identity)

    def list(self, limit: int = 100) -> tuple[Task, ...]:
        """The last tasks, newest first."""
        with self._file.reading() as cursor:
            if cursor is None:
                return ()
            query = f"SELECT {_COLUMNS} FROM tasks ORDER BY number DESC LIMIT ?"  # noqa: S608 - our names
            return tuple(map(_to_task, cursor.execute(query, (limit,)).fetchall()))

    def claim(self) -> Task | None:
        """Marks the oldest waiting task as running; None if there is none."""
        oldest = "SELECT id FROM tasks WHERE state = ? ORDER BY number LIMIT 1"
        # Called often, so it first reads without a write lock.
        with self._file.reading() as reader:
            if reader is None or reader.execute(oldest, (TaskState.WAITING,)).fetchone() is None:
                return None
        with self._file.writing() as cursor:
            row = cursor.execute(oldest, (TaskState.WAITING,)).fetchone()
            if row is None:
                return None
            values = (TaskState.RUNNING, time.time(), row[0])
            cursor.execute("UPDATE tasks SET state = ?, started = ? WHERE id = ?", values)
            return _select(cursor, row[0])

    def finish(self, identity: str, *, result: object = None, error: str = "", forget: bool = False) -> None:
        """Ends a running task as done, or as failed with an `error`; `forget` deletes its arguments."""
        state = TaskState.FAILED if error else TaskState.DONE
        content = msgspec.json.encode(result).decode()
        with self._file.writing() as cursor:
            values = (state, time.time(), content, error, forget, identity, TaskState.RUNNING)
            cursor.execute(
                "UPDATE tasks SET state = ?, ended = ?, result = ?, error = ?, "
                "arguments = CASE WHEN ? THEN '{}' ELSE arguments END "
                "WHERE id = ? AND state = ?",
                values,
            )

    def report(self, identity: str, progress: str) -> None:
        """Stores the progress of a task."""
        with self._file.writing() as cursor:
            cursor.execute("UPDATE tasks SET progress = ? WHERE id = ?", (progress, identity))

    def cancel(self, identity: str) -> bool:
        """Cancels a waiting or running task; False if it has ended. Raises UnknownTaskError."""
        self.get(identity)
        with self._file.writing() as cursor:
            values = (TaskState.CANCELLED, time.time(), identity, TaskState.WAITING, TaskState.RUNNING)
            update = "UPDATE tasks SET state = ?, ended = ? WHERE id = ? AND state IN (?, ?)"
            return cursor.execute(update, values).rowcount > 0

    def resume(self) -> None:
        """Returns tasks to the queue that were running when their process ended. A runner calls it once, before its
        first task."""
        if not self._file.path.exists():
            return
        with self._file.writing() as cursor:
            update = "UPDATE tasks SET state = ?, started = NULL WHERE state = ?"
            cursor.execute(update, (TaskState.WAITING, TaskState.RUNNING))


def _select(cursor: sqlite3.Cursor | None, identity: str) -> Task:
    query = f"SELECT {_COLUMNS} FROM tasks WHERE id = ?"  # noqa: S608 - our names
    row: tuple[Any, ...] | None = cursor.execute(query, (identity,)).fetchone() if cursor else None
    if row is None:
        raise UnknownTaskError(f"there is no task {identity[:100]!r}")
    return _to_task(row)


def _to_task(row: tuple[Any, ...]) -> Task:
    columns = dict(zip(_COLUMNS.split(", "), row, strict=True))
    decoded = {name: msgspec.json.decode(columns[name]) for name in ("arguments", "result")}
    return msgspec.convert(columns | decoded, Task, strict=False)  # times are in seconds since 1970


FEEDS_OFF = "feeds over HTTP are off; switch them on in the tab Feeds of the admin page, or set service.feeds"


def feed_paths(names: Sequence[str], folder: Path | None) -> list[Path]:
    """The paths of named feeds in the feed folder; raises InputError for a missing file or one outside it."""
    if folder is None:
        raise InputError(FEEDS_OFF)
    base = folder.resolve()
    paths = []
    for name in names:
        path = (base / name.replace("\0", "")).resolve()
        if "\0" in name or not path.is_relative_to(base) or not path.is_file():
            raise InputError(f"feeds: there is no file {name[:200]!r} in the folder of feeds")
        paths.append(path)
    return paths


def task_command(kind: str, arguments: Mapping[str, Any], root: Path, feeds: Path | None) -> list[str]:
    """The command-line arguments of a task; raises InputError for an unknown kind or feed."""
    index = str(root)
    maps = [part for each in arguments.get("map", ()) for part in ("--map", each)]
    match kind:
        case "rebuild":
            flags = ["--force"] if arguments.get("force") else []
            paths = map(str, feed_paths(arguments["feeds"], feeds))
            return ["rebuild", index, *paths, *maps, *flags, "--json"]
        case "check":
            (path,) = feed_paths([f"{UPLOADS}/{arguments['upload']}"], feeds)
            return ["check", str(path), *maps, "--json"]
        case "refresh":
            return ["events", "refresh", index, "--json"]
        case "learn":
            least = arguments.get("if_new")
            return ["learn", index, *([] if least is None else ["--if-new", str(least)]), "--json"]
        case "forget":
            options = [part for each in arguments["pseudonyms"] for part in ("--pseudonym", each)]
            return ["events", "forget", index, *options, "--json"]
        case _:
            raise InputError(f"there is no task of the kind {kind!r}")


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A running task of a queue, as its job sees it; another process may cancel it."""

    queue: TaskQueue
    id: str
    closing: threading.Event

    def is_stopped(self) -> bool:
        """Whether it was cancelled, or the service is shutting down."""
        return self.closing.is_set() or self.queue.get(self.id).state is TaskState.CANCELLED

    def report(self, progress: str) -> None:
        """Stores its progress."""
        self.queue.report(self.id, progress)


def run_command(command: Sequence[str], task: RunningTask, folder: Path | None = None) -> Any:  # noqa: ANN401 - its JSON
    """Runs a command of the program in a process, and decodes the JSON that it prints; raises TaskFailedError. Its
    messages name the files of `folder`, where feeds are, without the folder.

    If the task is stopped, ends the process and returns None; the next run continues its work.
    """
    with NamedTemporaryFile() as output, NamedTemporaryFile() as messages:

        def written() -> str:
            text = Path(messages.name).read_text("utf-8", "replace")
            return re.sub(f"{re.escape(str(folder.resolve()))}/({re.escape(UPLOADS)}/)?", "", text) if folder else text

        program = [sys.executable, "-c", _PROGRAM, *command]
        process = subprocess.Popen(program, stdout=output, stderr=messages, start_new_session=True)
        progress = ""
        while process.poll() is None:
            if task.is_stopped():
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                return None
            if written() != progress:
                progress = written()
                task.report(progress[-_MAX_PROGRESS:])
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        if process.returncode:
            # The lines before it are finished steps.
            message = f"\n{written()}".rpartition("\nerror: ")[2].strip()
            raise TaskFailedError(message[-_MAX_ERROR:] or f"exit status {process.returncode}")
        result = Path(output.name).read_bytes()
    return msgspec.json.decode(result) if result.strip() else None


Job = Callable[[str, Mapping[str, Any], RunningTask], Any]
"""Runs a task of a kind with its arguments, and returns its result; it may end early if the task is stopped."""


class TaskRunner:
    """Runs queued tasks in a thread. Among several processes, the one that holds the lock runs them."""

    def __init__(self, root: Path, job: Job) -> None:
        self.queue = TaskQueue(root)
        self._job = job
        self._root = root
        self._lock = FileLock(root / LOCK_FILE, timeout=0)
        self._stop = threading.Event()
        self._added = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tasks", daemon=True)
        self._thread.start()

    def add(self, kind: str, arguments: Mapping[str, Any]) -> Task:
        """Queues a task durably."""
        task = self.queue.add(kind, arguments)
        self._added.set()
        return task

    def close(self) -> None:
        """Interrupts the running task, which continues when a runner starts again."""
        self._stop.set()
        self._added.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._root.stat()  # the lock would make the directory of a deleted index again
                with self._lock:
                    self.queue.resume()
                    self._run_all()
            except (Timeout, ShelfwiseError, OSError):
                # Another process holds the lock, or the disk is not available.
                self._stop.wait(_IDLE_POLL_SECONDS)

    def _run_all(self) -> None:
        while not self._stop.is_set():
            task = self.queue.claim()
            if task is None:
                self._added.wait(_IDLE_POLL_SECONDS)
                self._added.clear()
            else:
                self._run_task(task)

    def _run_task(self, task: Task) -> None:
        forget = task.kind in PERSONAL
        try:
            result = self._job(task.kind, task.arguments, RunningTask(self.queue, task.id, self._stop))
        except (ShelfwiseError, OSError) as error:
            self.queue.finish(task.id, error=str(error) or type(error).__name__, forget=forget)
        except Exception as error:  # an unexpected error must not end the runner
            message = str(TaskFailedError(f"internal error: {error!r}"))
            self.queue.finish(task.id, error=message, forget=forget)
        else:
            # An interrupted task stays marked as running; the next runner resumes it.
            if not self._stop.is_set():
                self.queue.finish(task.id, result=result, forget=forget)


def command_job(root: Path, feeds: Callable[[], Path | None], turn: Path | None = None) -> Job:
    """A job that runs commands of the program for an index directory.

    `feeds` returns the folder from which feeds are read, if there is one. Jobs with the same lock file `turn` run one
    command at a time, across all processes.
    """
    in_turn = FileLock(turn, timeout=_POLL_SECONDS) if turn else None

    def run(kind: str, arguments: Mapping[str, Any], task: RunningTask) -> Any:  # noqa: ANN401 - JSON
        while not task.is_stopped():
            with suppress(Timeout), in_turn or nullcontext():
                return run_command(task_command(kind, arguments, root, feeds()), task, feeds())
        return None

    return run
