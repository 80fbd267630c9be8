"""Comparison of backends over one index: time to fill, size, speed, and whether their results agree."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shelfwise.benchmarks.latency import Latency, measure_latency, measure_recall, searcher
from shelfwise.benchmarks.quality import Parity, compare, varied_requests
from shelfwise.indexer.targets import move
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.index.keyword_documents import LINES_FILE, read_lines
from shelfwise.retrieval.index.tantivy import TantivyBuilder
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import file_bytes, load_array
from shelfwise.retrieval.store.manifest import FIELDS_FILE, KEYWORD_FOLDER, VECTORS_FOLDER, read_fields
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.candidates import Encodings
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import Settings

FACETS = ("brand", "category", "price")
_RECALL_QUERIES = 200
_PARITY_QUERIES = 150


@dataclass(frozen=True, slots=True)
class BackendFigures:
    """The figures of one backend."""

    backend: str
    fill_seconds: float
    """The time to make the indexes of the version's terms, and of its vectors if they are in the cluster; it includes
    no reading, analysis or encoding."""
    products_per_second: float
    bytes: int
    """The size of those indexes."""
    latency: Latency
    """The latency of merged searches with `FACETS`."""
    round_trips: float
    """The mean number of round trips to the cluster per search."""
    most_round_trips: int
    recall: float
    """Recall@100 of the vector index against a scan of everything."""
    parity: Parity | None = None
    """Parity with the embedded backend."""


@dataclass(frozen=True, slots=True)
class BackendsReport:
    """All backends over one catalog."""

    products: int
    searches: int
    threads: int
    backends: list[BackendFigures] = field(default_factory=list)


def measure_backends(
    index: Path, folder: Path, settings: Settings, queries: Sequence[str], threads: int, progress: Progress
) -> BackendsReport:
    """Measures the embedded index at `index`, then copies of it in `folder` whose words, and then vectors too, are in
    the cluster; everything that is created there is removed at the end.

    Raises SettingError for an index that is itself in a cluster.
    """
    with SearchEngine.open(index, follow=False) as embedded:
        if embedded.manifest.cluster:
            raise SettingError(f"{index} is in a cluster; use an embedded index, which is copied there")
        report = BackendsReport(embedded.manifest.products, len(queries), threads)
        report.backends.append(_embedded(index, folder, embedded, queries, threads))
        for vectors in (False, True):
            copied = Path(shutil.copytree(index, folder / f"vectors-{vectors}"))
            report.backends.append(_clustered(copied, settings, embedded, queries, threads, progress, vectors=vectors))
    return report


def _embedded(index: Path, folder: Path, engine: SearchEngine, queries: Sequence[str], threads: int) -> BackendFigures:
    version = index / "versions" / engine.manifest.version
    started = time.perf_counter()
    builder = TantivyBuilder(folder / "keyword", read_fields(version / FIELDS_FILE))
    for row, line in enumerate(read_lines(version / KEYWORD_FOLDER)):
        builder.add_line(row, line)
    builder.finish()
    seconds = time.perf_counter() - started
    size = file_bytes(path for path in (folder / "keyword").iterdir() if path.name != LINES_FILE)
    latency = measure_latency(searcher(engine, "merged", facets=FACETS), queries, threads=threads)
    products = engine.manifest.products
    return BackendFigures("embedded", seconds, products / seconds, size, latency, 0.0, 0, _recall(engine, version))


def _clustered(
    copied: Path,
    settings: Settings,
    embedded: SearchEngine,
    queries: Sequence[str],
    threads: int,
    progress: Progress,
    *,
    vectors: bool,
) -> BackendFigures:
    # Of the extra elasticsearch.
    from shelfwise.retrieval.elasticsearch.client import Cluster
    from shelfwise.retrieval.elasticsearch.versions import index_names

    timed = _Timed(progress)
    move(copied, settings.cluster, timed, vectors=vectors)
    store = Store(copied)
    manifest = store.manifest(store.current())
    with ExitStack() as undo:
        cluster = undo.enter_context(closing(Cluster(settings.cluster)))
        undo.callback(cluster.delete, index_names(manifest))
        engine = undo.enter_context(SearchEngine.open(copied, settings=settings, follow=False))
        latency = measure_latency(searcher(engine, "merged", facets=FACETS), queries, threads=threads)
        mean, most = _round_trips(engine, queries[:_RECALL_QUERIES])
        found = compare(embedded, engine, varied_requests(list(dict.fromkeys(queries))[:_PARITY_QUERIES], embedded))
        return BackendFigures(
            "elasticsearch, vectors too" if vectors else "elasticsearch",
            timed.seconds["load"],
            manifest.products / timed.seconds["load"],
            sum(cluster.bytes(name) for name in index_names(manifest)),
            latency,
            mean,
            most,
            _recall(engine, store.version_folder(manifest.version)),
            found,
        )


def _round_trips(engine: SearchEngine, queries: Sequence[str]) -> tuple[float, int]:
    """The round trips of one search with facets: mean and maximum."""
    trips = []
    for text in queries:
        earlier = engine.round_trips
        engine.search(text, encodings=Encodings(), facets=FACETS, rules=False)
        trips.append(engine.round_trips - earlier)
    return float(np.mean(trips)), max(trips)


def _recall(engine: SearchEngine, version: Path) -> float:
    snapshot = engine.snapshot
    random = np.random.default_rng(0)
    rows = random.choice(len(snapshot.products), min(_RECALL_QUERIES, len(snapshot.products)), replace=False)
    texts = [" ".join(snapshot.products[int(row)].title.split()[:4]) for row in rows]
    exact = load_array(version / VECTORS_FOLDER / VECTORS_FILE)
    return next(iter(measure_recall(snapshot.vectors, exact, snapshot.encoder.encode_queries(texts)))).recall


class _Timed:
    """A progress that also records the seconds of each phase."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._phase, self._began = "", 0.0

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        self._progress.begin(phase, total, unit)
        self._phase, self._began = phase, time.perf_counter()

    def advance(self, amount: int) -> None:
        self._progress.advance(amount)

    def end(self, summary: str) -> None:
        self.seconds[self._phase] = time.perf_counter() - self._began
        self._progress.end(summary)
