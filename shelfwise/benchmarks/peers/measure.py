"""Measures peers one after the other with the same products, queries, encoder and judgments, on the same cores.

Each peer is built in one process and searched in another. Latency is open-loop: each search is due at its own time and
counts from then, whether or not earlier ones were answered, so that stalls are included (no coordinated omission). A
peer that cannot keep up with the rate is measured at half of its highest throughput; the table has the rate.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from shelfwise.benchmarks.intent import IntentCase, intent_figures, products_of_kinds
from shelfwise.benchmarks.load import closed_load, open_load
from shelfwise.benchmarks.peers.process import NotOfferedError, PeerProcess, opened
from shelfwise.benchmarks.peers.protocol import THREADS, BuildReport, Catalog, Item, OpenReport, PriceRange
from shelfwise.benchmarks.peers.registry import OURS, Mode, Peer
from shelfwise.benchmarks.quality import Run, measure, ndcg
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.errors import SettingError, StoreError
from shelfwise.retrieval.index.vectors import VECTORS_FILE, Vectors, whole_floats
from shelfwise.retrieval.judgments import Judgments, read_judgments
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import format_json, load_array, write_durably
from shelfwise.retrieval.store.manifest import VECTORS_FOLDER
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.analysis import HAN
from shelfwise.service.engine.engine import SearchEngine

DEPTH, PAGE = 100, 20
_WARM_SECONDS = 2.0
_FILTERED_QUERIES, _SHARE = 50, 0.01
_CHANGES, _PATIENCE = 20, 60.0
_TIE = 1e-6
_HAN = re.compile(f"[{HAN}]")
_ZIPF_DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class PeersOptions:
    """Options of the comparison of peers."""

    index: Path
    judgments: Path
    folder: Path
    """The folder of builds and of results so far."""
    peers: Sequence[Peer]
    cache: Path
    cases: Sequence[IntentCase] = ()
    cross_encoder: ModelSource | None = None
    """The cross-encoder; None if no peer uses one."""
    queries: int = 200
    """The number of queries for quality, drawn once for all peers."""
    seconds: float = 10.0
    """The duration of each load."""
    repeats: int = 3
    rate: float = 5.0
    caches: bool = False
    """Whether each peer caches the encodings of queries; nothing else is cached."""
    mix: str = "uniform"
    """The frequencies of queries in loads: "uniform", or "zipf": the n-th has a probability proportional to 1 / n."""
    cores: int = 2
    elasticsearch: str = ""
    again: bool = False
    seed: int = 0


class PeerFigures(msgspec.Struct, frozen=True):
    """The figures of one mode of a peer."""

    peer: str
    label: str
    note: str
    versions: dict[str, str]
    build_seconds: float
    """The time without encoding the products."""
    encode_seconds: float
    """The time to encode all products, if the peer encodes them itself; else it gets their vectors."""
    bytes: int
    open_seconds: float | None
    """Seconds to open; None for a server that was not started again."""
    first_ms: float
    """The time of the process's first search."""
    resident: int
    """Bytes of memory of all the peer's processes while it answers, including pages of mapped files."""
    rate: float
    """Arrivals a second for the percentiles."""
    p50: list[float]
    """Milliseconds, by repeat."""
    p99: list[float]
    per_second: list[float]
    """Responses per second to THREADS clients that wait for each of them, by repeat."""
    core_ms: list[float]
    """Core milliseconds per response, by repeat."""
    measures: dict[str, float]
    ndcg: dict[str, float]
    """nDCG@10 by query."""
    intent: dict[str, float]
    """P@10 by intent case."""
    filtered_recall: float | None
    """recall@100 of vectors under filters that pass 1%; None if there is no such search."""
    filtered_ms: float | None
    freshness: list[float]
    """Milliseconds from a price change to a filtered search that finds it; empty if this is not offered."""
    load: float
    """The number of processes that shared the machine's cores."""


class PeerResult(msgspec.Struct, frozen=True):
    """All rows of a peer, and their inputs: with another catalog or other options, it is measured again."""

    made_by: dict[str, str]
    rows: list[PeerFigures]


class PeersReport(msgspec.Struct, frozen=True):
    """All peers over one catalog."""

    machine: dict[str, str]
    made_by: dict[str, str]
    products: int
    queries: int
    cases: int
    rows: list[PeerFigures]
    failures: dict[str, str]
    """The reason why a peer was not measured, by peer."""


def measure_peers(options: PeersOptions, progress: Progress) -> PeersReport:
    """The figures of all peers, ours first; those in the folder for the same catalog and options are not measured
    again. A peer that cannot be measured is listed in the failures. Raises StoreError if ours cannot be measured."""
    with closing(_Ground(options)) as ground:
        rows: list[PeerFigures] = []
        failures: dict[str, str] = {}
        for peer in options.peers:
            try:
                rows += _result(ground, peer, progress).rows
            except StoreError as error:
                if peer.name == OURS:
                    raise
                failures[peer.name] = str(error)
                progress.end("not measured")
        queries, cases = len(ground.judgments.grades), len(ground.kinds)
        return PeersReport(machine(), ground.made_by, len(ground.items), queries, cases, rows, failures)


def _result(ground: _Ground, peer: Peer, progress: Progress) -> PeerResult:
    """The result in the folder if it is for the same catalog and options, else a new one, which is stored there."""
    path = ground.options.folder / f"{peer.name}.json"
    made_by = {**ground.made_by, "cross_encoder": ground.made_by["cross_encoder"] if peer.reranks else ""}
    known = None if ground.options.again else _read(path)
    if known and known.made_by == made_by:
        return known
    progress.begin(peer.name, None, "")
    made = PeerResult(made_by, list(_PeerMeasurement(ground, peer, progress).rows()))
    write_durably(path, format_json(made))
    progress.end(f"{len(made.rows)} ways to search")
    return made


def _read(path: Path) -> PeerResult | None:
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=PeerResult)
    return None


def read_report(path: Path) -> PeersReport:
    """A report printed by `--json`. Raises SettingError for other files."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PeersReport)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SettingError(f"--compare: {path} is not a report of `bench peers` ({error})") from error


def machine() -> dict[str, str]:
    """The processor, memory, kernel and Python that figures were measured with."""
    described = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    models = (line.partition(":")[2].strip() for line in described if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": next(models, platform.processor()),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "shelfwise": version("shelfwise"),
    }


class _Ground:
    """The inputs that all peers share: the products, vectors and encoder of the index, the queries and the cases."""

    def __init__(self, options: PeersOptions) -> None:
        self.options = options
        store = Store(options.index)
        self._engine = SearchEngine.open(options.index, follow=False)
        manifest = self._engine.manifest
        self.encoder = store.encoders / manifest.encoder
        self._encoder_name = manifest.encoder_name
        self._version = store.version_folder(manifest.version)
        judged = read_judgments(options.judgments)
        random = np.random.default_rng(options.seed)
        self.all_queries = [list(judged.grades)[place] for place in random.permutation(len(judged.grades))]
        chosen = sorted(self.all_queries[: options.queries])
        self.judgments = Judgments({query: judged.grades[query] for query in chosen}, judged.lowest)
        self.kinds = products_of_kinds(self._engine.snapshot, options.cases) if options.cases else []
        names = ("queries", "seconds", "repeats", "rate", "mix", "caches", "cores", "seed")
        self.made_by = {name: str(getattr(options, name)) for name in names}
        self.made_by["cross_encoder"] = options.cross_encoder.name if options.cross_encoder else ""
        self.made_by |= {"catalog": manifest.catalog, "encoder": manifest.encoder}
        grades = options.judgments.read_bytes() + repr([case.query for case in options.cases]).encode()
        self.made_by["judgments"] = xxhash.xxh3_64_hexdigest(grades)

    @cached_property
    def items(self) -> list[Item]:
        """All products; those without a price get a random one, so that filters apply to them."""
        products = self._engine.snapshot.products
        prices = np.random.default_rng(self.options.seed).lognormal(3.5, 1.0, len(products)).round(2).tolist()
        made = []
        for row, drawn in enumerate(prices):
            each = products[row]
            price = float(each.price) if each.price else drawn
            texts = (each.title, each.brand, " > ".join(each.category), each.description)
            made.append(Item(each.id, *texts, price, encoder_text(each)))
        return made

    @cached_property
    def titles(self) -> dict[str, str]:
        return {each.id: each.title for each in self.items}

    @cached_property
    def vectors(self) -> Vectors:
        """(n, dimension), in the order of the products."""
        return whole_floats(load_array(self._version / VECTORS_FOLDER / VECTORS_FILE))

    def catalog(self, folder: Path) -> Catalog:
        """The inputs of a peer that may write to a folder."""
        options = self.options
        return Catalog(
            items=self._shared / "items.jsonl",
            vectors=self._shared / "vectors.npy",
            feed=self._shared / "feed.jsonl",
            folder=folder.absolute(),
            encoder=self.encoder.absolute(),
            encoder_name=self._encoder_name,
            cross_encoder=str(options.cross_encoder.folder.absolute()) if options.cross_encoder else "",
            cache=options.cache,
            elasticsearch=options.elasticsearch,
            cores=options.cores,
            is_chinese=self.is_chinese,
            caches=options.caches,
        )

    @cached_property
    def is_chinese(self) -> bool:
        """Whether most queries have Chinese characters."""
        return 2 * sum(map(bool, map(_HAN.search, self.all_queries))) > len(self.all_queries)

    @cached_property
    def _shared(self) -> Path:
        """The folder of the products and vectors, which are written once per run."""
        folder = self.options.folder.absolute() / "catalog"
        folder.mkdir(parents=True, exist_ok=True)
        products = self._engine.snapshot.products
        with (folder / "items.jsonl").open("wb") as items, (folder / "feed.jsonl").open("wb") as feed:
            for row, each in enumerate(self.items):
                items.write(msgspec.json.encode(each) + b"\n")
                feed.write(msgspec.json.encode(replace(products[row], price=each.price)) + b"\n")
        np.save(folder / "vectors.npy", self.vectors)
        return folder

    def mix(self) -> list[str]:
        """The queries of loads, repeated by frequency."""
        if self.options.mix == "uniform":
            return self.all_queries
        weights = 1 / np.arange(1, len(self.all_queries) + 1)
        random = np.random.default_rng(self.options.seed)
        return [
            self.all_queries[place] for place in random.choice(len(weights), _ZIPF_DRAWS, p=weights / weights.sum())
        ]

    def encode(self, queries: Sequence[str]) -> Vectors:
        """(q, dimension), of unit length."""
        return self._engine.snapshot.encoder.encode_queries(queries)

    def close(self) -> None:
        self._engine.close()


@dataclass(slots=True)
class _PeerMeasurement:
    """The measurement of one peer."""

    ground: _Ground
    peer: Peer
    progress: Progress
    process: PeerProcess = field(init=False)

    def rows(self) -> Iterator[PeerFigures]:
        """A row for each mode."""
        folder = self.ground.options.folder / "peers" / self.peer.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        log = self.ground.options.folder / f"{self.peer.name}.log"
        with opened(self.peer.spec, self.ground.catalog(folder), log) as (process, built, opening):
            self.process = process
            self._say(f"built in {built.seconds:.1f} s")
            rows = [self._row(mode, built, opening) for mode in self.peer.modes]
            recall, spent = self._filtered() if self.peer.vectors else (None, None)
            changes = self._freshness() if self.peer.filters else []
            for row in rows:
                yield msgspec.structs.replace(row, filtered_recall=recall, filtered_ms=spent, freshness=changes)

    def _say(self, summary: str) -> None:
        self.progress.end(summary)
        self.progress.begin(self.peer.name, None, "")

    def _row(self, mode: Mode, built: BuildReport, opening: OpenReport) -> PeerFigures:
        queries = self.ground.mix()
        first = self._milliseconds(lambda: self._ids(mode.name, queries[0], PAGE))
        run = self._run(mode.name)
        judgments = self.ground.judgments
        gained = {query: ndcg(run[query], judged, judgments) for query, judged in judgments.grades.items()}
        self._say(f"{mode.name}: nDCG@10 {np.mean(list(gained.values())):.4f}")
        loads = asyncio.run(self._loads(mode.name, queries))
        self._say(f"{mode.name}: {np.median(loads.per_second):.1f} searches a second")
        return PeerFigures(
            peer=self.peer.name,
            label=mode.label,
            note=(self.ground.is_chinese and mode.note_on_chinese) or mode.note,
            versions=built.versions,
            build_seconds=built.seconds,
            encode_seconds=built.encode_seconds,
            bytes=built.bytes,
            open_seconds=opening.seconds if built.is_reopened else None,
            first_ms=first,
            resident=self.process.resident(),
            rate=loads.rate,
            p50=loads.p50,
            p99=loads.p99,
            per_second=loads.per_second,
            core_ms=loads.core_ms,
            measures=measure(run, judgments),
            ndcg=gained,
            intent=self._intent(mode.name),
            filtered_recall=None,
            filtered_ms=None,
            freshness=[],
            load=os.getloadavg()[0],
        )

    def _ids(self, mode: str, query: str, k: int, prices: PriceRange | None = None) -> list[str]:
        return self.process.search(mode, query, k, prices).result()

    def _run(self, mode: str) -> Run:
        pending = {query: self.process.search(mode, query, DEPTH) for query in self.ground.judgments.grades}
        return {query: found.result() for query, found in pending.items()}

    def _intent(self, mode: str) -> dict[str, float]:
        def hits(query: str) -> list[tuple[str, str]]:
            return [(product, self.ground.titles[product]) for product in self._ids(mode, query, PAGE)]

        return dict(intent_figures(self.ground.kinds, hits).precisions) if self.ground.kinds else {}

    async def _loads(self, mode: str, queries: Sequence[str]) -> _Loads:
        options, count = self.ground.options, 0

        async def ask(query: str) -> str:
            nonlocal count
            await asyncio.wrap_future(self.process.search(mode, query, PAGE))
            count += 1
            return "200"

        capacity = await closed_load(ask, queries, _WARM_SECONDS, THREADS)
        loads = _Loads(min(options.rate, capacity / 2))
        for number in range(options.repeats):
            count, before = 0, self.process.processor_seconds()
            loads.per_second.append(await closed_load(ask, queries[number:], options.seconds, THREADS))
            loads.core_ms.append(1_000 * (self.process.processor_seconds() - before) / count)
            if not number:
                loads.rate = min(options.rate, loads.per_second[0] / 2)
            found = await open_load(ask, mode, queries, loads.rate, options.seconds, seed=number)
            loads.p50.append(found.p50)
            loads.p99.append(found.p99)
        return loads

    def _filtered(self) -> tuple[float, float]:
        """recall@100 of the vectors' mode under price ranges of 1% of the products, and the median milliseconds."""
        prices = np.array([each.price for each in self.ground.items])
        ordered, width = np.sort(prices), max(1, round(_SHARE * len(prices)))
        row_of = {each.id: row for row, each in enumerate(self.ground.items)}
        queries = self.ground.all_queries[:_FILTERED_QUERIES]
        starts = np.random.default_rng(0).integers(0, len(prices) - width + 1, len(queries))
        found, spent = [], []
        for query, vector, start in zip(queries, self.ground.encode(queries), starts, strict=True):
            allowed = PriceRange(float(ordered[start]), float(ordered[start + width - 1]))
            rows = np.flatnonzero((prices >= allowed.low) & (prices <= allowed.high))
            scores = np.sort(self.ground.vectors[rows] @ vector)[::-1][:DEPTH]
            began = time.perf_counter()
            ids = self._ids(self.peer.vectors, query, DEPTH, allowed)
            spent.append(1_000 * (time.perf_counter() - began))
            reached = self.ground.vectors[[row_of[each] for each in ids]] @ vector
            found.append(float((reached >= scores[-1] - _TIE).sum()) / len(scores))
        return float(np.mean(found)), float(np.median(spent))

    def _freshness(self) -> list[float]:
        """Milliseconds of successive changes until a search filtered by the new price finds the product."""
        random, spent = np.random.default_rng(1), []
        mode = self.peer.modes[0].name
        for number, row in enumerate(random.choice(len(self.ground.items), _CHANGES, replace=False).tolist()):
            item, price = self.ground.items[row], 10_000 + number + 0.25
            began = time.perf_counter()
            try:
                self.process.call("change_price", product=item.id, price=price).result()
            except NotOfferedError:
                return []
            while item.id not in self._ids(mode, item.title, PAGE, PriceRange(price, price)):
                if time.perf_counter() - began > _PATIENCE:
                    raise StoreError(f"{self.peer.name}: {item.id} is not found by its new price in {_PATIENCE:.0f} s")
                time.sleep(0.001)
            spent.append(1_000 * (time.perf_counter() - began))
        return spent

    @staticmethod
    def _milliseconds(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return 1_000 * (time.perf_counter() - began)


@dataclass(slots=True)
class _Loads:
    rate: float
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    core_ms: list[float] = field(default_factory=list)


def versions_of(rows: Sequence[PeerFigures]) -> Mapping[str, str]:
    """The versions of all packages and servers that were measured."""
    return {name: number for row in rows for name, number in row.versions.items() if name != "shelfwise"}
