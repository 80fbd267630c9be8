"""Load test of the HTTP service: requests at a fixed rate, and more than it can answer.

Arrivals are open-loop: each request is due at its own time, whether or not earlier ones were answered, and its latency
counts from then (Schroeder et al. 2006, Open Versus Closed: A Cautionary Tale, section 2). Client and server share the
machine.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import numpy as np

from shelfwise.retrieval.errors import StoreError
from shelfwise.service.http.auth import AdminToken

_CONNECTIONS = 200
_CLIENTS = 8
"""The number of clients that send one request after the other to determine the highest throughput."""
_TIMEOUT = 30.0

Ask = Callable[[str], Awaitable[str]]
"""Sends a request and returns the status of the response: "200", or another."""


@dataclass(frozen=True, slots=True)
class Load:
    """The results of requests at a fixed rate."""

    kind: str
    rate: float
    """Requests a second."""
    requests: int
    statuses: Mapping[str, int]
    """The number of requests by status; "error" for those without a response."""
    p50: float
    """Milliseconds of requests answered with 200."""
    p99: float
    refused_p99: float | None
    """Milliseconds of requests refused with 503; None if there are none."""


@dataclass(frozen=True, slots=True)
class HttpReport:
    """All loads, and the searches answered per second if each client waits for its response."""

    products: int
    capacity: float
    loads: tuple[Load, ...]


def measure_http(
    address: str, queries: Sequence[str], *, rate: float, seconds: float, advance: Callable[[str], None]
) -> HttpReport:
    """Searches at `rate`, suggestions at the same rate, then searches at twice the highest throughput; `advance`
    receives each load."""
    return asyncio.run(_measured(address, queries, rate, seconds, advance))


async def _measured(
    address: str, queries: Sequence[str], rate: float, seconds: float, advance: Callable[[str], None]
) -> HttpReport:
    searches = [f"/v1/search?{urlencode({'q': query, 'size': 20, 'facets': 'brand'})}" for query in queries]
    typed = [f"/v1/suggest?{urlencode({'q': prefix})}" for query in queries for prefix in prefixes(query)]
    async with client_of(address) as asking:
        ready = (await asking.get("/health/ready")).json()
    with closing(_Connections(address)) as client:
        await closed_load(client.get, searches, 3.0)
        advance("warmed up")
        loads = [await open_load(client.get, "searches", searches, rate, seconds)]
        advance(f"searches at {rate:g} a second")
        loads.append(await open_load(client.get, "suggestions", typed, rate, seconds))
        advance(f"suggestions at {rate:g} a second")
        capacity = await closed_load(client.get, searches, seconds / 2)
        advance(f"{capacity:.0f} searches a second at most")
        loads.append(await open_load(client.get, "searches, twice too many", searches, 2 * capacity, seconds))
        advance(f"searches at {2 * capacity:.0f} a second")
    return HttpReport(ready["products"], capacity, tuple(loads))


class _Connections:
    """Open connections, each with one request at a time. A library's client takes ten times as long, which would be
    most of the measured time on a machine that it shares with the service."""

    def __init__(self, address: str) -> None:
        self._host, self._port = address.removeprefix("http://").split(":")
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> str:
        """The status of the response, which is read completely; "error" if there is none."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                idle = self._idle.pop() if self._idle else None
                reader, writer = idle or await asyncio.open_connection(self._host, int(self._port), limit=1 << 20)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        except (OSError, EOFError, TimeoutError, ValueError):
            return "error"
        writer.close() if b"connection: close" in head else self._idle.append((reader, writer))
        return head[9:12].decode()

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def open_load(ask: Ask, kind: str, requests: Sequence[str], rate: float, seconds: float, seed: int = 0) -> Load:
    """Sends requests, drawn from these, at the times of a Poisson process."""
    random = np.random.default_rng(seed)
    count = round(rate * seconds)
    due = np.cumsum(random.exponential(1 / rate, count))
    chosen = random.integers(0, len(requests), count)
    started = time.perf_counter()
    answers: list[tuple[str, float]] = []

    async def answer(at: float, request: str) -> None:
        status = await ask(request)
        answers.append((status, (time.perf_counter() - started - at) * 1_000))

    async with asyncio.TaskGroup() as group:
        for at, number in zip(due.tolist(), chosen.tolist(), strict=True):
            await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
            group.create_task(answer(at, requests[number]))
    answered = [spent for status, spent in answers if status == "200"]
    refused = [spent for status, spent in answers if status == "503"]
    return Load(
        kind,
        rate,
        count,
        dict(sorted(Counter(status for status, _ in answers).items())),
        float(np.percentile(answered, 50)) if answered else float("nan"),
        float(np.percentile(answered, 99)) if answered else float("nan"),
        float(np.percentile(refused, 99)) if refused else None,
    )


async def closed_load(ask: Ask, requests: Sequence[str], seconds: float, clients: int = _CLIENTS) -> float:
    """Responses per second for clients that wait for each of them."""
    until = time.perf_counter() + seconds
    answered = 0

    async def run_client(first: int) -> None:
        nonlocal answered
        number = first
        while time.perf_counter() < until:
            await ask(requests[number % len(requests)])
            answered += 1
            number += clients

    started = time.perf_counter()
    await asyncio.gather(*map(run_client, range(clients)))
    return answered / (time.perf_counter() - started)


@asynccontextmanager
async def client_of(address: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with as many connections as a load may need, which sends these headers."""
    limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    async with httpx2.AsyncClient(base_url=address, headers=headers, limits=limits, timeout=_TIMEOUT) as client:
        yield client


def prefixes(query: str) -> Iterator[str]:
    """The texts that a search box sends while the query is typed."""
    return (query[:end] for end in range(2, min(len(query), 20) + 1))


# A service in a separate process, started like `shelfwise serve`.

_STARTING_SECONDS = 60
_ENDING_SECONDS = 60
_WORKERS = "SHELFWISE_SERVICE__WORKERS"
_SETTINGS = {"SHELFWISE_SERVICE__REQUESTS_PER_MINUTE_ADDRESS": "100000000"}
"""No limit of requests per address, since one address sends all requests."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running service."""

    address: str
    process: subprocess.Popen[bytes]
    index: Path

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers with which its owner administers it."""
        return {"X-API-Key": AdminToken(self.index).ensure()}

    def kill(self) -> None:
        """Ends it at once, like the loss of a machine."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serve_index(index: Path, settings: Mapping[str, str] | None = None, *, workers: int = 1) -> Iterator[Server]:
    """Serves an index with this number of worker processes, with `settings` as environment variables. It ends with the
    context; raises StoreError if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "from shelfwise.service.cli.main import main; main()"
    command = [sys.executable, "-c", program, "serve", str(index), "--port", str(port)]
    environment = {**os.environ, **_SETTINGS, _WORKERS: str(workers), **(settings or {})}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    started = Server(f"http://127.0.0.1:{port}", process, index)
    try:
        _wait_until_ready(started, workers)
        yield started
    finally:
        process.terminate()
        process.wait(timeout=_ENDING_SECONDS)


def _wait_until_ready(started: Server, workers: int) -> None:
    until = time.monotonic() + _STARTING_SECONDS * workers
    while time.monotonic() < until and started.process.poll() is None:
        try:
            if httpx2.get(f"{started.address}/health/ready", timeout=2.0).status_code == 200:
                serving = f"\nshelfwise_workers {workers:.1f}\n"
                metrics = f"{started.address}/metrics"
                if workers == 1 or serving in httpx2.get(metrics, headers=started.headers, timeout=2.0).text:
                    return
        except httpx2.HTTPError:
            pass
        time.sleep(0.1)
    raise StoreError("the service did not start; see its output: shelfwise serve INDEX")
