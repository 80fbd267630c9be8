"""What the vector index misses: its results against a scan of everything, plain and under filters of any width."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.vectors import Rows, VectorIndex, Vectors

SHARES = (1.0, 0.5, 0.05, 0.005, 0.0001)
DEPTH = 100


@dataclass(frozen=True, slots=True)
class Recall:
    """One width of filter: the share it lets through, recall@100 against exact, and milliseconds of both (median)."""

    share: float
    allowed: int
    recall: float
    milliseconds: float
    exact_milliseconds: float


def measure_recall(index: VectorIndex, vectors: Vectors, queries: Vectors, seed: int = 0) -> Iterator[Recall]:
    """Recall for each of `SHARES`, products being let through at random.

    `vectors` (n, dimension) are those in the index, `queries` (q, dimension) what is asked for.
    """
    random = np.random.default_rng(seed)
    for share in SHARES:
        count = max(1, round(index.size * share))
        allowed = None if share == 1.0 else np.sort(random.choice(index.size, count, replace=False)).astype(np.int64)
        scanned = vectors if allowed is None else vectors[allowed]
        found, spent, exact_spent = [], [], []
        for query in queries:
            started = time.perf_counter()
            rows = index.search(query, DEPTH, allowed).rows
            between = time.perf_counter()
            exact = _exact(scanned, query, allowed)
            spent.append(between - started)
            exact_spent.append(time.perf_counter() - between)
            found.append(len(np.intersect1d(rows, exact)) / len(exact))
        median, exact_median = 1_000 * float(np.median(spent)), 1_000 * float(np.median(exact_spent))
        yield Recall(share, count, float(np.mean(found)), median, exact_median)


def _exact(vectors: Vectors, query: NDArray[np.float32], allowed: Rows | None) -> Rows:
    scores = vectors @ query
    best = np.argpartition(-scores, min(DEPTH, len(scores)) - 1)[:DEPTH]
    return best.astype(np.int64) if allowed is None else allowed[best]
