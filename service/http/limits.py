"""Limits of the service: worker threads with a bounded queue, and rates by key and address."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from service.http.errors import RequestError

T = TypeVar("T")
_PRESSED_SECONDS = 1.0
"""With half of the queue full for this long, the server is not ready for more requests."""


class WorkerThreads:
    """Runs CPU-bound work in threads on behalf of one event loop."""

    def __init__(self, count: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="answer")
        self.count = count
        self.places = count + queue
        """The most requests that run or wait at once."""
        self._comfortable = count + queue // 2
        self.in_progress = 0
        """Requests that run or wait."""
        self._pressed_since: float | None = None
        self.refused = 0
        """Requests that found no place."""

    @property
    def is_pressed(self) -> bool:
        """Whether half of the queue has been full for a second."""
        since = self._pressed_since
        return since is not None and time.monotonic() - since > _PRESSED_SECONDS

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`; raises what it raises, and RequestError (503) if all places are occupied."""
        if self.in_progress >= self.places:
            self.refused += 1
            raise RequestError(503, "the server is at its limit of requests; try again", retry_after=1)
        self._count(1)
        loop = asyncio.get_running_loop()
        future = self._pool.submit(copy_context().run, work)

        def free(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(self._count, -1)

        # A place is free when its work is over, not when its client has given up.
        future.add_done_callback(free)
        return await asyncio.wrap_future(future)

    def _count(self, change: int) -> None:
        self.in_progress += change
        if self.in_progress <= self._comfortable:
            self._pressed_since = None
        elif self._pressed_since is None:
            self._pressed_since = time.monotonic()

    def close(self) -> None:
        """Ends the threads once their running work is done."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class RateLimiter:
    """Counts requests over a sliding minute, in this process."""

    def __init__(self, per_key: int, per_address: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._per_key, self._per_address = per_key, per_address

    def count_key(self, identity: str, own: int | None) -> None:
        """Raises RequestError (429) for a key above its own limit, or the limit of all keys."""
        self._count(own or self._per_key, "key", identity)

    def count_address(self, address: str) -> None:
        """Raises RequestError (429) for an address above the limit."""
        self._count(self._per_address, "address", address)

    def _count(self, most: int, kind: str, name: str) -> None:
        item = RateLimitItemPerMinute(most)
        if not self._limiter.hit(item, kind, name):
            reset = self._limiter.get_window_stats(item, kind, name).reset_time
            wait = max(1, min(60, round(reset - time.time())))
            raise RequestError(429, f"more than {most:,} requests a minute by one {kind}; slow down", retry_after=wait)
