"""Queries as the ranker is trained on them: each with the candidates that both retrievers propose for it now."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.features import FEATURES
from rerank.training.lists import CandidateLists
from retrieval.errors import EncoderError
from service.candidate_features import candidate_features
from service.popularity import UNKNOWN, Popularity
from service.ranking import Request
from service.snapshot import Snapshot
from service.stages import Stages

DEPTH = 60
"""Candidates of each query."""


def candidate_lists(
    snapshot: Snapshot,
    queries: Sequence[str],
    now: float,
    *,
    depth: int = DEPTH,
    popularity: Popularity = UNKNOWN,
    progress: Callable[[int], None] = lambda _count: None,
) -> CandidateLists:
    """The best `depth` candidates of each query in their merged order, a query without any among them.

    `popularity` is to be of a time before what is learned from, or judged by, happened.

    Raises EncoderError where the queries cannot be encoded: lists that one retriever alone has found teach nothing.
    """
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads, thread_name_prefix="retrieve") as beside, ThreadPoolExecutor(threads) as workers:
        stages = Stages(snapshot, beside)
        found = []
        for each in workers.map(lambda query: _found(snapshot, stages, query, depth, now, popularity), queries):
            found.append(each)
            progress(1)
    return CandidateLists(
        tuple(queries),
        np.cumsum([0, *(len(rows) for rows, _ in found)]),
        np.concatenate([rows for rows, _ in found]) if found else np.empty(0, np.int64),
        np.concatenate([features for _, features in found]) if found else np.empty((0, len(FEATURES)), np.float32),
    )


def _found(
    snapshot: Snapshot, stages: Stages, query: str, depth: int, now: float, popularity: Popularity
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    groups = snapshot.analyzer.groups(query)
    if not groups:
        return np.empty(0, np.int64), np.empty((0, len(FEATURES)), np.float32)
    ranking = stages.rank(Request(query, groups))
    if ranking.degraded:
        raise EncoderError(f"{', '.join(ranking.degraded)} is lost for the query {query[:80]!r}: train once it is back")
    rows = ranking.rows[:depth]
    has_states = np.zeros(len(rows), bool) if snapshot.states is None else snapshot.states.gather(rows).has_any
    return rows, candidate_features(snapshot, ranking, len(rows), has_states, now, popularity)
