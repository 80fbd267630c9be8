"""Limits: the threads that answer and how many requests may wait, and how often a key or an address may ask."""

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
"""With half of the places taken for so long a server is not ready for more."""


class AnswerThreads:
    """Runs what takes the processor in threads, for the event loop that asks for it; not shared between loops."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="answer")
        self.threads = threads
        self.places = threads + waiting
        """Requests that are answered or wait at once, at most."""
        self._comfortable = threads + waiting // 2
        self._taken = 0
        self._pressed_since: float | None = None
        self.refused = 0
        """Requests that found no place."""

    @property
    def in_progress(self) -> int:
        """Requests that have a place, those that are being answered among them."""
        return self._taken

    @property
    def is_pressed(self) -> bool:
        """Whether half of the places to wait have been taken for a second."""
        since = self._pressed_since
        return since is not None and time.monotonic() - since > _PRESSED_SECONDS

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises; raises RequestError (503) where all places are taken."""
        if self._taken >= self.places:
            self.refused += 1
            raise RequestError(503, "the server has as many requests as it can answer; try again", retry_after=1)
        self._take()
        loop = asyncio.get_running_loop()
        future = self._pool.submit(copy_context().run, work)
        # A place is free when its work is over, not when whoever waits for it has given up.
        future.add_done_callback(lambda _: _call(loop, self._free))
        return await asyncio.wrap_future(future)

    def _take(self) -> None:
        self._taken += 1
        if self._taken > self._comfortable and self._pressed_since is None:
            self._pressed_since = time.monotonic()

    def _free(self) -> None:
        self._taken -= 1
        if self._taken <= self._comfortable:
            self._pressed_since = None

    def close(self) -> None:
        """Ends the threads, once what they have begun is done."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _call(loop: asyncio.AbstractEventLoop, free: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the server has ended
        loop.call_soon_threadsafe(free)


# How often a key, and an address, may ask: counted over a sliding minute, in this process.


class RateLimiter:
    """Counts requests. Each replica of a service counts its own."""

    def __init__(self, per_key: int, per_address: int) -> None:
        """The most requests a minute; a key may have a limit of its own."""
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._per_key, self._per_address = per_key, per_address

    def count_key(self, identity: str, own: int | None) -> None:
        """Raises RequestError (429) for a key that has asked too often."""
        self._count(own or self._per_key, "key", identity)

    def count_address(self, address: str) -> None:
        """The same for an address."""
        self._count(self._per_address, "address", address)

    def _count(self, most: int, kind: str, name: str) -> None:
        item = RateLimitItemPerMinute(most)
        if not self._limiter.hit(item, kind, name):
            reset = self._limiter.get_window_stats(item, kind, name).reset_time
            wait = max(1, min(60, round(reset - time.time())))
            raise RequestError(429, f"more than {most:,} requests a minute by one {kind}; slow down", retry_after=wait)
