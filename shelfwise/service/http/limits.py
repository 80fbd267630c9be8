"""Limits of the service: worker threads with a bounded queue, and rate limits by key and address."""

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

from shelfwise.retrieval.events.addresses import address_group
from shelfwise.service.http.auth import key_identity
from shelfwise.service.http.errors import RequestError
from shelfwise.service.worker_group import SharedCounts, WorkerGroup

T = TypeVar("T")
BODY_SECONDS = 10.0
"""Time limit for receiving a request's head, and again for its body."""
_PARALLEL = 4
"""Minimum number of searches of one client's batches that may run or wait at once."""
_PRESSED_SECONDS = 1.0
"""Seconds with a half-full queue after which the server is not ready for more requests."""


@dataclass(frozen=True, slots=True)
class Client:
    """The sender of a request, as limits distinguish it."""

    key: str = ""
    """The id of the key that was sent, for a narrowed key that of its parent; empty if none is needed."""
    address: str = ""
    """Address or network, by `address_group`."""

    @classmethod
    def of(cls, key: str, address: str) -> Client:
        """The client that sends a key from an address."""
        return cls(key_identity(key), address_group(address))


NOBODY = Client()
CURRENT_CLIENT: ContextVar[Client] = ContextVar("client", default=NOBODY)
"""The client of the current request; set with its authorization."""


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], object]
    client: Client
    future: Future[Any] = field(default_factory=Future)


class FairQueue:
    """Waiting work, taken in turns: from one key after another, and within a key from one address after another. Not
    thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, deque[_Job]]] = {}

    def put(self, job: _Job) -> None:
        """Adds work behind that of the same client."""
        self._waiting.setdefault(job.client.key, {}).setdefault(job.client.address, deque()).append(job)

    def take(self) -> _Job | None:
        """Takes the next work; its key and its address move to the end of the turn."""
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
        """Removes the newest work of the address with the most work within the key with the most work. None if `client`
        has as much as they have, so that its own work is refused."""
        if (most_work := self.largest(client)) is None:
            return None
        key, address = most_work
        addresses = self._waiting[key]
        job = addresses[address].pop()
        if not addresses[address]:
            del addresses[address]
        if not addresses:
            del self._waiting[key]
        return job

    def largest(self, client: Client) -> tuple[str, str] | None:
        """The key and the address with the most work, if a client has less."""
        sizes = {key: sum(map(len, addresses.values())) for key, addresses in self._waiting.items()}
        key = max(sizes, key=sizes.__getitem__, default=client.key)
        addresses = self._waiting.get(key, {})
        address = max(addresses, key=lambda each: len(addresses[each]), default=client.address)
        own = len(addresses.get(client.address, ())) if key == client.key else sizes.get(client.key, 0)
        most = len(addresses.get(address, ())) if key == client.key else sizes[key]
        return (key, address) if own + 1 < most else None


class WorkerThreads:
    """Runs CPU-bound work in threads for one event loop, taking turns between clients.

    If the queue is full, the newest work of the client with the most work is refused, so a client that floods the
    service does not displace others.
    """

    def __init__(self, count: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="answer")
        self._queue = FairQueue()
        self._batches: WeakValueDictionary[Client, asyncio.Semaphore] = WeakValueDictionary()
        """Limits for each client's batches in progress."""
        self._lock = threading.Lock()
        """Held while the queue is used."""
        self.count = count
        self.places = count + queue
        """Maximum number of requests that run or wait at once."""
        self._comfortable = count + queue // 2
        self.in_progress = 0
        """Number of requests that run or wait."""
        self._pressed_since: float | None = None
        self.refused = 0
        """Number of requests that found the queue full, or were displaced by another client."""

    @property
    def is_pressed(self) -> bool:
        """Whether the queue has been at least half full for a second."""
        since = self._pressed_since
        return since is not None and time.monotonic() - since > _PRESSED_SECONDS

    @property
    def is_full(self) -> bool:
        """Whether the maximum number of requests run or wait."""
        return self.in_progress >= self.places

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`. Raises what `work` raises, and RequestError (503) if the queue is full and no other
        client has more work in it."""
        job = _Job(partial(copy_context().run, work), CURRENT_CLIENT.get())
        if self.is_full:
            self._make_room(job.client)
        self._count(1)
        loop = asyncio.get_running_loop()

        def free(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(self._count, -1)

        # Running work counts until it ends, even if its client has given up.
        job.future.add_done_callback(free)
        with self._lock:
            self._queue.put(job)
        self._pool.submit(self._run_next)
        result: T = await asyncio.wrap_future(job.future)
        return result

    async def run_all(self, works: Iterable[Callable[[], T]]) -> list[T]:
        """The results in order. The batches of one client share a small number of places: with more, none would end in
        time and other clients would find no room. Raises the first error, and then starts no further work."""
        slots = self._batches.setdefault(CURRENT_CLIENT.get(), asyncio.Semaphore(max(_PARALLEL, 2 * self.count)))

        async def run(work: Callable[[], T]) -> T:
            async with slots:
                return await self.run(work)

        tasks = [asyncio.ensure_future(run(work)) for work in works]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def check_room(self, client: Client) -> None:
        """Raises RequestError (503) if `run` would refuse the client's work; called before any other processing."""
        if self.is_full:
            with self._lock:
                largest = self._queue.largest(client)
            if largest is None:
                self.refused += 1
                raise _no_place()

    def _make_room(self, client: Client) -> None:
        self.refused += 1
        error = _no_place()
        while True:
            with self._lock:
                job = self._queue.displace(client)
            if job is None:
                raise error
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
                return

    def _run_next(self) -> None:
        """Runs the next job in turn if it still waits; it need not be the job with which this call was submitted."""
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
        """Ends the threads once their running work is done, and cancels waiting work."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        while job := self._queue.take():
            job.future.cancel()


def _no_place() -> RequestError:
    return RequestError(503, "the server is overloaded; try again", retry_after=1)


def search_cost(*, hits: int, page: int = 1, facets: int = 0, characters: int = 0, explained: bool = False) -> int:
    """The cost of a search, in searches with 20 hits: one more for each 50 hits, 5,000 positions of depth, 25 facets
    and 1,000 characters of text and filters, in fractions that are added up, and 5 more if hits are explained."""
    return 1 + 5 * explained + int(hits / 50 + page * hits / 5_000 + facets / 25 + characters / 1_000)


MAX_BATCH_HITS = 5_000
"""Maximum number of hits of all searches of one request."""


def check_batch_hits(hits: int, field: str) -> None:
    """Raises RequestError (400) if the searches of one request have too many hits together."""
    if hits > MAX_BATCH_HITS:
        message = (
            f"{field}: at most {MAX_BATCH_HITS:,} hits may be requested together, not {hits:,}; send several requests"
        )
        raise RequestError(400, message, field=field)


_MAX_KEYS, _MAX_ADDRESSES = 1 << 12, 1 << 14
"""Keys and addresses in a minute up to which counts are almost exact; with more, some are slightly too high."""


class RateLimiter:
    """Counts searches over a sliding minute, across all workers of the service. Other requests count as one search,
    large searches as several (`search_cost`). If requests reach several workers at the same moment, a limit can be
    exceeded by that many."""

    def __init__(self, per_key: int, per_address: int, group: WorkerGroup | None = None) -> None:
        group = group or WorkerGroup()
        self._per_key, self._per_address = per_key, per_address
        self._counts = {
            "key": SharedCounts(group, "keys", _MAX_KEYS),
            "address": SharedCounts(group, "addresses", _MAX_ADDRESSES),
        }

    def count_key(self, identity: str, own: int | None, cost: int = 1) -> None:
        """Raises RequestError (429) for a key above its own limit or the limit of all keys."""
        self._count(own or self._per_key, "key", identity, cost)

    def count_address(self, address: str, cost: int = 1) -> None:
        """Raises RequestError (429) for an address above the limit."""
        self._count(self._per_address, "address", address, cost)

    def _count(self, most: int, kind: str, name: str, cost: int) -> None:
        minute, seconds = divmod(time.time(), 60)
        counts = self._counts[kind]
        period = int(minute)
        # The previous minute counts by the share of it that lies within the last 60 seconds.
        if counts.total(name, period) + counts.total(name, period - 1) * (1 - seconds / 60) + cost > most:
            wait = max(1, round(60 - seconds))
            counted = f"; this request counts as {cost + 1:,}" if cost > 1 else ""
            message = f"more than {most:,} searches or other requests a minute by one {kind}{counted}; slow down"
            raise RequestError(429, message, retry_after=wait)
        counts.add(name, cost, period)
