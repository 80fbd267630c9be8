"""What a version finds for queries that something is judged on: the best of one stage, over the whole catalog."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from service.ranking import Request
from service.snapshot import Snapshot
from service.stages import LastStage, Stages


def best_products(
    snapshot: Snapshot,
    queries: Sequence[str],
    stage: str,
    depth: int,
    advance: Callable[[int], None] = lambda _: None,
    last: LastStage | None = None,
) -> dict[str, list[str]]:
    """The ids of the `depth` best by query; all cores search. `last` is the ranker of the stage "ranked"."""
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as beside, ThreadPoolExecutor(threads) as workers:
        stages = Stages(snapshot, beside, last)

        def one(query: str) -> list[str]:
            rows = stages.rank(Request(query, snapshot.analyzer.groups(query), stage=stage)).rows[:depth]
            advance(1)
            return [snapshot.products.id_of(row) for row in rows.tolist()]

        return dict(zip(queries, workers.map(one, queries), strict=True))
