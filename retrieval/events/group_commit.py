"""Group commit: one thread at a time writes, and takes along what the others wait with (DeWitt et al., Implementation
Techniques for Main Memory Database Systems, 1984, section 5)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from retrieval.errors import StoreError
from retrieval.events.store import Appended
from retrieval.events.stored import StoredEvent

_MOST_TOGETHER = 2_000
"""Events that are committed together at most, so that the last of them does not wait for long."""


class Waiting:
    """What one thread waits with, and what became of it."""

    __slots__ = ("appended", "error", "events")

    def __init__(self, events: Sequence[StoredEvent]) -> None:
        self.events = events
        self.appended: Appended | None = None
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether it was written, or could not be."""
        return self.appended is not None or self.error is not None

    def result(self) -> Appended:
        """What became of it; raises the error where it could not be written."""
        if self.appended is None:
            raise self.error or StoreError("an append was broken off; send its events again")
        return self.appended


class GroupCommit:
    """Threads take turns; `commit` writes several appends durably, and sets `appended` of each."""

    def __init__(self, commit: Callable[[Sequence[Waiting]], None]) -> None:
        self._commit = commit
        self._queue: list[Waiting] = []
        self._turn = threading.Condition()
        self._is_taken = False

    def append(self, events: Sequence[StoredEvent]) -> Appended:
        """Waits until the events are written, by this thread or along with another's."""
        mine = Waiting(events)
        with self._turn:
            self._queue.append(mine)
            self._turn.wait_for(lambda: mine.is_done or not self._is_taken)
        if not mine.is_done:
            with self.alone():
                if not mine.is_done:
                    self._write_all()
        return mine.result()

    @property
    def waiting(self) -> int:
        """How many threads wait for one that writes."""
        return len(self._queue)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other thread writes meanwhile."""
        is_mine = False
        try:
            with self._turn:
                self._turn.wait_for(lambda: not self._is_taken)
                is_mine = self._is_taken = True
            yield
        finally:
            if is_mine:
                with self._turn:
                    self._is_taken = False
                    self._turn.notify_all()

    def _write_all(self) -> None:
        with self._turn:
            waiting, self._queue = self._queue, []
        while waiting:
            part = [waiting.pop(0)]
            size = len(part[0].events)
            while waiting and (size := size + len(waiting[0].events)) <= _MOST_TOGETHER:
                part.append(waiting.pop(0))
            try:
                self._commit(part)
            except Exception as error:  # each of the threads is told
                for each in part:
                    each.error = error
