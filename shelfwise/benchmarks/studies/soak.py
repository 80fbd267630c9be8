"""A soak test of an hour or another time: searches, suggestions, live changes, events and rebuilds at the same time.

At the end the service is killed and restarted, to check that everything it acknowledged is still there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import httpx2
import msgspec
import numpy as np
import typer

from shelfwise.benchmarks.load import Server, client_of, prefixes, serve_index
from shelfwise.benchmarks.studies import run_study
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.feeds.io import iterate_lines, open_source
from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.memory import process_memory
from shelfwise.service.cli.options import OneFeed, command
from shelfwise.service.cli.output import TerminalProgress, emit, say, show_rows
from shelfwise.service.settings import cache_folder

# The acknowledgements of a service under load, the content of its pages, and a check that all of that is true.

Row = Mapping[str, Any]
_RESENT = 1_000
"""The number of events in one request."""
_IMAGES = "https://example.com/edition-"


@dataclass(slots=True)
class Ledger:
    """Acknowledged changes and events, and inconsistencies seen in responses; written by one thread."""

    products: dict[str, float | None] = field(default_factory=dict)
    """The last acknowledged price of each changed product; None for a removed one."""
    unsure: set[str] = field(default_factory=set)
    """Products whose last change was neither acknowledged nor refused, so that it may or may not be there."""
    changes: int = 0
    """The number of acknowledged changes."""
    events: list[Row] = field(default_factory=list)
    """The acknowledged events."""
    editions: dict[str, str] = field(default_factory=dict)
    """Edition of the feed on the first page of each version of the index that answered."""
    mixed: int = 0
    """The number of pages with products of another edition than their version's."""
    stale: int = 0
    """The number of reads that did not show a change acknowledged before."""

    def take_change(self, product: str, price: float | None) -> None:
        """Records an acknowledged change."""
        self.changes += 1
        self.products[product] = price
        self.unsure.discard(product)

    def look_at_page(self, page: Row) -> None:
        """Compares the products of a page with its version: all products of one version are of one feed edition."""
        # Products from live changes have no edition.
        images = (image for hit in page["hits"] for image in hit["product"].get("images", ())[:1])
        editions = {image for image in images if image.startswith(_IMAGES)}
        if editions and {self.editions.setdefault(page["version"], min(editions))} != editions:
            self.mixed += 1

    def look_at_product(self, product: str, status: int, body: bytes) -> None:
        """Compares a product that was read with its acknowledged change; a refused read is not counted."""
        if not self._agrees(product, status, body):
            self.stale += 1

    def lost_changes(self, server: Server) -> int:
        """The number of products of a service that differ from the acknowledged changes."""
        with httpx2.Client(base_url=server.address, timeout=30.0) as client:
            return sum(not self._agrees(each, *_read(client, each)) for each in self.products)

    def lost_events(self, server: Server) -> int:
        """Sends all events again; those that are then stored as new had been lost."""
        lost = 0
        with httpx2.Client(base_url=server.address, headers=server.headers, timeout=120.0) as client:
            for first in range(0, len(self.events), _RESENT):
                events = self.events[first : first + _RESENT]
                answer = client.post("/v1/events", json={"events": events}).raise_for_status().json()
                lost += answer["stored"]
        return lost

    def _agrees(self, product: str, status: int, body: bytes) -> bool:
        wanted = self.products.get(product)
        if product in self.unsure or product not in self.products:
            return True
        if status not in (200, 404):
            return True
        if status == 404:
            return wanted is None
        return bool(msgspec.json.decode(body)["product"]["price"] == wanted)


def write_edition(folder: Path, rows: Sequence[Row], edition: int) -> Path:
    """A feed of `rows`, each with the edition as its image: a field that is shown but not encoded."""
    path = folder / f"edition-{edition}.jsonl"
    images = [f"{_IMAGES}{edition}"]
    path.write_bytes(b"".join(msgspec.json.encode({**row, "images": images}) + b"\n" for row in rows))
    return path


def _read(client: httpx2.Client, product: str) -> tuple[int, bytes]:
    """Reads a product; raises HTTPStatusError for errors other than 404."""
    answer = client.get(f"/v1/products/{product}")
    if answer.status_code != 404:
        answer.raise_for_status()
    return answer.status_code, answer.content


# The clients of the service in a soak test: all kinds of requests concurrently, in one thread.

SLICES = 12
_CHANGED = 2_000
"""The number of the feed's products whose prices change."""
_SHOPPERS = 500
_PAGES = 3
_SHOWN = 5
"""The number of hits of a page whose impressions are recorded."""
_LOOK_SECONDS = 1.0
_REFUSED = frozenset({400, 429, 503})


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per second by kind."""

    searches: float = 20.0
    suggestions: float = 10.0
    changes: float = 2.0
    events: float = 5.0


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of the time."""

    until: float
    """The end, in minutes from the start."""
    statuses: Mapping[str, int]
    """The number of requests by status; requests without an answer by the name of the client's error."""
    p50: float
    """Median milliseconds of the searches that were answered."""
    p99: float
    version: str
    """The version that answered last."""
    megabytes: float
    """The resident memory of the service's process, including pages of the index's files."""
    own_megabytes: float | None
    """The part of it that belongs to no file; None if the system does not report it."""


@dataclass(slots=True)
class ClientLoad:
    """Clients of one service, all in one thread, and what they observed."""

    server: Server
    folder: Path
    rows: Sequence[Row]
    queries: Sequence[str]
    rates: Rates
    ledger: Ledger = field(default_factory=Ledger)
    slices: list[Slice] = field(default_factory=list)
    swaps: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - a benchmark, not a secret
    _client: httpx2.AsyncClient = field(init=False)
    _statuses: Counter[str] = field(default_factory=Counter)
    _spent: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds from the start, and megabytes."""
    _last_page: tuple[str, str, Sequence[Row]] = ("", "", ())
    """The last first page: its query id, its query and its hits."""
    _version: str = ""
    _live: list[str] = field(default_factory=list)
    """Products that were added live and not removed."""

    async def run(self, seconds: float, swap_seconds: float, advance: Callable[[int], None]) -> None:
        """Runs all of the load concurrently."""
        async with client_of(self.server.address, self.server.headers) as self._client:
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

    async def _at_a_rate(self, ask: Callable[[], Coroutine[Any, Any, None]], rate: float, until: float) -> None:
        """Open-loop: late requests do not delay the next ones."""
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while (due := due + self.dice.expovariate(rate)) < until:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(ask())

    async def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Sends one request; the status is 0 without an answer."""
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
        query = self.dice.choice(self.queries)
        parameters = {"q": query, "size": 20, "page": self.dice.randint(1, _PAGES), "facets": "brand"}
        started = time.perf_counter()
        status, body = await self._ask("GET", f"/v1/search?{urlencode(parameters)}")
        if status == 200:
            self._spent.append((time.perf_counter() - started) * 1_000)
            page = msgspec.json.decode(body)
            self.ledger.look_at_page(page)
            self._version = page["version"]
            if page["page"] == 1:
                self._last_page = page["query_id"], query, page["hits"]

    async def _suggest(self) -> None:
        await self._ask("GET", f"/v1/suggest?{urlencode({'q': self.dice.choice(list(prefixes(self._query())))})}")

    async def _record(self) -> None:
        """Records a search's impressions, and a click on one."""
        query_id, query, hits = self._last_page
        if not hits:
            return
        shopper = f"shopper-{self.dice.randrange(_SHOPPERS)}"
        now = datetime.now(UTC).isoformat()
        common = {"query_id": query_id, "query": query, "shopper": shopper, "session": shopper, "time": now}
        clicks = [
            {**common, "kind": kind, "product_id": hit["product"]["id"], "position": position}
            for position, hit in enumerate(hits[:_SHOWN], 1)
            for kind in (("impression", "click") if position == 1 else ("impression",))
        ]
        number = self.dice.getrandbits(64)
        events = [{**each, "event_id": f"{number:x}-{index}"} for index, each in enumerate(clicks)]
        status, _ = await self._ask("POST", "/v1/events", {"events": events})
        if status == 200:
            self.ledger.events.extend(events)

    async def _change(self, until: float) -> None:
        """Sends one change after the other, and reads each back once it is acknowledged."""
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
        """The next change: mostly a price, sometimes a new product, half of which are removed later."""
        price = round(self.dice.uniform(1, 500), 2)
        if number % 20 == 0 and self._live:
            gone = self._live.pop(0)
            return gone, None, {"delete": gone}
        if number % 10 == 0:
            self._live.append(f"live-{number}")
            document = {"id": self._live[-1], "title": f"{self._query()} {number}", "price": price}
            return self._live[-1], price, {"put": document}
        product = str(self.dice.choice(self.rows[:_CHANGED])["id"])
        return product, price, {"patch": {"id": product, "price": price}}

    async def _swap(self, until: float, pause: float) -> None:
        """Rebuilds from the next edition of the feed, repeatedly."""
        due = time.perf_counter() + pause
        edition = 0
        while due < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            edition, due = edition + 1, due + pause
            feed = await asyncio.to_thread(write_edition, self.folder, self.rows, edition)
            task = await self._task("POST", "/v1/tasks", {"kind": "rebuild", "feeds": [feed.name]})
            while task["state"] in ("waiting", "running"):
                await asyncio.sleep(_LOOK_SECONDS)
                task = await self._task("GET", f"/v1/tasks/{task['id']}")
            if task["state"] == "failed":
                raise StoreError(f"a rebuild under load failed: {task['error']}")
            self.swaps += task["state"] == "done"

    async def _task(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The state of a task; asks again while the service is overloaded."""
        while True:
            status, figures = await self._ask(method, path, body)
            if status in (200, 202):
                return msgspec.json.decode(figures, type=dict[str, Any])
            if status not in (0, 503):
                raise StoreError(f"{method} {path} was answered with {status}: {figures.decode()}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _watch(self, until: float, seconds: float, advance: Callable[[int], None]) -> None:
        """Records the memory every second, and a slice at the end of each part of the time."""
        started = until - seconds
        ends = [seconds * (number + 1) / SLICES for number in range(SLICES)]
        while ends:
            await asyncio.sleep(min(_LOOK_SECONDS, max(0.0, started + ends[0] - time.perf_counter())))
            advance(1)
            passed = time.perf_counter() - started
            own = process_memory(process=self.server.process.pid) / 1e6 or None  # only Linux reports it
            total = 0.0
            if passed >= ends[0] or own is None:
                lines = (await self._client.get("/metrics")).text.splitlines()
                figures = [line.split()[1] for line in lines if line.startswith("process_resident_memory_bytes ")]
                total = float(figures[0]) / 1e6 if figures else float("nan")
            self.memory.append((passed, total if own is None else own))
            if passed >= ends[0]:
                p50, p99 = np.percentile(self._spent, (50, 99)).tolist() if self._spent else (float("nan"),) * 2
                statuses = dict(sorted(self._statuses.items()))
                self.slices.append(Slice(ends.pop(0) / 60, statuses, p50, p99, self._version, total, own))
                self._statuses.clear()
                self._spent.clear()

    def _query(self) -> str:
        return self.dice.choice(self.queries)


_SETTLED = 0.25
"""The share of the time after which memory should stop growing, because the caches are full."""


@dataclass(frozen=True, slots=True)
class SoakReport:
    """The results of a service under a mixed load; the last five must be 0."""

    products: int
    minutes: float
    slices: tuple[Slice, ...]
    swaps: int
    changes: int
    """The number of acknowledged changes; `events` counts acknowledged events."""
    events: int
    growth: float
    """Growth of the process's own memory in megabytes per hour, by least squares after the first quarter."""
    failures: int
    """The number of requests answered with 500, or not at all."""
    mixed_pages: int
    stale_reads: int
    lost_changes: int
    lost_events: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing was lost, mixed or left unanswered."""
        return not any((self.failures, self.mixed_pages, self.stale_reads, self.lost_changes, self.lost_events))


def soak(
    rows: Sequence[Row],
    folder: Path,
    options: Callable[[Path], RebuildOptions],
    queries: Sequence[str],
    *,
    minutes: float,
    swap_minutes: float,
    rates: Rates,
    advance: Callable[[int], None],
) -> SoakReport:
    """Builds a feed in `folder`, and serves it for `minutes`; `advance` receives each elapsed second."""
    index = folder / "index"
    rebuild(index, options(write_edition(folder, rows, 0)))
    settings = {"SHELFWISE_SERVICE__FEEDS": str(folder)}
    with serve_index(index, settings) as server:
        load = ClientLoad(server, folder, rows, queries, rates)
        asyncio.run(load.run(minutes * 60, swap_minutes * 60, advance))
        server.kill()
    with serve_index(index, settings) as server:
        lost_changes, lost_events = load.ledger.lost_changes(server), load.ledger.lost_events(server)
    statuses = sum((Counter(each.statuses) for each in load.slices), Counter[str]())
    memory = np.array([each for each in load.memory if each[0] >= _SETTLED * minutes * 60])
    return SoakReport(
        len(rows),
        minutes,
        tuple(load.slices),
        load.swaps,
        load.ledger.changes,
        len(load.ledger.events),
        float(np.polyfit(memory[:, 0] / 3600, memory[:, 1], 1)[0]) if len(memory) > 1 else float("nan"),
        sum(count for status, count in statuses.items() if status == "500" or not status.isdecimal()),
        load.ledger.mixed,
        load.ledger.stale,
        lost_changes,
        lost_events,
    )


def show_soak(report: SoakReport) -> None:
    """A row for each slice of the time, then what was lost, which should be nothing."""
    title = f"{report.products:,} products, {report.minutes:g} minutes"
    rows = []
    for each in report.slices:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in each.statuses.items())
        own = "" if each.own_megabytes is None else f"{each.own_megabytes:,.0f}"
        spent = f"{each.p50:.1f}", f"{each.p99:.1f}"
        rows.append((f"{each.until:g}", statuses, *spent, each.version, f"{each.megabytes:,.0f}", own))
    show_rows(("minute", "answers", "p50 ms", "p99 ms", "version", "MB", "of its own"), rows, title=title)
    say(
        f"{report.swaps} rebuilds were swapped in; {report.changes:,} changes and {report.events:,} events were "
        f"acknowledged; memory of its own grew by {report.growth:+.1f} MB an hour after the first quarter"
    )
    wrong = {
        "requests failed": report.failures,
        "pages were of two versions": report.mixed_pages,
        "reads did not show a change": report.stale_reads,
        "changes were lost": report.lost_changes,
        "events were lost": report.lost_events,
    }
    say("; ".join(f"{count:,} {what}" for what, count in wrong.items()))


_QUERIES = 500
_WORDS = 4
"""The number of words of a title in a query made of titles."""


@command("soak products.jsonl.gz --minutes 60")
def soak_command(
    feed: OneFeed,
    minutes: Annotated[float, typer.Option(help="Minutes of load.", min=0.1, max=10_000)] = 60.0,
    swap_minutes: Annotated[float, typer.Option(help="Minutes between rebuilds.", min=0.05)] = 5.0,
    rate: Annotated[float, typer.Option(help="Searches per second.", min=1, max=1_000)] = 20.0,
    encoder: Annotated[str, typer.Option(help="Name or folder of a model.")] = "all-MiniLM-L6-v2",
) -> None:
    """Serve a feed for an hour under searches, suggestions, live changes, events and rebuilds, and kill it at the end.

    Exit code 1 if a request failed, a page mixed two versions, or anything acknowledged is missing.
    """
    with open_source(str(feed), lambda _: None) as source:
        rows = [msgspec.json.decode(line, type=dict[str, Any]) for _, line in iterate_lines(source)]
    queries = [" ".join(str(row["title"]).split()[:_WORDS]) for row in rows[:: len(rows) // _QUERIES + 1]]
    with TemporaryDirectory() as folder, TerminalProgress() as progress:
        progress.begin("soak", round(minutes * 60), "seconds")
        report = soak(
            rows,
            Path(folder),
            lambda path: RebuildOptions((str(path),), cache_folder(), encoder=encoder),
            queries,
            minutes=minutes,
            swap_minutes=swap_minutes,
            rates=Rates(searches=rate),
            advance=progress.advance,
        )
        progress.end(f"{report.swaps} rebuilds, {report.changes:,} changes, {report.events:,} events")
    emit(report, show_soak)
    if not report.is_sound:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_study(soak_command)
