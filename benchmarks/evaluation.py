"""Runs an engine over judged queries, stage by stage, and measures what comes out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measures import Run, measure
from retrieval.errors import SettingError
from retrieval.judgments import Judgments
from retrieval.merging import DEFAULT
from service.engine import SearchEngine

DEPTH = 100


def run_stage(
    engine: SearchEngine,
    queries: Sequence[str],
    stage: str,
    *,
    merge: str = DEFAULT,
    advance: Callable[[int], None] = lambda _: None,
) -> Run:
    """The `DEPTH` best product ids of each query; all cores search."""

    def one(query: str) -> list[str]:
        page = engine.search(query, size=DEPTH, stage=stage, merge=merge, correct=False, rules=False)
        advance(1)
        return [hit.product.id for hit in page.hits]

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return dict(zip(queries, threads.map(one, queries), strict=True))


def evaluate_stages(runs: Mapping[str, Run], judgments: Judgments) -> dict[str, dict[str, float]]:
    """Stage to its measures."""
    return {stage: measure(run, judgments) for stage, run in runs.items()}


def write_run(run: Run, path: Path, tag: str) -> None:
    """Writes a run in TREC's format: query number, Q0, product id, rank, score, tag.

    A query's number is its place among the judgments' distinct queries, from 1. White space inside an id, which the
    format cannot hold, becomes an underscore. Raises SettingError when the file cannot be written.
    """
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise SettingError(f"run file {path}: cannot be written ({error.strerror}); name another place") from error
    with file:
        for number, ranked in enumerate(run.values(), 1):
            for rank, product in enumerate(ranked, 1):
                file.write(f"{number} Q0 {'_'.join(product.split())} {rank} {DEPTH + 1 - rank} shelfwise-{tag}\n")
