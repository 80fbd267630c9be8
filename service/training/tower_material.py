"""What the towers of an index learn from: opinions from a judgments file or its shoppers, and what it finds itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rerank.towers.material import JudgedQuery, Material, Rows
from rerank.towers.options import Found
from rerank.towers.sources import from_judgments
from retrieval.judgments import read_judgments
from service.snapshot import Snapshot
from service.training.from_catalog import Progress

_CHUNK = 256


def judged_queries(path: Path) -> list[JudgedQuery]:
    """Of a judgments file; raises JudgmentsError for one that cannot be read, TrainingError for one without a
    positive."""
    return from_judgments(read_judgments(path))


def found_by_index(snapshot: Snapshot, made: Material, depth: int, progress: Progress) -> Found:
    """The `depth` best of both retrievers for each query, over the whole catalog.

    Raises EncoderError where queries cannot be encoded, ClusterError where a cluster does not answer.
    """
    progress.begin("retrieving", len(made.queries), "queries")

    def words(query: str) -> Rows:
        groups = snapshot.analyzer.groups(query)
        return snapshot.keyword.search(groups, depth).rows if groups else np.empty(0, np.int64)

    def both(queries: Sequence[str]) -> tuple[list[Rows], list[Rows]]:
        vectors = snapshot.encoder.encode_queries(queries)
        found = [words(query) for query in queries], [snapshot.vectors.search(each, depth).rows for each in vectors]
        progress.advance(len(queries))
        return found

    chunks = [made.queries[start : start + _CHUNK] for start in range(0, len(made.queries), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="retrieve") as threads:
        parts = list(threads.map(both, chunks))
    progress.end(f"the best {depth:,} by words and by vectors")
    return Found([each for part, _ in parts for each in part], [each for _, part in parts for each in part])
