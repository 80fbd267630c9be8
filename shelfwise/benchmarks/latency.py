"""Latency and throughput of searches, recall of the vector index, speed of the encoder's runtimes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shelfwise.retrieval.encoders.registry import NETWORK_RUNTIMES, TABLE_RUNTIMES, open_encoder
from shelfwise.retrieval.encoders.weights import find_model
from shelfwise.retrieval.index.vectors import CHUNK_ROWS, Rows, StoredArray, VectorIndex, Vectors, whole_floats
from shelfwise.retrieval.text.analysis import Analyzer
from shelfwise.service.engine.candidates import Encodings
from shelfwise.service.engine.engine import SearchEngine


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds per search, run sequentially, by percentile; and searches a second from several threads."""

    p50: float
    p90: float
    p99: float
    per_second: float
    stages: dict[str, float]
    """Median milliseconds of each stage."""


def measure_latency(
    engine: SearchEngine, stage: str, queries: Sequence[str], *, threads: int, facets: Sequence[str] = ()
) -> Latency:
    """Times searches of one page at a stage over all queries: alone, then from threads.

    The first 50 searches warm up and do not count.
    """

    def search(query: str) -> Mapping[str, float]:
        uncached = Encodings()
        return engine.search(query, encodings=uncached, size=20, stage=stage, facets=facets, rules=False).timings

    for query in queries[:50]:
        search(query)
    alone: list[float] = []
    stages: dict[str, list[float]] = {}
    for query in queries:
        started = time.perf_counter()
        for part, spent in search(query).items():
            stages.setdefault(part, []).append(spent)
        alone.append((time.perf_counter() - started) * 1_000)
    started = time.perf_counter()
    with ThreadPoolExecutor(max_workers=threads) as executor:
        list(executor.map(search, queries))
    per_second = len(queries) / (time.perf_counter() - started)
    p50, p90, p99 = np.percentile(alone, [50, 90, 99])
    medians = {part: float(np.median(spent)) for part, spent in stages.items()}
    return Latency(float(p50), float(p90), float(p99), per_second, medians)


def opening_seconds(index: Path, runs: int = 5) -> tuple[float, float]:
    """The median seconds of `import shelfwise`, and of opening an index after that, each in a separate process.

    Modules that are loaded on first use count as opening: a user waits for both.
    """
    program = (
        "import time; a = time.perf_counter(); import shelfwise; b = time.perf_counter()\n"
        "import faiss, onnxruntime, tantivy, tokenizers; c = time.perf_counter()\n"
        f"shelfwise.SearchEngine.open({str(index)!r}); d = time.perf_counter(); print(b - a, d - c)"
    )
    timed = []
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        timed.append([float(number) for number in done.stdout.split()])
    imported, opened = np.median(np.array(timed), axis=0)
    return float(imported), float(opened)


def title_queries(engine: SearchEngine, count: int, seed: int = 0) -> list[str]:
    """Queries made from two to four neighbouring words of titles, if there are no real ones."""
    random = np.random.default_rng(seed)
    products = engine.snapshot.products
    queries = []
    for row in random.integers(0, len(products), count):
        words = products[int(row)].title.split()
        length = min(len(words), int(random.integers(2, 5)))
        start = int(random.integers(0, len(words) - length + 1))
        queries.append(" ".join(words[start : start + length]))
    return queries


# Recall of the vector index: its results compared with a full scan, without filters and with filters of any width.

SHARES = (1.0, 0.5, 0.05, 0.005, 0.0001)
DEPTH = 100


_TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Recall:
    """One width of filter: the share that passes, recall@100 against exact search, and milliseconds of both: the median
    of the index, the mean of scans of several queries together."""

    share: float
    allowed: int
    recall: float
    milliseconds: float
    exact_milliseconds: float


def measure_recall(
    index: VectorIndex, stored: StoredArray, queries: Vectors, shares: Sequence[float] = SHARES, seed: int = 0
) -> Iterator[Recall]:
    """Recall for each of `shares`; random products pass the filter.

    `stored` (n, dimension) are the vectors in the index, `queries` (q, dimension) the query vectors. A product as near
    as the hundredth of the scan counts as found, so that equal products are interchangeable.
    """
    random = np.random.default_rng(seed)
    for share in shares:
        count = max(1, round(index.size * share))
        allowed = None if share == 1.0 else np.sort(random.choice(index.size, count, replace=False)).astype(np.int64)
        started = time.perf_counter()
        hundredth = _hundredth(stored, allowed, queries)
        exact_spent = 1_000 * (time.perf_counter() - started) / len(queries)
        recalls, spent = [], []
        for query, least in zip(queries, hundredth, strict=True):
            started = time.perf_counter()
            scores = index.search(query, DEPTH, allowed).scores
            spent.append(1_000 * (time.perf_counter() - started))
            recalls.append((scores >= least - _TIE).sum() / min(DEPTH, count))
        yield Recall(share, count, float(np.mean(recalls)), float(np.median(spent)), exact_spent)


def _hundredth(stored: StoredArray, rows: Rows | None, queries: Vectors) -> Vectors:
    """The score of the hundredth nearest vector of each query (q,), or of the last one if there are fewer."""
    count = len(stored) if rows is None else len(rows)
    best = np.empty((0, len(queries)), np.float32)
    for start in range(0, count, CHUNK_ROWS):
        part = slice(start, min(start + CHUNK_ROWS, count))
        vectors = whole_floats(stored[part] if rows is None else stored[rows[part]])
        best = np.concatenate([best, vectors @ queries.T])
        if len(best) > DEPTH:
            best = np.partition(best, len(best) - DEPTH, axis=0)[-DEPTH:]
    return np.asarray(best.min(axis=0))


# The speed of text analysis and of all runtimes of the encoder.


@dataclass(frozen=True, slots=True)
class Throughput:
    """One runtime: products a second on all cores, milliseconds of one query, mean cosine with the first runtime."""

    runtime: str
    products_per_second: float
    query_p50: float
    query_p99: float
    cosine: float


def terms_per_second(titles: Sequence[str]) -> float:
    """Titles a second through text analysis in the first pass of a new process, on one core (CPU time)."""
    analyzer = Analyzer()
    started = time.process_time()
    for title in titles:
        analyzer.terms(title)
    return len(titles) / (time.process_time() - started)


def measure_runtimes(model: str, texts: Sequence[str], cache: Path) -> list[Throughput]:
    """Each runtime that can run the model, over the same product texts, in one process."""
    runtimes = TABLE_RUNTIMES if find_model(model, cache).is_table else NETWORK_RUNTIMES
    measured: list[Throughput] = []
    reference = np.empty((0, 0), dtype=np.float32)
    for runtime in runtimes:
        encoder = open_encoder(model, runtime, cache)
        encoder.encode_products(texts[:64])
        started = time.perf_counter()
        vectors = encoder.encode_products(texts)
        rate = len(texts) / (time.perf_counter() - started)
        if not len(reference):
            reference = vectors
        spent = []
        for text in texts[:200]:
            began = time.perf_counter()
            encoder.encode_queries([" ".join(text.split()[:4])])
            spent.append((time.perf_counter() - began) * 1_000)
        p50, p99 = np.percentile(spent, [50, 99])
        cosine = float(np.einsum("ij,ij->i", vectors, reference).mean())
        measured.append(Throughput(runtime, rate, float(p50), float(p99), cosine))
    return measured
