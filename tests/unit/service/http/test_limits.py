"""Worker threads, and refusals of requests beyond their number."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from shelfwise.service.http import limits as workers_module
from shelfwise.service.http.auth import Scope, new_key
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.limits import CURRENT_CLIENT, Client, RateLimiter, WorkerThreads, search_cost
from tests.services import narrowed


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """An event that blocks work until the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


def test_full_queue_refuses_at_once(held: threading.Event) -> None:
    workers = WorkerThreads(1, 1)

    async def three() -> list[BaseException | None]:
        params = [asyncio.create_task(workers.run(held.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        done, _ = await asyncio.wait(params, return_when=asyncio.FIRST_COMPLETED)
        refused = [task.exception() for task in done]
        held.set()
        await asyncio.gather(*params, return_exceptions=True)
        return refused

    (refused,) = asyncio.run(three())
    assert isinstance(refused, RequestError)
    assert (refused.status, refused.retry_after) == (503, 1)
    assert (workers.refused, workers.in_progress) == (1, 0)
    workers.close()


def test_blocked_server_is_reported(monkeypatch: pytest.MonkeyPatch, held: threading.Event) -> None:
    monkeypatch.setattr(workers_module, "_PRESSED_SECONDS", 0.02)
    workers = WorkerThreads(1, 2)

    async def pressed() -> None:
        params = [asyncio.create_task(workers.run(held.wait)) for _ in range(3)]
        while not workers.is_pressed:
            await asyncio.sleep(0.01)
        held.set()
        await asyncio.gather(*params)
        while workers.in_progress:
            await asyncio.sleep(0.01)
        assert not workers.is_pressed

    asyncio.run(pressed())
    workers.close()


HEAVY, LIGHT = Client("heavy", "192.0.2.1"), Client("light", "192.0.2.2")
KEY = new_key("shop", (Scope.SEARCH,), now=datetime(2026, 12, 1, tzinfo=UTC))[0]
"""A key from which its owner can derive any number of narrowed keys offline."""


def begin(workers: WorkerThreads, client: Client, work: Callable[[], object]) -> asyncio.Task[object]:
    CURRENT_CLIENT.set(client)  # the task gets a copy of the context
    return asyncio.create_task(workers.run(work))


@pytest.mark.parametrize(
    ("flood", "other"),
    [
        ([HEAVY], LIGHT),
        ([HEAVY], replace(HEAVY, address="192.0.2.3")),
        ([replace(HEAVY, address=f"192.0.2.{last}") for last in range(4, 14)], LIGHT),
        ([Client.of(narrowed(KEY, filters=f"price < {most}"), "192.0.2.1") for most in range(20)], LIGHT),
        ([Client.of(KEY, f"2001:db8::{last:x}") for last in range(20)], Client.of(KEY, "192.0.2.2")),
    ],
)
def test_flood_of_one_client_takes_no_place_from_others(
    held: threading.Event, flood: list[Client], other: Client
) -> None:
    workers = WorkerThreads(1, 9)
    done: list[str] = []

    async def compete() -> list[object]:
        first = begin(workers, flood[0], held.wait)
        await asyncio.sleep(0)
        many = [begin(workers, flood[at % len(flood)], partial(done.append, f"flood {at}")) for at in range(20)]
        await asyncio.sleep(0)
        single = begin(workers, other, partial(done.append, "other"))
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(first, single)
        return await asyncio.gather(*many, return_exceptions=True)

    refused = [each for each in asyncio.run(compete()) if isinstance(each, RequestError)]
    assert len(refused) == workers.refused == 20 - 8
    assert "other" in done[:2]
    workers.close()


@pytest.mark.parametrize("key", ["", ".", "e30.e30.x", "é.é.é", "[." * 5_000, "k1"])
def test_an_invalid_key_is_not_counted_for_another(key: str) -> None:
    assert Client.of(key, "").key in ("", "k1")


def test_batches_of_a_client_follow_one_another() -> None:
    workers = WorkerThreads(2, 6)
    done: list[int] = []

    async def two() -> None:
        await asyncio.gather(*(workers.run_all([partial(done.append, batch)] * 20) for batch in range(3)))

    asyncio.run(two())
    assert workers.refused == 0
    assert all(abs(done.index(batch) - 20 * batch) < 4 for batch in range(3))
    workers.close()


def test_failed_batch_begins_no_more_work() -> None:
    workers = WorkerThreads(1, 6)
    done: list[int] = []
    works: list[Callable[[], object]] = [lambda: 1 // 0, *(partial(done.append, at) for at in range(50))]

    async def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            await workers.run_all(works)
        await workers.run(lambda: None)

    asyncio.run(fail())
    assert len(done) < 10
    workers.close()


def test_cancelled_work_waits_no_longer(held: threading.Event) -> None:
    workers = WorkerThreads(1, 1)

    async def cancel() -> str:
        running = begin(workers, HEAVY, held.wait)
        waiting = begin(workers, HEAVY, held.wait)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0.01)
        assert workers.in_progress == 1
        last = begin(workers, HEAVY, lambda: "done")
        await asyncio.sleep(0)
        held.set()
        await running
        return str(await last)

    assert asyncio.run(cancel()) == "done"
    workers.close()


@pytest.mark.parametrize(
    ("size", "page", "facets", "characters", "cost"),
    [
        (20, 1, 10, 30, 1),
        (1_000, 1, 0, 0, 1 + 1_000 // 50),
        (1_000, 100, 0, 0, 1 + (1_000 // 50 + 100_000 // 5_000)),
        (0, 1, 50, 10_000, 1 + (50 // 25 + 10_000 // 1_000)),
    ],
)
def test_large_search_counts_as_several(size: int, page: int, facets: int, characters: int, cost: int) -> None:
    assert search_cost(hits=size, page=page, facets=facets, characters=characters) == cost


def test_rate_slides_from_minute_to_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 600.0
    monkeypatch.setattr("shelfwise.service.http.limits.time.time", lambda: now)
    rates = RateLimiter(10, 10)
    for _ in range(10):
        rates.count_address("a")
    with pytest.raises(RequestError) as refused:
        rates.count_address("a")
    assert (refused.value.status, refused.value.retry_after) == (429, 60)
    rates.count_address("b")
    now = 660.0 + 30  # half of the ten requests are in the last 60 seconds
    for _ in range(5):
        rates.count_address("a")
    with pytest.raises(RequestError):
        rates.count_address("a")
    now = 660.0 + 180
    rates.count_address("a", cost=10)
