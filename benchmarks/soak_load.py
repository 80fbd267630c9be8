"""The clients of a service that is soaked: all kinds of requests side by side, in one thread."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
import msgspec
import numpy as np

from benchmarks.http_load import client_of, prefixes
from benchmarks.http_server import Served
from benchmarks.soak_ledger import Ledger, Row, write_edition
from retrieval.errors import StoreError

SLICES = 12
_CHANGED = 2_000
"""How many products of the feed get other prices."""
_SHOPPERS = 500
_PAGES = 3
_SHOWN = 5
"""Hits of a page whose impressions are recorded."""
_LOOK_SECONDS = 1.0
_REFUSED = frozenset({400, 429, 503})


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second, each kind at its own pace."""

    searches: float = 20.0
    suggestions: float = 10.0
    changes: float = 2.0
    events: float = 5.0


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of the time."""

    until: float
    """Minutes from the start."""
    statuses: Mapping[str, int]
    """How many requests were answered so; those that were not by the name of the client's error."""
    p50: float
    """Milliseconds of searches that were answered."""
    p99: float
    version: str
    """The one that answered last."""
    megabytes: float
    """What the service's process holds in memory, pages of the index's files among it."""
    own_megabytes: float | None
    """Of it what belongs to no file; None where the system does not tell."""


@dataclass(slots=True)
class Load:
    """Clients of one service, all in one thread, and what they saw."""

    server: Served
    folder: Path
    rows: Sequence[Row]
    queries: Sequence[str]
    rates: Rates
    ledger: Ledger = field(default_factory=Ledger)
    slices: list[Slice] = field(default_factory=list)
    swaps: int = 0
    random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - a benchmark, not a secret
    _client: httpx2.AsyncClient = field(init=False)
    _statuses: Counter[str] = field(default_factory=Counter)
    _spent: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds from the start, megabytes."""
    _shown: tuple[str, str, Sequence[Row]] = ("", "", ())
    """The last page: its query id, its query and its hits."""
    _version: str = ""
    _live: list[str] = field(default_factory=list)
    """Products that came live and were not taken away."""

    async def run(self, seconds: float, swap_seconds: float, advance: Callable[[int], None]) -> None:
        """All of the load, side by side."""
        async with client_of(self.server.address) as self._client:
            until = time.perf_counter() + seconds
            kinds = {
                self._search: self.rates.searches,
                self._suggest: self.rates.suggestions,
                self._record: self.rates.events,
            }
            async with asyncio.TaskGroup() as group:
                for ask, rate in kinds.items():
                    group.create_task(self._at_a_rate(ask, rate, until))
                group.create_task(self._change(until))
                group.create_task(self._swap(until, swap_seconds))
                group.create_task(self._watch(until, seconds, advance))

    async def _at_a_rate(self, ask: Callable[[], Awaitable[object]], rate: float, until: float) -> None:
        """Open-loop: what is late does not hold up what comes."""
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while (due := due + self.random.expovariate(rate)) < until:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(_awaited(ask))

    async def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """One request; status 0 where there was no answer."""
        try:
            content = None if body is None else msgspec.json.encode(body)
            headers = {"Content-Type": "application/json"} if content else {}
            answer = await self._client.request(method, path, content=content, headers=headers)
        except httpx2.HTTPError as error:
            self._statuses[type(error).__name__] += 1
            return 0, b""
        self._statuses[str(answer.status_code)] += 1
        return answer.status_code, answer.content

    async def _search(self) -> None:
        query = self.random.choice(self.queries)
        asked = {"q": query, "size": 20, "page": self.random.randint(1, _PAGES), "facets": "brand"}
        started = time.perf_counter()
        status, body = await self._ask("GET", f"/v1/search?{urlencode(asked)}")
        if status == 200:
            self._spent.append((time.perf_counter() - started) * 1_000)
            page = msgspec.json.decode(body)
            self.ledger.look_at_page(page)
            self._version = page["version"]
            if page["page"] == 1:
                self._shown = page["query_id"], query, page["hits"]

    async def _suggest(self) -> None:
        await self._ask("GET", f"/v1/suggest?{urlencode({'q': self.random.choice(list(prefixes(self._query())))})}")

    async def _record(self) -> None:
        """A search's impressions, and a click on one."""
        query_id, query, hits = self._shown
        if not hits:
            return
        shopper, now = f"shopper-{self.random.randrange(_SHOPPERS)}", datetime.now(UTC).isoformat()
        common = {"query_id": query_id, "query": query, "shopper": shopper, "session": shopper, "time": now}
        shown = [
            {**common, "kind": kind, "product_id": hit["product"]["id"], "position": position}
            for position, hit in enumerate(hits[:_SHOWN], 1)
            for kind in (("impression", "click") if position == 1 else ("impression",))
        ]
        number = self.random.getrandbits(64)
        events = [{**each, "event_id": f"{number:x}-{place}"} for place, each in enumerate(shown)]
        status, _ = await self._ask("POST", "/v1/events", {"events": events})
        if status == 200:
            self.ledger.events.extend(events)

    async def _change(self, until: float) -> None:
        """One change after the other, each read back when it was acknowledged."""
        number = 0
        while time.perf_counter() + 1 / self.rates.changes < until:
            await asyncio.sleep(1 / self.rates.changes)
            number += 1
            product, price, operation = self._next_change(number)
            self.ledger.unsure.add(product)
            status, _ = await self._ask("POST", "/v1/products/changes", {"operations": [operation]})
            if status == 200:
                self.ledger.take_change(product, price)
                self.ledger.look_at_product(product, *await self._ask("GET", f"/v1/products/{quote(product)}"))
            elif status in _REFUSED:
                self.ledger.unsure.discard(product)

    def _next_change(self, number: int) -> tuple[str, float | None, Row]:
        """Mostly prices; some new products, half of which are taken away again."""
        price = round(self.random.uniform(1, 500), 2)
        if number % 20 == 0 and self._live:
            gone = self._live.pop(0)
            return gone, None, {"delete": gone}
        if number % 10 == 0:
            self._live.append(f"live-{number}")
            made = {"id": self._live[-1], "title": f"{self._query()} {number}", "price": price}
            return self._live[-1], price, {"put": made}
        product = str(self.random.choice(self.rows[:_CHANGED])["id"])
        return product, price, {"patch": {"id": product, "values": {"price": price}}}

    async def _swap(self, until: float, pause: float) -> None:
        """A rebuild from the next edition of the feed, again and again."""
        due, edition = time.perf_counter() + pause, 0
        while due < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            edition, due = edition + 1, due + pause
            feed = await asyncio.to_thread(write_edition, self.folder, self.rows, edition)
            task = await self._task("POST", "/v1/rebuild", {"feeds": [feed.name]})
            while task["state"] in ("waiting", "running"):
                await asyncio.sleep(_LOOK_SECONDS)
                task = await self._task("GET", f"/v1/tasks/{task['id']}")
            if task["state"] == "failed":
                raise StoreError(f"a rebuild under load failed: {task['error']}")
            self.swaps += task["state"] == "done"

    async def _task(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """What is told of a task; asked again while the service has too much to do."""
        while True:
            status, told = await self._ask(method, path, body)
            if status in (200, 202):
                return msgspec.json.decode(told, type=dict[str, Any])
            if status not in (0, 503):
                raise StoreError(f"{method} {path} was answered with {status}: {told.decode()}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _watch(self, until: float, seconds: float, advance: Callable[[int], None]) -> None:
        """Memory every second, and a line for each slice of the time."""
        started = until - seconds
        ends = [seconds * (number + 1) / SLICES for number in range(SLICES)]
        while ends:
            await asyncio.sleep(min(_LOOK_SECONDS, max(0.0, started + ends[0] - time.perf_counter())))
            advance(1)
            passed = time.perf_counter() - started
            own = _own_megabytes(self.server.process.pid)
            total = await self._resident() if passed >= ends[0] or own is None else 0.0
            self.memory.append((passed, total if own is None else own))
            if passed >= ends[0]:
                self.slices.append(self._slice(ends.pop(0) / 60, total, own))

    def _slice(self, until: float, total: float, own: float | None) -> Slice:
        p50, p99 = np.percentile(self._spent, (50, 99)).tolist() if self._spent else (float("nan"),) * 2
        statuses = dict(sorted(self._statuses.items()))
        self._statuses.clear()
        self._spent.clear()
        return Slice(until, statuses, p50, p99, self._version, total, own)

    async def _resident(self) -> float:
        lines = (await self._client.get("/metrics")).text.splitlines()
        told = [line.split()[1] for line in lines if line.startswith("process_resident_memory_bytes ")]
        return float(told[0]) / 1e6 if told else float("nan")

    def _query(self) -> str:
        return self.random.choice(self.queries)


async def _awaited(ask: Callable[[], Awaitable[object]]) -> None:
    await ask()


def _own_megabytes(process: int) -> float | None:
    """Linux tells it; elsewhere None."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon:")), None)
