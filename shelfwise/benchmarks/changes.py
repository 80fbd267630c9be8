"""Time of an incremental rebuild, and of a live change until a search finds it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.feeds.io import iterate_lines, open_source
from shelfwise.retrieval.errors import SettingError
from shelfwise.service.engine.candidates import Encodings
from shelfwise.service.engine.engine import SearchEngine

Row = dict[str, Any]
CHANGE_KINDS: Mapping[str, float] = {"price": 0.4, "availability": 0.2, "title": 0.2, "gone": 0.1, "new": 0.1}
"""The kinds of change of a product, with their shares."""


def json_rows(feed: Path) -> Iterator[dict[str, Any]]:
    """The rows of a feed in JSON lines; raises SettingError for other feeds."""
    with open_source(str(feed), lambda _: None) as source:
        for number, line in iterate_lines(source):
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError as error:
                raise SettingError(f"{feed} line {number}: a row must be a JSON object: {error}") from error


@dataclass(frozen=True, slots=True)
class Build:
    """One rebuild, and the work that it found."""

    label: str
    seconds: float
    products: int
    encoded: int
    phases: Mapping[str, float]


def measure_rebuilds(
    feed: Path, folder: Path, options: Callable[[Path], RebuildOptions], share: float, seed: int = 0
) -> Iterator[Build]:
    """Builds a feed from nothing, again without a change, and again after `share` of its products changed."""
    rows = list(json_rows(feed))
    before, after = folder / "before.jsonl", folder / "after.jsonl"
    _write(before, rows)
    _write(after, changed_rows(rows, share, seed))
    for label, each in (("from nothing", before), ("unchanged", before), (f"{share:.1%} changed", after)):
        started = time.perf_counter()
        report = rebuild(folder / "index", options(each))
        yield Build(label, time.perf_counter() - started, report.products, report.encoded, report.seconds)


def changed_rows(rows: list[Row], share: float, seed: int) -> Iterator[Row]:
    """The rows a day later: some with another price, stock or title, some removed, some new."""
    draw = random.Random(seed)  # noqa: S311 - a benchmark, not a secret
    for row in rows:
        if draw.random() >= share:
            yield row
            continue
        match draw.choices(list(CHANGE_KINDS), list(CHANGE_KINDS.values()))[0]:
            case "price":
                yield {**row, "price": round(draw.uniform(1, 500), 2)}
            case "availability":
                yield {**row, "availability": "out_of_stock" if row.get("availability") == "in_stock" else "in_stock"}
            case "title":
                yield {**row, "title": f"{row['title']}, new edition"}
            case "new":
                yield row
                yield {**row, "id": f"{row['id']}-new", "title": f"{row['title']} mark {draw.randrange(99)}"}


def _write(path: Path, rows: Iterator[Row] | list[Row]) -> None:
    with path.open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")


# The time until a live change is found: in the engine that received it, and in an engine of another process.

_READER = """
import json, sys, time
from shelfwise.service.engine.engine import SearchEngine
with SearchEngine.open(sys.argv[1]) as engine:
    print("ready", flush=True)
    for line in sys.stdin:
        product, price = json.loads(line)
        while engine.product(product).price != price:
            time.sleep(0.001)
        hits = engine.search("", filters=f"price = {price}", size=1_000).hits
        print(time.time(), any(hit.product.id == product for hit in hits), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Milliseconds from a call that changes a price to a search that finds the product by the new price."""

    changes: int
    searches_per_second: float
    """The searches that ran during the changes."""
    search_p99: float
    """The p99 of those searches, in milliseconds."""
    here: tuple[float, float, float]
    """Delays in the engine that received the change: p50, p99 and the longest."""
    elsewhere: tuple[float, float, float]
    """Delays in an engine of another process: p50, p99 and the longest."""


def measure_freshness(
    index: Path, queries: Sequence[str], changes: int, rate: float = 50.0, seed: int = 0
) -> Freshness:
    """Changes prices one after the other while `rate` searches a second run; modifies `index`."""
    draw = random.Random(seed)  # noqa: S311 - a benchmark, not a secret
    command = [sys.executable, "-c", _READER, str(index)]
    with (
        SearchEngine.open(index) as engine,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader,
    ):
        assert reader.stdin and reader.stdout  # noqa: S101 - they are pipes
        reader.stdout.readline()
        load = _Load(engine, queries, rate)
        here, elsewhere = [], []
        products = engine.snapshot.products
        with load:
            for number in range(changes):
                product, price = products.id_of(draw.randrange(len(products))), 10_000 + number + 0.25
                reader.stdin.write(json.dumps([product, price]) + "\n")
                reader.stdin.flush()
                started, clock = time.perf_counter(), time.time()
                engine.patch(product, price=price)
                found = engine.search("", filters=f"price = {price}").hits
                here.append((time.perf_counter() - started) * 1_000)
                seen, is_found = reader.stdout.readline().split()
                elsewhere.append((float(seen) - clock) * 1_000)
                if not found or is_found != "True":
                    raise RuntimeError(f"product {product} is not found by its new price {price}")
                time.sleep(draw.uniform(0, 0.1))
        reader.stdin.close()
    return Freshness(changes, load.per_second, load.p99, _spread(here), _spread(elsewhere))


class _Load:
    """Timed searches at a steady rate in a separate thread."""

    def __init__(self, engine: SearchEngine, queries: Sequence[str], rate: float) -> None:
        self._engine = engine
        self._queries = queries
        self._pause = 1 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._spent: list[float] = []
        self._seconds = 0.0

    def __enter__(self) -> _Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.perf_counter()
        number = 0
        while not self._stop.is_set():
            before = time.perf_counter()
            self._engine.search(self._queries[number % len(self._queries)], encodings=Encodings())
            self._spent.append((time.perf_counter() - before) * 1_000)
            number += 1
            self._stop.wait(max(0.0, started + number * self._pause - time.perf_counter()))
        self._seconds = time.perf_counter() - started

    @property
    def per_second(self) -> float:
        return len(self._spent) / self._seconds

    @property
    def p99(self) -> float:
        return float(np.percentile(self._spent, 99))


def _spread(milliseconds: list[float]) -> tuple[float, float, float]:
    return (float(np.percentile(milliseconds, 50)), float(np.percentile(milliseconds, 99)), max(milliseconds))
