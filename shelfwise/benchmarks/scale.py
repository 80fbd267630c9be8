"""Figures of catalogs by size: build, bytes, memory, recall and speed of each, and a line through them.

Catalogs are drawn from the demo store's grammar. Each is served in a separate process, whose memory is measured. For
sizes at which that takes too long there are catalogs of records (products with only the fields needed to find, filter
and order them), and vectors only, made from pairs of products' texts.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from shelfwise.benchmarks.latency import DEPTH, measure_latency, measure_recall, searcher, title_queries
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.encoders.base import unit_rows
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.html_report import BLUE, svg
from shelfwise.retrieval.index.faiss import FaissIndex, build_index
from shelfwise.retrieval.index.vectors import StoredArray, VectorIndex, Vectors, create_vectors, map_vectors
from shelfwise.retrieval.memory import process_memory
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import atomic_file, atomic_folder, format_json, write_durably
from shelfwise.retrieval.store.manifest import VECTORS_FOLDER
from shelfwise.retrieval.store.products import RECIPE, encoder_text
from shelfwise.service.demo.catalog import make_catalog
from shelfwise.service.engine.engine import SearchEngine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")

RESULTS_FILE = "scale.json"
SHARES = (1.0, 0.5, 0.1, 0.01)
"""The shares of products that pass a filter."""
_RECALL_QUERIES = 100
_BASE_PRODUCTS = 20_000
"""The products of the catalog from which records are drawn, and whose vectors are added in pairs for vectors only."""
_CHUNK = 16_384


class ScalePoint(msgspec.Struct, frozen=True):
    """The figures of one size."""

    kind: str
    """"products", "records" for products with few fields, or "vectors" for vectors only."""
    count: int
    index: str
    """The kind of vector index."""
    build_seconds: dict[str, float]
    """Seconds by phase."""
    build_processor: float
    """Seconds of all cores together, which are more reliable than elapsed time on a busy machine."""
    bytes: dict[str, int]
    """The size on disk by part of the version."""
    opened: int
    """Bytes of memory after opening the index, before the first search; without pages of mapped files."""
    resident: int
    """The most bytes of memory during searches, including the pages of mapped files that they read."""
    recall: dict[str, float]
    """recall@100 against a full scan, by the share that passes a filter."""
    p50: float
    """Milliseconds of a search, run sequentially: merged, or of vectors only."""
    p99: float
    per_second: float
    """Searches a second from several threads."""
    search_processor: float
    """Core milliseconds for one of these searches."""
    load: float
    """The number of processes that shared the machine's cores."""
    made_by: dict[str, str]
    """The program that was measured; another program is measured again."""


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """The sizes to measure, and the means."""

    folder: Path
    """The folder of catalogs, indexes and the figures so far."""
    sizes: Sequence[int]
    """The number of products of each catalog."""
    record_sizes: Sequence[int]
    vector_sizes: Sequence[int]
    encoder: str
    cache: Path
    searches: int = 1_000
    threads: int = 4
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A figure as `base + slope * products`, fitted by least squares to all sizes but the largest."""

    base: float
    slope: float
    predicted: float
    """The predicted value at the largest size."""
    measured: float

    def at(self, products: int) -> float:
        return self.base + self.slope * products


def measure_scale(options: ScaleOptions, progress: Progress) -> list[ScalePoint]:
    """The figures of all sizes, in order; sizes that the folder has for the same program are not measured again.

    Raises what a rebuild raises.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    made_by = {"recipe": RECIPE, "encoder": options.encoder, "cores": str(os.cpu_count())}
    made_by |= {name: version(name) for name in ("shelfwise", "faiss-cpu", "tantivy", "numpy")}
    known = {(each.kind, each.count): each for each in read_points(options.folder) if each.made_by == made_by}
    sizes = {"products": options.sizes, "records": options.record_sizes, "vectors": options.vector_sizes}
    wanted = [(kind, count) for kind, counts in sizes.items() for count in counts]
    for kind, count in wanted:
        if (kind, count) not in known:
            measure = _measure_vectors if kind == "vectors" else partial(_measure_catalog, kind)
            known[kind, count] = msgspec.structs.replace(measure(options, count, progress), made_by=made_by)
            ordered = [known[key] for key in sorted(known)]
            write_durably(options.folder / RESULTS_FILE, format_json(ordered))
    return [known[key] for key in sorted(set(wanted))]


def read_points(folder: Path) -> list[ScalePoint]:
    """The figures in a folder; empty without a file. Raises StoreError for other files."""
    path = folder / RESULTS_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[ScalePoint]) if path.exists() else []
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not a file of `bench scale` ({error}); remove it") from error


def fit(points: Sequence[ScalePoint], figure: Callable[[ScalePoint], float]) -> Line | None:
    """The line of a figure of catalogs; None for fewer than three sizes."""
    if len(points) < 3:
        return None
    *known, last = sorted(points, key=lambda each: each.count)
    slope, base = np.polyfit([each.count for each in known], [figure(each) for each in known], 1)
    return Line(float(base), float(slope), float(base + slope * last.count), figure(last))


def _measure_catalog(kind: str, options: ScaleOptions, count: int, progress: Progress) -> ScalePoint:
    index = options.folder / f"{kind}-{count}"
    feed = index.with_suffix(".jsonl")
    if not feed.exists():
        progress.begin("catalog", count, kind)
        with atomic_file(feed) as file:
            for product in _products(count) if kind == "products" else _records(count):
                file.write(msgspec.json.encode(product) + b"\n")
                progress.advance(1)
        progress.end(f"{count:,} {kind} of the demo grammar")
    # From nothing: the remains of an interrupted run would make it look fast.
    shutil.rmtree(index, ignore_errors=True)
    built = RebuildOptions((str(feed),), options.cache, encoder=options.encoder, workers=options.workers, keep=1)
    before = _processor_seconds()
    report = rebuild(index, built, progress)
    spent = _processor_seconds() - before
    progress.begin("serve", None, "")
    served = _in_process(_serve, index, options.searches, options.threads)
    folder = index / "versions" / report.version
    progress.end(f"{count:,} {kind}, p50 {served.p50:.1f} ms")
    sizes = _bytes(folder)
    return msgspec.structs.replace(served, kind=kind, build_seconds=report.seconds, build_processor=spent, bytes=sizes)


def _products(count: int) -> Iterator[Product]:
    for each in make_catalog(7, count).products:
        yield each.product


def _records(count: int) -> Iterator[Product]:
    """The records of catalogs that are drawn one after the other into memory."""
    for start in range(0, count, _BASE_PRODUCTS):
        for number, each in enumerate(make_catalog(start, _BASE_PRODUCTS).products[: count - start], start):
            yield replace(
                each.product,
                id=f"r{number:09d}",
                description="",
                identifiers={},
                attributes={},
                created=None,
                updated=None,
            )


def _measure_vectors(options: ScaleOptions, count: int, progress: Progress) -> ScalePoint:
    encoder = open_encoder(options.encoder, "auto", options.cache)
    products = [each.product for each in make_catalog(7, min(count, _BASE_PRODUCTS)).products]
    folder = options.folder / f"vectors-{count}-{encoder.identity}"
    if not folder.exists():
        base = encoder.encode_products([encoder_text(each) for each in products])
        progress.begin("vectors", count, "vectors")
        with atomic_folder(folder) as scratch:
            vectors = create_vectors(scratch, count, encoder.dimension)
            for start, made in _sums(base, count):
                vectors[start : start + len(made)] = made
                progress.advance(len(made))
        progress.end(f"{count:,} vectors of pairs of products")
    progress.begin("index", None, "")
    started, before = time.perf_counter(), _processor_seconds()
    kind = build_index(folder)
    seconds, spent = {"index": time.perf_counter() - started}, _processor_seconds() - before
    progress.end(f"{kind} index of {count:,} vectors")
    progress.begin("serve", None, "")
    titles = [each.title.split() for each in products[:: max(1, len(products) // options.searches)]]
    queries = encoder.encode_queries([" ".join(words[:3]) for words in titles])
    served = _in_process(_serve_vectors, folder, queries, options.threads)
    progress.end(f"{count:,} vectors, p50 {served.p50:.1f} ms")
    sizes = _bytes(folder)
    return msgspec.structs.replace(served, build_seconds=seconds, build_processor=spent, bytes=sizes)


def _sums(base: Vectors, count: int, seed: int = 0) -> Iterator[tuple[int, Vectors]]:
    """Unit vectors by their first row; for a static encoder they are those of two concatenated texts."""
    random = np.random.default_rng(seed)
    for start in range(0, count, _CHUNK):
        one, other = random.integers(0, len(base), (2, min(_CHUNK, count - start)))
        weights = random.uniform(0.1, 0.6, (len(one), 1)).astype(np.float32)
        yield start, unit_rows(base[one] + weights * base[other])


def _processor_seconds() -> float:
    """The core seconds of this process and of its ended children."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def _in_process(work: Callable[..., T], *arguments: object) -> T:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(work, *arguments).result()


def _serve(index: Path, searches: int, threads: int) -> ScalePoint:
    with closing(SearchEngine.open(index, follow=False)) as engine:
        opened = process_memory()
        queries = title_queries(engine, searches)
        before = time.process_time()
        found = measure_latency(searcher(engine, "merged"), queries, threads=threads)
        spent = 1_000 * (time.process_time() - before) / (50 + 2 * len(queries))
        resident, load = process_memory("VmRSS"), os.getloadavg()[0]
        manifest, snapshot = engine.manifest, engine.snapshot
        texts = snapshot.encoder.encode_queries(queries[:_RECALL_QUERIES])
        stored = map_vectors(index / "versions" / manifest.version / VECTORS_FOLDER)
        recall = _recall_by_share(snapshot.vectors, stored, texts)
        kind, speed = manifest.vectors, (found.p50, found.p99, found.per_second, spent)
        return ScalePoint("products", manifest.products, kind, {}, 0, {}, opened, resident, recall, *speed, load, {})


def _serve_vectors(folder: Path, queries: Vectors, threads: int) -> ScalePoint:
    index = FaissIndex(folder)
    opened = process_memory()

    def timed(query: Vectors) -> float:
        started = time.perf_counter()
        index.search(query, DEPTH)
        return 1_000 * (time.perf_counter() - started)

    list(map(timed, queries[:50]))
    p50, p99 = np.percentile(list(map(timed, queries)), [50, 99])
    started, before = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(timed, queries))
    rate = len(queries) / (time.perf_counter() - started)
    spent = 1_000 * (time.process_time() - before) / len(queries)
    resident, load = process_memory("VmRSS"), os.getloadavg()[0]
    recall = _recall_by_share(index, map_vectors(folder), queries[:_RECALL_QUERIES])
    kind, speed = index.kind.value, (float(p50), float(p99), rate, spent)
    return ScalePoint("vectors", index.size, kind, {}, 0, {}, opened, resident, recall, *speed, load, {})


def _recall_by_share(index: VectorIndex, stored: StoredArray, queries: Vectors) -> dict[str, float]:
    return {f"{each.share:g}": each.recall for each in measure_recall(index, stored, queries, SHARES)}


def _bytes(folder: Path) -> dict[str, int]:
    parts: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            part = path.relative_to(folder).parts[0]
            parts[part] = parts.get(part, 0) + path.stat().st_size
    return dict(sorted(parts.items(), key=lambda each: -each[1]))


_PLOTS: Mapping[str, tuple[str, Callable[[ScalePoint], Mapping[str, float]]]] = {
    "build": ("seconds", lambda each: {"build": sum(each.build_seconds.values())}),
    "bytes": ("MB on disk", lambda each: {"bytes": sum(each.bytes.values()) / 1e6}),
    "memory": ("MB", lambda each: {"opened": each.opened / 1e6, "while serving": each.resident / 1e6}),
    "recall": (
        "recall@100",
        lambda each: {f"{float(share):.0%} allowed": value for share, value in each.recall.items()},
    ),
    "latency": ("ms", lambda each: {"p50": each.p50, "p99": each.p99}),
    "throughput": ("searches a second", lambda each: {"searches a second": each.per_second}),
}


def write_plots(points: Iterable[ScalePoint], folder: Path) -> list[Path]:
    """Draws each figure against size, catalogs and vectors only separately, into SVG files, whose paths it returns."""
    written = []
    for kind in ("products", "records", "vectors"):
        chosen = [each for each in points if each.kind == kind]
        for name, (unit, values) in _PLOTS.items() if chosen else ():
            path = folder / f"{kind}-{name}.svg"
            path.write_text(svg(2.4, _drawing(chosen, values, kind, unit), f"{name} by number of {kind}"), "utf-8")
            written.append(path)
    return written


def _drawing(
    points: Sequence[ScalePoint], values: Callable[[ScalePoint], Mapping[str, float]], kind: str, unit: str
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        sizes = [each.count for each in points]
        lines = [values(each) for each in points]
        for place, name in enumerate(lines[0]):
            axes.plot(sizes, [line[name] for line in lines], "o-", color=BLUE, alpha=1 - 0.25 * place, label=name)
        axes.set_xscale("log")
        axes.set_yscale("linear" if unit == "recall@100" else "log")
        axes.set_xlabel(kind)
        axes.set_ylabel(unit)
        axes.legend(frameon=False)

    return draw
