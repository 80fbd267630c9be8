"""How long a search takes, from text to page, and how many threads get out of it a second."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.engine import SearchEngine


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one search after the other, by percentile, and searches a second from threads."""

    p50: float
    p90: float
    p99: float
    per_second: float
    stages: dict[str, float]
    """Median milliseconds of each stage."""


def measure_latency(search: Callable[[str], dict[str, float]], queries: Sequence[str], *, threads: int) -> Latency:
    """Times `search`, which returns its stages' milliseconds, over all queries: alone, then from threads.

    The first 50 searches warm up and do not count.
    """
    for query in queries[:50]:
        search(query)
    alone: list[float] = []
    stages: dict[str, list[float]] = {}
    for query in queries:
        started = time.perf_counter()
        for stage, spent in search(query).items():
            stages.setdefault(stage, []).append(spent)
        alone.append((time.perf_counter() - started) * 1_000)
    started = time.perf_counter()
    with ThreadPoolExecutor(max_workers=threads) as executor:
        list(executor.map(search, queries))
    per_second = len(queries) / (time.perf_counter() - started)
    p50, p90, p99 = np.percentile(alone, [50, 90, 99])
    medians = {stage: float(np.median(spent)) for stage, spent in stages.items()}
    return Latency(float(p50), float(p90), float(p99), per_second, medians)


def searcher(engine: SearchEngine, stage: str, *, facets: Sequence[str] = ()) -> Callable[[str], dict[str, float]]:
    """A search of one page at a stage, as `measure_latency` takes it."""

    def search(query: str) -> dict[str, float]:
        return dict(engine.search(query, size=20, stage=stage, facets=facets, rules=False).timings)

    return search


def opening_seconds(index: Path, runs: int = 5) -> tuple[float, float]:
    """The median seconds, each in a process of its own, of `import shelfwise` and of opening an index after that.

    What an import loads on first use counts as opening unless it is loaded before: both are what a user waits for.
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
    """Queries made of two to four neighbouring words of titles, where no real ones are at hand."""
    random = np.random.default_rng(seed)
    products = engine.snapshot.products
    made = []
    for row in random.integers(0, len(products), count):
        words = products[int(row)].title.split()
        length = min(len(words), int(random.integers(2, 5)))
        start = int(random.integers(0, len(words) - length + 1))
        made.append(" ".join(words[start : start + length]))
    return made
