"""Speed of the event pipeline: imports, single durable writes, refreshes of the derived tables; and what a night of
forged events moves."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import queue
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import product
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Protocol

import msgspec
import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray

from shelfwise.benchmarks.quality import Run, ndcg, run_stage
from shelfwise.benchmarks.studies import run_study
from shelfwise.benchmarks.tables import difference_cells, figure_table
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.events.importer import import_events
from shelfwise.indexer.feeds.io import iterate_lines, open_source
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from shelfwise.rerank.ranker.spec import AddedRanker, ranker_store
from shelfwise.rerank.sessions.cleaning import RejectReason
from shelfwise.rerank.sessions.refresh import RefreshResult, refresh
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.rerank.training.trainer import CURVE_FILE
from shelfwise.retrieval.events.privacy import EventIntake, Masker, Pseudonyms
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.store import EVENT_SCHEMA, EventStore, event_table
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent
from shelfwise.retrieval.judgments import Judgments, read_judgments
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.records import EventKind
from shelfwise.retrieval.store.files import file_bytes
from shelfwise.service.cli.options import command
from shelfwise.service.cli.output import TerminalProgress, emit, show_table
from shelfwise.service.cli.train import ClickTrainingOptions
from shelfwise.service.demo.generator import DemoFiles, write_demo_store
from shelfwise.service.demo.shoppers import Truth
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog, stored_events
from shelfwise.service.events.signals import read_popularity
from shelfwise.service.settings import RankerSettings, Settings, cache_folder
from shelfwise.service.training.derived_tables import DerivedTablesManager
from shelfwise.service.training.training_session import fresh_tables, ranker_from_tables

_DAY = 20_000
_DAYS = 30


@dataclass(frozen=True, slots=True)
class EventRefresh:
    """One refresh of the derived tables."""

    label: str
    events: int
    """The number of cleaned events in the window."""
    seconds: float
    days_made: int
    days_kept: int


def measure_event_refresh(folder: Path, events: int = 1_000_000, seed: int = 17) -> list[EventRefresh]:
    """Refreshes a generated log of 30 days: without its last day, with it, once more, and from nothing for comparison.

    Raises AssertionError if the tables of the incremental refreshes differ from those made from nothing.
    """
    log = made_log(events, seed, days=_DAYS)
    last = pl.col("time") >= log["time"].str.head(10).max()
    intake = EventIntake(Pseudonyms(folder / "keys.json"), Masker())
    with closing(SqliteEvents(folder)) as store:
        _take(log.filter(~last), store, intake, folder)
        measured = [_measured("from nothing, without the last day", store, folder / "steps")]
        _take(log.filter(last), store, intake, folder)
        measured.append(_measured("one more day", store, folder / "steps"))
        measured.append(_measured("nothing new", store, folder / "steps"))
        measured.append(_measured("from nothing", store, folder / "nothing"))
    _check_same(folder / "steps", folder / "nothing")
    return measured


def _take(log: pl.DataFrame, store: EventStore, intake: EventIntake, folder: Path) -> None:
    path = folder / "log.csv"
    log.write_csv(path)
    import_events([str(path)], store, intake, rejected=folder / "rejected.jsonl")


def _measured(label: str, store: EventStore, folder: Path) -> EventRefresh:
    done: RefreshResult = refresh(store, folder, None, now=_after(store))
    return EventRefresh(label, done.events, done.seconds, done.days_made, done.days_kept)


def _after(store: EventStore) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=max(store.days()) + 1, milliseconds=-1)


def _check_same(steps: Path, nothing: Path) -> None:
    one, other = open_derived(steps), open_derived(nothing)
    differing = [name for name in one.manifest.tables if not one.table(name).equals(other.table(name))]
    if differing:
        raise AssertionError(f"{', '.join(differing)}: the tables of incremental refreshes differ from new ones")


def show_event_refresh(measured: list[EventRefresh]) -> None:
    """Refreshes by time, as shares of the one from nothing."""
    table = figure_table(["refresh", "events", "seconds", "of from nothing", "days made", "days kept"], "")
    for each in measured:
        share = f"{each.seconds / measured[-1].seconds:.0%}"
        counts = (f"{each.days_made:,}", f"{each.days_kept:,}")
        table.add_row(each.label, f"{each.events:,}", f"{each.seconds:.1f}", share, *counts)
    show_table(table)


# The tables of the commands that measure the processing of shoppers' events.


def show_event_writes(measured: Sequence[EventWrites]) -> None:
    """Shows the ways of writing with their speed."""
    table = figure_table(["method", "writers", "events", "events a second", "p50 ms", "p99 ms"], "")
    for each in measured:
        speed = (f"{each.per_second:,.0f}", f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}")
        table.add_row(each.way, str(each.writers), f"{each.events:,}", *speed)
    show_table(table)


# Single events, each durable before the next is sent: the number per second, and the time of one.
#
# The baseline is the same writers without group commit: one SQLite transaction for each event, all else the same.

_WRITER_START_SECONDS = 60.0
_LOOK_SECONDS = 1.0


class Appends(Protocol):
    """The store that the writers write to."""

    def append(self, events: list[StoredEvent], /) -> object:
        """Stores events durably."""
        ...


@dataclass(frozen=True, slots=True)
class EventWrites:
    """The throughput of writers that each wait for their event, and the time of one event."""

    way: str
    writers: int
    events: int
    per_second: float
    p50_ms: float
    p99_ms: float


def measure_event_writes(folder: Path, writers: int, events: int) -> list[EventWrites]:
    """Writes `events` events in each writer: in threads of one process, in processes, and without group commit."""
    alone = _One(folder / "baseline")
    with closing(SqliteEvents(folder / "threads")) as store:
        measured = [
            _summary("a transaction for each event", writers, *_by_threads(alone, writers, events)),
            _summary("group commit, threads of one process", writers, *_by_threads(store, writers, events)),
        ]
    return [*measured, _summary("processes", writers, *_by_processes(folder / "processes", writers, events))]


class _One:
    """Each append is a separate transaction: threads take turns."""

    def __init__(self, folder: Path) -> None:
        self._store = SqliteEvents(folder)
        self._turn = threading.Lock()

    def append(self, events: list[StoredEvent], /) -> object:
        with self._turn:
            return self._store.append(events)


def _by_threads(store: Appends, writers: int, events: int) -> tuple[float, list[float]]:
    times: list[float] = []
    threads = [threading.Thread(target=_write_events, args=(store, events, times.append)) for _ in range(writers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, times


def _by_processes(folder: Path, writers: int, events: int) -> tuple[float, list[float]]:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(writers + 1, timeout=_WRITER_START_SECONDS + writers), context.Queue()
    given = (folder, events, barrier, results)
    processes = [context.Process(target=_process, args=given, daemon=True) for _ in range(writers)]
    for process in processes:
        process.start()
    try:
        barrier.wait()
    except threading.BrokenBarrierError as error:
        raise AssertionError("a writer did not start; see above for its error") from error
    started = time.perf_counter()
    times = [seconds for _ in processes for seconds in _next_result(results, processes)]
    spent = time.perf_counter() - started
    for process in processes:
        process.join()
    return spent, times


def _next_result(results: multiprocessing.Queue[list[float]], processes: Sequence[BaseProcess]) -> list[float]:
    """The times of the next writer. Raises AssertionError if one failed, or all ended without sending their times."""
    while True:
        try:
            return results.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            ended = [process.exitcode for process in processes if process.exitcode is not None]
            if any(ended) or len(ended) == len(processes):
                raise AssertionError(f"writers ended with {ended} and did not send their times") from None


def _process(
    folder: Path, events: int, barrier: threading.Barrier, results: multiprocessing.Queue[list[float]]
) -> None:
    times: list[float] = []
    try:
        with closing(SqliteEvents(folder)) as store:
            barrier.wait()
            _write_events(store, events, times.append)
    except BaseException:
        barrier.abort()  # so that the others do not wait until their timeout
        raise
    results.put(times)


def _write_events(store: Appends, events: int, record: Callable[[float], None]) -> None:
    for number in range(events):
        event = _event(number)
        started = time.perf_counter()
        store.append([event])
        record(time.perf_counter() - started)


def _event(number: int) -> StoredEvent:
    ms = _DAY * DAY_MS + number
    shopper, session, query = f"k1~{'a' * 22}", f"k1~{'b' * 22}", f"q{number // 10:08d}"
    key, product = secrets.token_bytes(16), f"p{number % 1000:06d}"
    return StoredEvent(
        key, "click", ms, ms, shopper, session, query, "cordless drill", product, 1 + number % 20, None, None, None
    )


def _summary(way: str, writers: int, seconds: float, times: list[float]) -> EventWrites:
    p50, p99 = np.percentile(np.array(times) * 1_000, [50, 99])
    return EventWrites(way, writers, len(times), len(times) / seconds, float(p50), float(p99))


# How fast event logs are imported, how much memory that needs, and how much disk the events need.

_START = datetime(2024, 3, 1, tzinfo=UTC)
_IMPORTED_DAYS = 90
_SHOWN = 10
"""The number of products that a query shows."""
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
from shelfwise.indexer.events.importer import import_events
from shelfwise.retrieval.events.privacy import EventIntake
from shelfwise.retrieval.events.privacy import Masker
from shelfwise.retrieval.events.privacy import Pseudonyms
from shelfwise.retrieval.events.sqlite import SqliteEvents
folder = Path(sys.argv[2])
store = SqliteEvents(folder)
intake = EventIntake(Pseudonyms(folder / "keys.json"), Masker())
report = import_events([sys.argv[1]], store, intake, rejected=folder / "rejected.jsonl")
store.close()
seconds = time.perf_counter() - started
own = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # not that of who started it
peaks = [own / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]
spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps([report.added, report.rejected_count, seconds, spent, *peaks]))
"""


@dataclass(frozen=True, slots=True)
class EventsImport:
    """One import of a log into a new store in a separate process, from its start until the store is closed."""

    format: str
    events: int
    bytes: int
    """The size of the log, compressed if it is."""
    seconds: float
    processor_seconds: float
    """Processor seconds of all processes together."""
    decoding_seconds: float
    """Seconds of a plain loop that only decodes the log's JSON lines; 0 for other formats."""
    peak_megabytes: float
    """Peak resident memory of the program."""
    worker_megabytes: float
    """Peak resident memory of the largest of its workers."""
    stored_bytes: int
    """The size of the store on disk."""

    @property
    def events_per_second(self) -> float:
        """Events that are read, checked and made durable per second."""
        return self.events / self.seconds

    @property
    def bytes_per_event(self) -> float:
        """Bytes of the store on disk per event."""
        return self.stored_bytes / self.events


def measure_events_import(folder: Path, events: int = 1_000_000, seed: int = 17) -> list[EventsImport]:
    """Imports a generated log of `events` events, once as compressed JSON lines and once as CSV, in an empty folder."""
    table = made_log(events, seed)
    lines, columns = folder / "events.jsonl.gz", folder / "events.csv"
    with gzip.open(lines, "wb", compresslevel=1) as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in _rows(table))
    table.write_csv(columns)
    return [_imported(lines, folder, events, decoding_seconds(lines)), _imported(columns, folder, events, 0.0)]


def _imported(log: Path, folder: Path, events: int, decoding: float) -> EventsImport:
    store = folder / f"store-{log.name}"
    store.mkdir()
    command = [sys.executable, "-c", _PROGRAM, str(log), str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # this interpreter
    added, rejected, seconds, spent, *peaks = json.loads(done.stdout)
    if (added, rejected) != (events, 0):
        raise AssertionError(f"{log}: {added:,} of {events:,} events were imported, {rejected:,} rejected")
    stored = file_bytes(store.iterdir())
    name = log.name.removesuffix(".gz").rpartition(".")[2]
    return EventsImport(name, events, log.stat().st_size, seconds, spent, decoding, peaks[0], peaks[1], stored)


def show_events_import(measured: Sequence[EventsImport]) -> None:
    """Formats by speed, memory and disk."""
    names = ["log", "events", "MB", "seconds", "a second", "CPU us", "decoding s"]
    table = figure_table([*names, "peak MB", "worker MB", "disk B"], "CPU and disk are for each event")
    for each in measured:
        spent = f"{each.processor_seconds / each.events * 1e6:.1f}"
        decoding = f"{each.decoding_seconds:.1f}" if each.decoding_seconds else ""
        memory = (f"{each.peak_megabytes:.0f}", f"{each.worker_megabytes:.0f}", f"{each.bytes_per_event:.0f}")
        speed = (f"{each.seconds:.1f}", f"{each.events_per_second:,.0f}", spent, decoding)
        table.add_row(each.format, f"{each.events:,}", f"{each.bytes / 1e6:,.0f}", *speed, *memory)
    show_table(table)


def decoding_seconds(log: Path) -> float:
    """The time of a loop that only decompresses and decodes JSON lines."""
    started = time.perf_counter()
    decode = msgspec.json.Decoder().decode
    with open_source(str(log), lambda _: None) as source:
        for _, line in iterate_lines(source):
            decode(line)
    return time.perf_counter() - started


def made_log(events: int, seed: int, days: int = _IMPORTED_DAYS) -> pl.DataFrame:
    """A log of `events` events over `days` days in order of time: queries, their impressions, and some actions.

    Of ten sessions' queries about eight have a click, two a cart, one a purchase. It is made to be large, not
    realistic; the demo store's log is realistic.
    """
    random = np.random.default_rng(seed)
    count = events // (_SHOWN + 1) + 1  # each makes a query and its impressions at least
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
    spelled = [index.replace_strict(dict(enumerate(_WORDS)), return_dtype=pl.String) for index in words]
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


def _rows(table: pl.DataFrame) -> Iterator[dict[str, object]]:
    for row in table.iter_rows(named=True):
        yield {name: value for name, value in row.items() if value is not None}


@command("events import-log --events 100000")
def import_log(
    events: Annotated[int, typer.Option(help="Number of events in the log.", min=1_000)] = 1_000_000,
) -> None:
    """Time importing a log into a new store, as JSON lines and as CSV, with its memory and its disk."""
    with TemporaryDirectory() as folder:
        emit(measure_events_import(Path(folder), events), show_events_import)


@command("events writes --writers 8")
def writes(
    writers: Annotated[int, typer.Option(help="Number of concurrent writers.", min=1, max=256)] = 8,
    events: Annotated[int, typer.Option(help="Number of events for each writer.", min=10)] = 2_000,
) -> None:
    """Time single events, each durable before the next: threads, processes, and threads without group commit."""
    with TemporaryDirectory(dir=".") as folder:
        emit(measure_event_writes(Path(folder), writers, events), show_event_writes)


@command("events refresh-tables --events 100000")
def refresh_tables(
    events: Annotated[int, typer.Option(help="Number of events in the log.", min=10_000)] = 1_000_000,
) -> None:
    """Time making the derived tables from nothing and after one more day, and check that both give the same."""
    with TemporaryDirectory() as folder:
        emit(measure_event_refresh(Path(folder), events), show_event_refresh)


# Forged events: what a night of them moves, and what the allowance of addresses costs honest shoppers.

_TARGETS, _DEPTH, _CLOSE = 5, 20, 0.01
"""The number of products to raise, the hits of a forged search, and the largest difference of a target's score from
that of the hit above it."""
_RAISED = 0.6
"""The share of answers on which a forger clicks the target: as often as shoppers examine the first positions."""
_FORGED, _TRUE, _ACTS = "forged lists", "true lists", "acts without lists"
_CARRIERS, _BEHIND = 10, 0.3
"""The number of addresses that many shoppers share, and the share of shoppers behind them."""
_SETTINGS = Settings(backend="embedded", ranker=RankerSettings(deadline=60.0))
"""Other work of the machine must not change the order."""
Attack = tuple[str, float, int]
"""The kind of a night, its events as a share of the log's, and the number of addresses; 0 if they are believed."""


@dataclass(frozen=True, slots=True)
class ForgedNight:
    """The ranks of one target, in the search that the forger aims at and by popularity, before and after a night."""

    seed: int
    attack: Attack
    query: str
    before: tuple[int, int]
    after: tuple[int, int]


@dataclass(frozen=True, slots=True)
class HonestLearning:
    """nDCG@10 of the judged queries after learning from honest shoppers, or without events; `change` is against events
    without addresses, with a 95% interval."""

    seed: int
    addresses: str
    surplus: int
    ndcg: float
    change: Difference


@dataclass(frozen=True, slots=True, eq=False)
class _ForgedStore:
    """A demo store that has learned from its honest shoppers, each at an address of its own."""

    now: datetime
    """The time of the last event."""
    targets: Mapping[str, str]
    """Product by query."""
    lists: Mapping[str, list[str]]
    """The hits of each of these queries, and of others."""
    seed: int

    def night(self, kind: str, events: int, addresses: int, query: str) -> pl.DataFrame:
        """A night of sessions of new shoppers, with 0 addresses as it was stored before, else as the service takes it.

        Each session searches for the query of a target and for one of no target. On three of five answers it clicks the
        target, otherwise another hit: accounts that click one product only, or each time, are easily detected.
        """
        chance = np.random.default_rng(self.seed)
        first = (int(self.now.timestamp() * 1_000) // DAY_MS - 1) * DAY_MS
        rows: list[tuple[object, ...]] = []
        while len(rows) < events:
            who, at = f"{self.targets[query]}-{len(rows)}", first + int(chance.integers(6 * 3_600_000))
            address = f"{self.targets[query]}-{len(rows) % addresses}" if addresses else ""
            for text in (query, str(chance.choice([each for each in self.lists if each not in self.targets]))):
                answer, acts = f"{who}-{text}", _session(kind, self.lists[text], self.targets[query], chance)
                for act, chosen, position in acts:
                    at += int(chance.lognormal(np.log(12_000), 0.6)) if act != "impression" else 0
                    key = blake2b(f"{query}/{len(rows)}".encode(), digest_size=16).digest()
                    is_shown = act == "impression"
                    if is_shown and addresses and kind == _FORGED:
                        continue  # refused
                    names = (who, who, answer if kind != _ACTS else "", text if is_shown else "")
                    place = position if is_shown else None
                    rows.append((key, act, at, at, *names, chosen, place, None, None, None, address))
        return event_table(rows)

    def ranks(self, root: Path) -> Mapping[str, tuple[int, int]]:
        """The rank of each target by its query and by popularity; 1,000 if it is not found."""
        scores, found = read_popularity(root).shares, run_stage_of(root, list(self.targets))
        popular = sorted(scores, key=lambda each: -scores[each])
        pairs = ((query, target, found[query]) for query, target in self.targets.items())
        return {query: (_rank(hits, target), _rank(popular, target)) for query, target, hits in pairs}


def _rank(ids: Sequence[str], target: str) -> int:
    return ids.index(target) + 1 if target in ids else 1_000


def _session(
    kind: str, hits: Sequence[str], target: str, chance: np.random.Generator
) -> Iterator[tuple[str, str, int | None]]:
    """The events of one answer: kind, product and position."""
    shown = list(hits)
    if kind == _FORGED and target in shown:
        shown = [each for each in hits if each != target][:2]
        shown.insert(int(chance.integers(3)), target)
    if kind != _ACTS:
        yield from (("impression", each, position) for position, each in enumerate(shown, 1))
    is_raised = target in shown and chance.random() < _RAISED
    chosen = target if is_raised else str(chance.choice(shown[:5]))
    for act in ("click", "cart", "purchase") if kind == _ACTS else ("click",):
        yield act, chosen, None


def run_stage_of(root: Path, queries: Sequence[str]) -> Run:
    """The hits of each query in the order that serves."""
    with SearchEngine.open(root, settings=_SETTINGS) as engine:
        return run_stage(engine, queries, "ranked")


def _counted(root: Path, events: pl.DataFrame, now: datetime) -> RefreshResult:
    """Adds events to an index and refreshes its tables."""
    with EventLog.open(root, _SETTINGS) as log:
        for part in events.iter_slices(5_000):
            log.store.append(stored_events(part))
        return DerivedTablesManager(root, log, _SETTINGS.events, clock=lambda: now).refresh()


def _targets(root: Path, log: pl.DataFrame) -> tuple[dict[str, str], dict[str, list[str]]]:
    """For some frequent queries a product at one of ranks 4 to 12 that is close to the one above it; and all hits."""
    queries = log.filter(pl.col("query") != "").group_by("query").agg(pl.col("query_id").n_unique())
    frequent = queries.sort("query_id", "query", descending=[True, False])["query"].to_list()[:200]
    targets: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    with SearchEngine.open(root, settings=_SETTINGS) as engine:
        for query in frequent[::4]:
            hits = engine.search(query, size=_DEPTH, correct=False, rules=False).hits
            close = [rank for rank in range(3, min(12, len(hits))) if hits[rank - 1].score - hits[rank].score < _CLOSE]
            if len(hits) < _DEPTH:
                continue
            lists[query] = [hit.product.id for hit in hits]
            if close and lists[query][close[-1]] not in targets.values() and len(targets) < _TARGETS:
                targets[query] = lists[query][close[-1]]
    return targets, lists


def honest_log(files: DemoFiles) -> pl.DataFrame:
    """The log of a demo store, as if imported a day after its end, without planted fraud."""
    truth = msgspec.json.decode(files.truth.read_bytes(), type=Truth)
    with gzip.open(files.events) as packed:
        rows = pl.read_ndjson(io.BytesIO(packed.read()))
    time = pl.col("time").str.to_datetime("%+", time_unit="ms", time_zone="UTC")
    rows = rows.with_columns(time=time, key=pl.col("event_id").cast(pl.Binary))
    rows = rows.with_columns(received=pl.col("time").max() + pl.duration(days=1, time_unit="ms"))
    rows = rows.with_columns(pl.lit(None).alias(name) for name in EVENT_SCHEMA if name not in rows.columns)
    fraud = [session for plot in truth.fraud.values() for session in plot.sessions]
    table = rows.select(pl.col(name).cast(kind) for name, kind in EVENT_SCHEMA.items())
    return table.filter(~pl.col("session").is_in(fraud))


def let_serve(root: Path, added: AddedRanker) -> None:
    """Adds a ranker that the gate rejected once more, without the gate."""
    with TemporaryDirectory() as folder:
        for name in (MODEL_FILE, WEIGHTS_FILE, CURVE_FILE):
            shutil.copy(added.model.folder / name, folder)
        report = msgspec.structs.replace(added.model.report, rejection_reasons=())
        ranker_store(root).add(Path(folder), added.model.spec, report)


def measure_forged(
    seeds: Sequence[int], attacks: Sequence[Attack], progress: Progress
) -> Iterator[ForgedNight | HonestLearning]:
    """Builds a demo store for each seed and measures honest learning, and each attack: a night on which each target has
    a forger of its own."""
    for seed in seeds:
        with TemporaryDirectory() as folder:
            files = write_demo_store(Path(folder) / "demo", seed=seed, products=2000, sessions=10_000)
            options = RebuildOptions((str(files.products),), cache_folder(), synonyms=files.synonyms)
            rebuild(Path(folder) / "plain", options, progress)
            log = honest_log(files)
            keys = [blake2b(each, digest_size=16).digest() for each in log["key"].to_list()]
            log = log.with_columns(key=pl.Series(keys, dtype=pl.Binary), received="time")
            now: datetime = log["time"].max()  # type: ignore[assignment]
            yield from _honest(Path(folder), log, read_judgments(files.judgments_test), seed, progress)
            root = Path(folder) / "apart"
            store = _ForgedStore(now, *_targets(root, log), seed)
            before = store.ranks(root)
            for kind, share, addresses in attacks:
                attacked = Path(shutil.copytree(root, Path(folder) / "attacked"))
                nights = [store.night(kind, round(share * len(log)), addresses, query) for query in before]
                _counted(attacked, pl.concat(nights), now)
                after = store.ranks(attacked)
                shutil.rmtree(attacked)
                for query, rank in before.items():
                    yield ForgedNight(seed, (kind, share, addresses), query, rank, after[query])


def _learn(root: Path, progress: Progress) -> None:
    """Trains a ranker on the events of an index, and lets it serve in any case: the shipped one reads no events."""
    with fresh_tables(root, _SETTINGS, progress) as tables:
        added = ranker_from_tables(tables, ClickTrainingOptions(queries=500, epochs=2).from_clicks(), progress).added
    if not added.serves:
        let_serve(root, added)


def _honest(
    folder: Path, log: pl.DataFrame, judgments: Judgments, seed: int, progress: Progress
) -> Iterator[HonestLearning]:
    day = pl.col("time").dt.date().cast(pl.String)
    draw = pl.col("shopper").hash(seed)
    apart = pl.format("{}/{}", "shopper", day)
    carrier = pl.format("carrier-{}/{}", draw // 1_000 % _CARRIERS, day)
    addresses = {
        "none": pl.lit(""),
        "no events": None,
        "apart": apart,
        "carriers": pl.when(draw % 1_000 < 1_000 * _BEHIND).then(carrier).otherwise(apart),
    }
    last: datetime = log["time"].max()  # type: ignore[assignment]
    values: dict[str, NDArray[np.float64]] = {}
    for name, address in addresses.items():
        root = Path(shutil.copytree(folder / "plain", folder / name))
        events = log.clear() if address is None else log.with_columns(address=address)
        refreshed = _counted(root, events, last)
        if len(events):
            _learn(root, progress)
        run = run_stage_of(root, list(judgments.grades))
        values[name] = np.array([ndcg(run[query], grades, judgments) for query, grades in judgments.grades.items()])
        change = paired_bootstrap(values[name], values["none"], seed=7)
        surplus = refreshed.rejected.get(RejectReason.SURPLUS, 0)
        yield HonestLearning(seed, name, surplus, float(values[name].mean()), change)


def show_forged(measured: Sequence[ForgedNight | HonestLearning]) -> None:
    """A table of honest learning by seed, and one of the nights: the mean and the most that a target rises."""
    table = figure_table(["addresses", "surplus events", "nDCG@10", "change", "low", "high"], "honest shoppers")
    for each in measured:
        if isinstance(each, HonestLearning):
            cells = f"{each.surplus:,}", f"{each.ndcg:.4f}", *difference_cells(each.change)
            table.add_row(f"{each.seed} {each.addresses}", *cells)
    show_table(table)
    nights = [each for each in measured if isinstance(each, ForgedNight)]
    columns = ["night", "events", "addresses", "targets", "rises", "most", "rises by popularity", "most"]
    table = figure_table(columns, "places that a target rises")
    for kind, share, addresses in dict.fromkeys(each.attack for each in nights):
        group = [each for each in nights if each.attack == (kind, share, addresses)]
        rises, popular = np.array([np.subtract(each.before, each.after) for each in group]).T
        figures = f"{rises.mean():.1f}", f"{rises.max()}", f"{popular.mean():.0f}", f"{popular.max()}"
        table.add_row(kind, f"{share:.2%}", str(addresses or "not counted"), str(len(group)), *figures)
    show_table(table)


@command("events forged --seeds 1 --addresses 0,1")
def forged(
    seeds: Annotated[str, typer.Option(help="Seeds of the demo stores.")] = "1,2,3",
    addresses: Annotated[str, typer.Option(help="Numbers of addresses; 0: believed.")] = "0,1,10,100",
    kinds: Annotated[str, typer.Option(help="Kinds of nights.")] = ",".join((_FORGED, _TRUE, _ACTS)),
    shares: Annotated[str, typer.Option(help="Shares of the log; a tenth of a day is 0.0024.")] = "0.0024,0.1",
) -> None:
    """Forge events of a night in demo stores and count the places that products rise; measure the honest learning."""
    numbers, parts = map(int, addresses.split(",")), map(float, shares.split(","))
    attacks = list(product(kinds.split(","), parts, numbers))
    with TerminalProgress() as progress:
        measured = list(measure_forged([int(seed) for seed in seeds.split(",")], attacks, progress))
    emit(measured, show_forged)


if __name__ == "__main__":
    run_study(import_log, writes, refresh_tables, forged)
