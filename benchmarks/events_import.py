"""How fast event logs are imported, how much memory that takes, and how much disk the events take."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.tables import plain_table
from indexer.lines import numbered_lines, open_source
from retrieval.events.event import EventKind
from service.terminal import out

_START = datetime(2024, 3, 1, tzinfo=UTC)
_DAYS = 90
_SHOWN = 10
"""Products that a query shows."""
_PRODUCTS = 50_000
_QUERIES = 20_000
_WORDS = ("cordless", "drill", "steel", "kitchen", "garden", "blue", "cotton", "lamp", "usb", "cable", "oak", "shelf")
_Numbers = NDArray[np.int64] | int | None
_ACTIONS = (EventKind.CLICK, EventKind.CART, EventKind.PURCHASE)
_COLUMNS = ("event_id", "kind", "time", "shopper", "session", "query_id", "query", "product_id", "position")

_PROGRAM = """
import json, re, resource, sys, time
from pathlib import Path
started = time.perf_counter()
from indexer.events.importing import import_events
from retrieval.events.intake import Intake
from retrieval.events.masking import Masker
from retrieval.events.pseudonyms import Pseudonyms
from retrieval.events.sqlite import SqliteEvents
folder = Path(sys.argv[2])
store = SqliteEvents(folder)
intake = Intake(Pseudonyms(folder / "keys.json"), Masker())
report = import_events([sys.argv[1]], store, intake, aside=folder / "aside.jsonl")
store.close()
seconds = time.perf_counter() - started
own = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # not that of who started it
peaks = [own / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]
spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps([report.taken, report.set_aside, seconds, spent, *peaks]))
"""


@dataclass(frozen=True, slots=True)
class EventsImport:
    """One import of a log into a new store, in a program of its own, from its start to the closed store."""

    format: str
    events: int
    bytes: int
    """Of the log, packed where it is."""
    seconds: float
    processor_seconds: float
    """Of all processes together."""
    decoding_seconds: float
    """Of a plain loop that does nothing but decode the log's JSON lines; 0 for another format."""
    peak_megabytes: float
    """Resident memory of the program at its largest."""
    worker_megabytes: float
    """That of the largest of its workers."""
    stored_bytes: int
    """Of the store on disk."""

    @property
    def events_per_second(self) -> float:
        """Events read, checked and made durable a second."""
        return self.events / self.seconds

    @property
    def bytes_per_event(self) -> float:
        """Disk of the store for each event."""
        return self.stored_bytes / self.events


def measure_events_import(folder: Path, events: int = 1_000_000, seed: int = 17) -> list[EventsImport]:
    """Imports a made log of so many events, once as packed JSON lines and once as CSV. Needs an empty folder."""
    table = made_log(events, seed)
    lines, columns = folder / "events.jsonl.gz", folder / "events.csv"
    with gzip.open(lines, "wb", compresslevel=1) as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in _told(table))
    table.write_csv(columns)
    return [_imported(lines, folder, events, decoding_seconds(lines)), _imported(columns, folder, events, 0.0)]


def _imported(log: Path, folder: Path, events: int, decoding: float) -> EventsImport:
    store = folder / f"store-{log.name}"
    store.mkdir()
    command = [sys.executable, "-c", _PROGRAM, str(log), str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # this interpreter
    taken, aside, seconds, spent, *peaks = json.loads(done.stdout)
    if (taken, aside) != (events, 0):
        raise AssertionError(f"{log}: {taken:,} of {events:,} events were taken, {aside:,} set aside")
    stored = sum(file.stat().st_size for file in store.iterdir())
    name = log.name.removesuffix(".gz").rpartition(".")[2]
    return EventsImport(name, events, log.stat().st_size, seconds, spent, decoding, peaks[0], peaks[1], stored)


def show_events_import(measured: Sequence[EventsImport]) -> None:
    """Formats by speed, memory and disk."""
    names = ["log", "events", "MB", "seconds", "a second", "CPU us", "decoding s"]
    table = plain_table([*names, "peak MB", "worker MB", "disk B"], "CPU and disk are for each event")
    for each in measured:
        spent = f"{each.processor_seconds / each.events * 1e6:.1f}"
        decoding = f"{each.decoding_seconds:.1f}" if each.decoding_seconds else ""
        memory = (f"{each.peak_megabytes:.0f}", f"{each.worker_megabytes:.0f}", f"{each.bytes_per_event:.0f}")
        speed = (f"{each.seconds:.1f}", f"{each.events_per_second:,.0f}", spent, decoding)
        table.add_row(each.format, f"{each.events:,}", f"{each.bytes / 1e6:,.0f}", *speed, *memory)
    out.print(table)


def decoding_seconds(log: Path) -> float:
    """How long a loop takes that unpacks and decodes JSON lines, and does no more."""
    started = time.perf_counter()
    decode = msgspec.json.Decoder().decode
    with open_source(str(log), lambda _: None) as source:
        for _, line in numbered_lines(source):
            decode(line)
    return time.perf_counter() - started


def made_log(events: int, seed: int, days: int = _DAYS) -> pl.DataFrame:
    """A log of so many events and days in order of time: queries, what each showed, and what came of some of it.

    Of each ten sessions' queries about eight have a click, two a cart, one a purchase. It is made to be big, not to be
    lifelike: the demo store's log is that.
    """
    random = np.random.default_rng(seed)
    count = events // (_SHOWN + 1) + 1  # each makes a query and what it shows at least
    at = np.sort(random.integers(0, days * 86_400_000, count))
    query = (random.pareto(1.0, count) * 20).astype(np.int64) % _QUERIES
    product = (random.pareto(1.0, (count, _SHOWN)) * 50).astype(np.int64) % _PRODUCTS
    owners = {"number": np.arange(count), "query_number": query, "session_number": np.arange(count) // 2}
    base = pl.DataFrame({**owners, "at": at})
    shown = [_events(base, EventKind.IMPRESSION, product[:, place], place + 1, place) for place in range(_SHOWN)]
    chosen = random.geometric(0.3, count).clip(1, _SHOWN) - 1
    parts = [_events(base, EventKind.QUERY, None, None, 0), *shown]
    for step, (kind, share) in enumerate(zip(_ACTIONS, (0.8, 0.15, 0.05), strict=True)):
        acted = random.random(count) < share
        part = _events(base, kind, product[np.arange(count), chosen], chosen + 1, 5_000 * (step + 1))
        parts.append(part.filter(pl.Series(acted)))
    return pl.concat(parts).sort("at", "number", "kind", "position").head(events).select(_written())


def _events(base: pl.DataFrame, kind: EventKind, product: _Numbers, position: _Numbers, later: int) -> pl.DataFrame:
    return base.with_columns(
        kind=pl.lit(kind.value), product=_column(product), position=_column(position), at=pl.col("at") + later
    )


def _column(values: _Numbers) -> pl.Expr:
    return pl.lit(pl.Series(values) if isinstance(values, np.ndarray) else values, pl.Int64)


def _written() -> list[pl.Expr]:
    words = [pl.col("query_number").floordiv(len(_WORDS) ** place).mod(len(_WORDS)) for place in range(3)]
    spelled = [word.replace_strict(dict(enumerate(_WORDS)), return_dtype=pl.String) for word in words]
    start = int(_START.timestamp() * 1000)
    columns = {
        "event_id": pl.format("e-{}", pl.int_range(pl.len())),
        "kind": pl.col("kind"),
        "time": pl.from_epoch(pl.col("at") + start, time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
        "shopper": pl.format("shopper-{}", pl.col("session_number").floordiv(5)),
        "session": pl.format("session-{}", pl.col("session_number")),
        "query_id": pl.format("query-{}", pl.col("number")),
        "query": pl.concat_str(spelled, separator=" "),
        "product_id": pl.format("P{}", pl.col("product")),
        "position": pl.col("position"),
    }
    return [columns[name].alias(name) for name in _COLUMNS]


def _told(table: pl.DataFrame) -> Iterator[dict[str, object]]:
    for row in table.iter_rows(named=True):
        yield {name: value for name, value in row.items() if value is not None}
