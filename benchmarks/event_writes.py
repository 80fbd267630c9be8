"""Single events, each durable before the next is sent: how many a second, and how long one takes.

The baseline is the same writers without group commit: a transaction of SQLite's for each event, all else the same.
"""

from __future__ import annotations

import multiprocessing
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import numpy as np

from retrieval.events.sqlite import SqliteEvents
from retrieval.events.stored import DAY_MS, StoredEvent

_DAY = 20_000
_START_SECONDS = 60.0
_LOOK_SECONDS = 1.0


class Appends(Protocol):
    """What the writers write to."""

    def append(self, events: list[StoredEvent], /) -> object:
        """Takes events durably."""
        ...


@dataclass(frozen=True, slots=True)
class EventWrites:
    """What writers that all wait for their event reached together."""

    way: str
    writers: int
    events: int
    per_second: float
    p50_ms: float
    p99_ms: float


def measure_event_writes(folder: Path, writers: int, events: int) -> list[EventWrites]:
    """`events` by each of the writers: as threads of one process, as processes, and without group commit."""
    alone = _One(folder / "baseline")
    with closing(SqliteEvents(folder / "threads")) as store:
        measured = [
            _summary("a transaction for each event", writers, *_by_threads(alone, writers, events)),
            _summary("group commit, threads of one process", writers, *_by_threads(store, writers, events)),
        ]
    return [*measured, _summary("processes", writers, *_by_processes(folder / "processes", writers, events))]


class _One:
    """Each append is a transaction of its own: threads take turns."""

    def __init__(self, folder: Path) -> None:
        self._store = SqliteEvents(folder)
        self._turn = threading.Lock()

    def append(self, events: list[StoredEvent], /) -> object:
        with self._turn:
            return self._store.append(events)


def _by_threads(store: Appends, writers: int, events: int) -> tuple[float, list[float]]:
    taken: list[float] = []
    threads = [threading.Thread(target=_write, args=(store, events, taken.append)) for _ in range(writers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, taken


def _by_processes(folder: Path, writers: int, events: int) -> tuple[float, list[float]]:
    context = multiprocessing.get_context("spawn")
    together, told = context.Barrier(writers + 1, timeout=_START_SECONDS + writers), context.Queue()
    given = (folder, events, together, told)
    processes = [context.Process(target=_process, args=given, daemon=True) for _ in range(writers)]
    for process in processes:
        process.start()
    try:
        together.wait()
    except threading.BrokenBarrierError as error:
        raise AssertionError("a writer has not started; see above for its error") from error
    started = time.perf_counter()
    taken = [seconds for _ in processes for seconds in _told(told, processes)]
    spent = time.perf_counter() - started
    for process in processes:
        process.join()
    return spent, taken


def _told(told: multiprocessing.Queue[list[float]], processes: Sequence[BaseProcess]) -> list[float]:
    """What the next writer tells. Raises AssertionError where one has ended badly, or all have ended untold."""
    while True:
        try:
            return told.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            ended = [process.exitcode for process in processes if process.exitcode is not None]
            if any(ended) or len(ended) == len(processes):
                raise AssertionError(f"writers ended with {ended} and have not told their times") from None


def _process(folder: Path, events: int, together: threading.Barrier, told: multiprocessing.Queue[list[float]]) -> None:
    taken: list[float] = []
    try:
        with closing(SqliteEvents(folder)) as store:
            together.wait()
            _write(store, events, taken.append)
    except BaseException:
        together.abort()  # the others need not wait until their time is out
        raise
    told.put(taken)


def _write(store: Appends, events: int, tell: Callable[[float], None]) -> None:
    for number in range(events):
        event = _event(number)
        started = time.perf_counter()
        store.append([event])
        tell(time.perf_counter() - started)


def _event(number: int) -> StoredEvent:
    ms = _DAY * DAY_MS + number
    shopper, session, query = f"k1~{'a' * 22}", f"k1~{'b' * 22}", f"q{number // 10:08d}"
    key, product = secrets.token_bytes(16), f"p{number % 1000:06d}"
    return StoredEvent(
        key, "click", ms, ms, shopper, session, query, "cordless drill", product, 1 + number % 20, None, None, None
    )


def _summary(way: str, writers: int, seconds: float, taken: list[float]) -> EventWrites:
    p50, p99 = np.percentile(np.array(taken) * 1_000, [50, 99])
    return EventWrites(way, writers, len(taken), len(taken) / seconds, float(p50), float(p99))
