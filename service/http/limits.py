"""Limits of the service: worker threads with a bounded queue, and rates by key and address."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from service.http.errors import RequestError
from service.worker_group import SharedCounts, WorkerGroup

T = TypeVar("T")
_PARALLEL = 4
"""Searches of one client's batches that run or wait at once, at least."""
_PRESSED_SECONDS = 1.0
"""With half of the queue full for this long, the server is not ready for more requests."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who a request is from, as far as limits know."""

    key: str = ""
    """The key that was sent; empty where none is needed."""
    address: str = ""


NOBODY = Client()
CURRENT_CLIENT: ContextVar[Client] = ContextVar("client", default=NOBODY)
"""The client of the request that is handled; set with its authorization."""


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], object]
    client: Client
    future: Future[Any] = field(default_factory=Future)


class FairQueue:
    """Waiting work, taken in turns: from one key after another, and of one key from one address after another. Not
    thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, deque[_Job]]] = {}

    def put(self, job: _Job) -> None:
        """Adds work behind that of its client."""
        self._waiting.setdefault(job.client.key, {}).setdefault(job.client.address, deque()).append(job)

    def take(self) -> _Job | None:
        """The next work; its key and its address are then the last ones in turn."""
        if not self._waiting:
            return None
        key = next(iter(self._waiting))
        addresses = self._waiting.pop(key)
        address = next(iter(addresses))
        jobs = addresses.pop(address)
        job = jobs.popleft()
        if jobs:
            addresses[address] = jobs
        if addresses:
            self._waiting[key] = addresses
        return job

    def displace(self, client: Client) -> _Job | None:
        """Removes the newest work of the key that has most, and of that of the address that has most; None where a
        client has as much, so that its work is to be refused."""
        if (largest := self._largest(client)) is None:
            return None
        key, address = largest
        addresses = self._waiting[key]
        job = addresses[address].pop()
        if not addresses[address]:
            del addresses[address]
        if not addresses:
            del self._waiting[key]
        return job

    def is_displaceable(self, client: Client) -> bool:
        """Whether `displace` would find work to remove."""
        return self._largest(client) is not None

    def _largest(self, client: Client) -> tuple[str, str] | None:
        """The key and the address with the most work, if a client has less."""
        sizes = {key: sum(map(len, addresses.values())) for key, addresses in self._waiting.items()}
        key = max(sizes, key=sizes.__getitem__, default=client.key)
        addresses = self._waiting.get(key, {})
        address = max(addresses, key=lambda each: len(addresses[each]), default=client.address)
        own = len(addresses.get(client.address, ())) if key == client.key else sizes.get(client.key, 0)
        most = len(addresses.get(address, ())) if key == client.key else sizes[key]
        return (key, address) if own + 1 < most else None


class WorkerThreads:
    """Runs CPU-bound work in threads on behalf of one event loop, the work of clients in turns.

    If all places are occupied, the newest work of the client that has most is refused: one that floods the service
    takes no place from others.
    """

    def __init__(self, count: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="answer")
        self._queue = FairQueue()
        self._batches: WeakValueDictionary[Client, asyncio.Semaphore] = WeakValueDictionary()
        """The places of each client's batches in progress."""
        self._lock = threading.Lock()
        """Held while the queue is used."""
        self.count = count
        self.places = count + queue
        """The most requests that run or wait at once."""
        self._comfortable = count + queue // 2
        self.in_progress = 0
        """Requests that run or wait."""
        self._pressed_since: float | None = None
        self.refused = 0
        """Requests that found no place, or lost it to another client."""

    @property
    def is_pressed(self) -> bool:
        """Whether half of the queue has been full for a second."""
        since = self._pressed_since
        return since is not None and time.monotonic() - since > _PRESSED_SECONDS

    @property
    def is_full(self) -> bool:
        """Whether all places are occupied."""
        return self.in_progress >= self.places

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`; raises what it raises, and RequestError (503) if all places are occupied and no other
        client has more of them."""
        job = _Job(partial(copy_context().run, work), CURRENT_CLIENT.get())
        if self.is_full:
            self._make_room(job.client)
        self._count(1)
        loop = asyncio.get_running_loop()

        def free(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(self._count, -1)

        # The place of running work is free when it is over, not when its client has given up.
        job.future.add_done_callback(free)
        with self._lock:
            self._queue.put(job)
        self._pool.submit(self._run_next)
        found: T = await asyncio.wrap_future(job.future)
        return found

    async def run_all(self, works: Iterable[Callable[[], T]]) -> list[T]:
        """The results in their order. The batches of one client are worked on one after another, and take a few places
        at once: more would end none of them in time, and leave no room for others. Raises the first error, and begins
        no more work then."""
        places = self._batches.setdefault(CURRENT_CLIENT.get(), asyncio.Semaphore(max(_PARALLEL, 2 * self.count)))

        async def run(work: Callable[[], T]) -> T:
            async with places:
                return await self.run(work)

        tasks = [asyncio.ensure_future(run(work)) for work in works]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def check_room(self, client: Client) -> None:
        """Raises RequestError (503) where `run` would refuse the client's work: before anything else is done for it."""
        if self.is_full:
            with self._lock:
                is_displaceable = self._queue.is_displaceable(client)
            if not is_displaceable:
                self.refused += 1
                raise _no_place()

    def _make_room(self, client: Client) -> None:
        self.refused += 1
        error = _no_place()
        while True:
            with self._lock:
                displaced = self._queue.displace(client)
            if displaced is None:
                raise error
            if displaced.future.set_running_or_notify_cancel():
                displaced.future.set_exception(error)
                return

    def _run_next(self) -> None:
        """Runs the next work, if it still waits: each was submitted once, but in another order."""
        with self._lock:
            job = self._queue.take()
        if job is None or not job.future.set_running_or_notify_cancel():
            return
        try:
            result = job.work()
        except BaseException as error:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    def _count(self, change: int) -> None:
        self.in_progress += change
        if self.in_progress <= self._comfortable:
            self._pressed_since = None
        elif self._pressed_since is None:
            self._pressed_since = time.monotonic()

    def close(self) -> None:
        """Ends the threads once their running work is done; what waits is cancelled."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        while job := self._queue.take():
            job.future.cancel()


def _no_place() -> RequestError:
    return RequestError(503, "the server is at its limit of requests; try again", retry_after=1)


def search_cost(*, hits: int, page: int = 1, facets: int = 0, characters: int = 0) -> int:
    """The work of a search in searches with 20 hits: one more for each 50 hits, 5,000 places that it reaches down to,
    25 facets and 1,000 characters, their shares added."""
    return 1 + int(hits / 50 + page * hits / 5_000 + facets / 25 + characters / 1_000)


MOST_BATCH_HITS = 5_000
"""Of all searches of one request."""


def check_batch_hits(hits: int, field: str) -> None:
    """Raises RequestError (400) for more hits than the searches of one request may have together."""
    if hits > MOST_BATCH_HITS:
        message = (
            f"{field}: at most {MOST_BATCH_HITS:,} hits may be requested together, not {hits:,}; send several requests"
        )
        raise RequestError(400, message, field=field)


_MOST_KEYS, _MOST_ADDRESSES = 1 << 12, 1 << 14
"""Keys and addresses of a minute that are told apart with certainty, nearly; beyond, some count as a little more."""


class RateLimiter:
    """Counts searches over a sliding minute, in all workers of the service. Another request counts as one search, a
    large search as several (`search_cost`). Requests that reach several workers at the same moment may exceed a limit
    by as many."""

    def __init__(self, per_key: int, per_address: int, group: WorkerGroup | None = None) -> None:
        group = group or WorkerGroup()
        self._per_key, self._per_address = per_key, per_address
        self._counts = {
            "key": SharedCounts(group, "keys", _MOST_KEYS),
            "address": SharedCounts(group, "addresses", _MOST_ADDRESSES),
        }

    def count_key(self, identity: str, own: int | None, cost: int = 1) -> None:
        """Raises RequestError (429) for a key above its own limit, or the limit of all keys."""
        self._count(own or self._per_key, "key", identity, cost)

    def count_address(self, address: str, cost: int = 1) -> None:
        """Raises RequestError (429) for an address above the limit."""
        self._count(self._per_address, "address", address, cost)

    def _count(self, most: int, kind: str, name: str, cost: int) -> None:
        minute, passed = divmod(time.time(), 60)
        counts, period = self._counts[kind], int(minute)
        # Of the minute before, the share counts that is in the last 60 seconds.
        if counts.total(name, period) + counts.total(name, period - 1) * (1 - passed / 60) + cost > most:
            wait = max(1, round(60 - passed))
            counted = f"; this request counts as {cost + 1:,}" if cost > 1 else ""
            message = f"more than {most:,} searches or other requests a minute by one {kind}{counted}; slow down"
            raise RequestError(429, message, retry_after=wait)
        counts.add(name, cost, period)
