"""More searches than a service can answer, and clients that hold on to it: what it can it answers, the rest it refuses
at once, and it gets through it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import httpx2
import pytest

from tests.machine import within
from tests.services import Service, service

QUERIES = ("cordless drill", "red mug", "gift for a gardener", "耳机", "steel")
_THREADS, _QUEUE = 1, 6
_SECONDS = 4.0
_CLIENTS = 2 * (_THREADS + _QUEUE)
"""Each asks again as soon as it is answered: twice as many at any time as there are places."""
_MOST_MEMORY = 100_000_000


@pytest.fixture
def running(demo_index: Path, tmp_path: Path) -> Iterator[Service]:
    settings = {"threads": _THREADS, "queue": _QUEUE, "requests_per_minute_address": 10_000_000, "body_seconds": 2}
    with service(demo_index, tmp_path / "log", **settings) as started:
        yield started


class Pressure:
    def __init__(self, address: str) -> None:
        self._address = address
        self.statuses: Counter[int] = Counter()
        self.ready: list[int] = []
        self.longest = 0.0
        """Seconds, of any answer."""
        self.without_retry = 0

    async def apply(self) -> None:
        until = time.monotonic() + _SECONDS
        limits = httpx2.Limits(max_connections=2 * _CLIENTS)
        async with httpx2.AsyncClient(base_url=self._address, limits=limits, timeout=30) as client:
            await asyncio.gather(
                self._watch(client, until), *(self._search(client, until, number) for number in range(_CLIENTS))
            )

    async def _search(self, client: httpx2.AsyncClient, until: float, number: int) -> None:
        for query in islice(cycle(QUERIES), number, None):
            if time.monotonic() > until:
                return
            started = time.monotonic()
            answer = await client.get("/v1/search", params={"q": query, "size": 50, "facets": "brand"})
            self.longest = max(self.longest, time.monotonic() - started)
            self.statuses[answer.status_code] += 1
            self.without_retry += answer.status_code != 200 and "Retry-After" not in answer.headers

    async def _watch(self, client: httpx2.AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            self.ready.append((await client.get("/health/ready")).status_code)
            await asyncio.sleep(0.2)


def test_twice_as_much_as_it_can_answer_is_answered_or_refused(running: Service) -> None:
    before = running.memory()
    pressure = Pressure(running.address)
    asyncio.run(pressure.apply())
    assert set(pressure.statuses) == {200, 503}, pressure.statuses
    assert pressure.statuses[200] > 20
    assert pressure.without_retry == 0
    assert pressure.longest < 5
    # Under pressure that lasts it is not ready; that goes with the pressure.
    assert pressure.ready[0] == 200
    assert 503 in pressure.ready[3:]
    assert within(3, running.is_ready)
    assert running.memory() - before < _MOST_MEMORY
    told = running.get("/metrics").text
    (refused,) = [line for line in told.splitlines() if line.startswith("shelfwise_requests_refused_total ")]
    assert float(refused.split()[1]) == pressure.statuses[503]
    assert running.get("/v1/search?q=drill").status_code == 200


def test_clients_that_hold_on_to_it_keep_nobody_else_from_an_answer(running: Service) -> None:
    before = running.memory()
    heads = [b"", b"GET /v1/search HTTP/1.1\r\nX-Slow: ", b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\n"]
    body = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n{"
    slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
    for client, part in zip(slow, cycle((*heads, body)), strict=False):
        client.sendall(part)
    started = time.monotonic()
    for number in range(20):
        assert running.get(f"/v1/search?q=drill&size={number}").status_code == 200
    assert time.monotonic() - started < 10
    # Within the time that a head and a body have, and a moment for those that were answered, all are let go.
    assert within(10, lambda: _open(running) < 20)
    assert running.memory() - before < _MOST_MEMORY
    for client in slow:
        client.close()


def _open(running: Service) -> int:
    count = 0
    for link in Path(f"/proc/{running.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            count += link.readlink().as_posix().startswith("socket:")
    return count
