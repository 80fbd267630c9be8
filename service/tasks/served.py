"""The tasks of a service: what was asked for, and the thread that does it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.tasks.book import Task, TaskBook
from service.tasks.jobs import PERSONAL, command_of, run_command
from service.tasks.runner import TaskRunner


class ServedTasks:
    """Adds tasks of an index directory and has them done."""

    def __init__(self, root: Path, feeds: Path | None) -> None:
        """`feeds` is the folder that feeds are read from."""
        self.feeds = feeds
        self.book = TaskBook(root)
        self._root = root
        self._runner = TaskRunner(root, self.book, self._do, PERSONAL)

    def add(self, kind: str, arguments: Mapping[str, Any]) -> Task:
        """One more; it is on the disk when this returns."""
        made = self.book.add(kind, arguments)
        self._runner.look()
        return made

    def close(self) -> None:
        """What is running is ended; it goes on when the index is served again."""
        self._runner.close()

    def _do(self, kind: str, arguments: Mapping[str, Any], stop: threading.Event) -> Any:  # noqa: ANN401 - JSON
        return run_command(command_of(kind, arguments, self._root, self.feeds), stop)
