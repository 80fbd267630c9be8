"""The threads that answer, and what is refused when there are more requests than they can."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from service.http import limits as workers_module
from service.http.errors import RequestError
from service.http.limits import WorkerThreads


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Work that waits for it ends at the latest with the test."""
    event = threading.Event()
    yield event
    event.set()


def test_result_or_error_of_the_work_is_returned() -> None:
    workers = WorkerThreads(1, 1)

    def failing() -> None:
        raise KeyError("nosuch")

    async def both() -> int:
        with pytest.raises(KeyError):
            await workers.run(failing)
        return await workers.run(lambda: 7)

    assert asyncio.run(both()) == 7
    assert workers.in_progress == 0
    workers.close()


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


def test_slot_is_freed_when_the_work_ends(held: threading.Event) -> None:
    workers = WorkerThreads(1, 0)

    async def given_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(workers.run(held.wait), 0.02)
        with pytest.raises(RequestError):
            await workers.run(lambda: None)
        held.set()
        while workers.in_progress:
            await asyncio.sleep(0.01)
        await workers.run(lambda: None)

    asyncio.run(given_up())
    workers.close()


def test_blocked_server_is_reported(monkeypatch: pytest.MonkeyPatch, held: threading.Event) -> None:
    monkeypatch.setattr(workers_module, "_PRESSED_SECONDS", 0.02)
    workers = WorkerThreads(1, 2)

    async def pressed() -> None:
        params = [asyncio.create_task(workers.run(held.wait)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert workers.is_pressed
        held.set()
        await asyncio.gather(*params)
        while workers.in_progress:
            await asyncio.sleep(0.01)
        assert not workers.is_pressed

    asyncio.run(pressed())
    workers.close()
