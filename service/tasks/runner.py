"""Runs the tasks of an index directory, one after the other, in one of the processes that serve it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from retrieval.errors import ShelfwiseError, TaskFailedError
from service.tasks.book import Task, TaskBook

LOCK_FILE = "tasks.lock"
_LOOK_SECONDS = 0.5

Job = Callable[[str, Mapping[str, Any], threading.Event], Any]
"""Does what a kind of task and its arguments say, and returns what came of it; where the event is set it may end
early."""


class TaskRunner:
    """Looks for tasks in a thread of its own. Of several processes the one that has the lock runs them."""

    def __init__(self, root: Path, book: TaskBook, job: Job, personal: frozenset[str] = frozenset()) -> None:
        """Of `personal` kinds the arguments are not kept when they are over."""
        self._book = book
        self._job = job
        self._personal = personal
        self._lock = FileLock(root / LOCK_FILE, timeout=0)
        self._stop = threading.Event()
        self._added = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tasks", daemon=True)
        self._thread.start()

    def look(self) -> None:
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
                    self._book.resume()
                    self._run_all()
            except (Timeout, ShelfwiseError, OSError):
                # Another process runs them, or the disk is gone for now.
                self._stop.wait(_LOOK_SECONDS)

    def _run_all(self) -> None:
        while not self._stop.is_set():
            task = self._book.claim()
            if task is None:
                self._added.wait(_LOOK_SECONDS)
                self._added.clear()
            else:
                self._do(task)

    def _do(self, task: Task) -> None:
        forget = task.kind in self._personal
        try:
            result = self._job(task.kind, task.arguments, self._stop)
        except (ShelfwiseError, OSError) as error:
            self._book.finish(task.id, error=str(error) or type(error).__name__, forget=forget)
        except Exception as error:  # one that fails in a way that nobody foresaw must not end the others
            self._book.finish(task.id, error=str(TaskFailedError(f"a fault of the program: {error!r}")), forget=forget)
        else:
            # One that was ended stays as running: whoever runs tasks next begins it again.
            if not self._stop.is_set():
                self._book.finish(task.id, result=result, forget=forget)
