"""The ranker at work: candidates of concurrent requests are scored together, each by its deadline or not at all."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.inputs import Candidates
from rerank.ranker.onnx_ranker import OnnxRanker
from retrieval.errors import RankerError, RankerLateError

MOST_TOGETHER = 8
"""Requests that one run of the network scores: more would make the first of them wait for no gain."""
THREADS = 2


@dataclass(slots=True)
class _Asked:
    candidates: Candidates
    until: float
    """When nobody waits for it any more, by the monotonic clock."""
    answer: Future[NDArray[np.float64]] = field(default_factory=Future)


class Reranker:
    """Scores candidates with one ranker, in threads of its own. Thread-safe.

    While its threads are busy requests pile up, and the next run takes up to eight of them: so batches grow with the
    load, and a lone request never waits for company.
    """

    def __init__(self, ranker: OnnxRanker, *, threads: int = THREADS) -> None:
        self.ranker = ranker
        self._is_closed = False
        self._closing = threading.Lock()
        """So that nothing is asked behind the end of the queue, where nobody would answer it."""
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name="shelfwise-rerank", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def score(self, candidates: Candidates, deadline: float) -> NDArray[np.float64]:
        """The scores (c,) of a query's candidates.

        Raises RankerLateError where they are not there after `deadline` seconds, RankerError where the network fails.
        """
        asked = _Asked(candidates, time.monotonic() + deadline)
        if not self._is_queued(asked):
            # A search that began before another ranker took over.
            self._answer([asked])
        try:
            return asked.answer.result(deadline)
        except LateError:
            asked.answer.cancel()
            late = f"{self.ranker.name} gave no scores within {deadline * 1_000:.0f} ms"
            raise RankerLateError(f"{late}; results keep the merged order") from None

    def _is_queued(self, asked: _Asked) -> bool:
        with self._closing:
            if not self._is_closed:
                self._queue.put(asked)
            return not self._is_closed

    def close(self) -> None:
        """Ends the threads, once what was asked is answered; later calls compute in their own."""
        with self._closing:
            self._is_closed = True
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first, *self._waiting()]
            self._answer([asked for asked in batch if asked.until > time.monotonic()])

    def _waiting(self) -> list[_Asked]:
        found: list[_Asked] = []
        while len(found) < MOST_TOGETHER - 1:
            try:
                asked = self._queue.get_nowait()
            except queue.Empty:
                break
            if asked is None:
                # The other thread's, or ours to see again once this batch is done.
                self._queue.put(None)
                break
            found.append(asked)
        return found

    def _answer(self, batch: list[_Asked]) -> None:
        waited_for = [asked for asked in batch if asked.answer.set_running_or_notify_cancel()]
        if not waited_for:
            return
        try:
            scores = self.ranker.score([asked.candidates for asked in waited_for])
        except Exception as error:  # whoever waits is told, whatever it was
            failure = error if isinstance(error, RankerError) else RankerError(f"{self.ranker.name} failed: {error!r}")
            for asked in waited_for:
                asked.answer.set_exception(failure)
            return
        for asked, found in zip(waited_for, scores, strict=True):
            asked.answer.set_result(found)
