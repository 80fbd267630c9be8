"""Quality of an engine's ranking over judged queries, by stage."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shelfwise.rerank.evaluation.metrics import ranked_ndcg
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.index.fusion import DEFAULT
from shelfwise.retrieval.judgments import Judgments
from shelfwise.service.engine.engine import SearchEngine

# Runs an engine over judged queries, stage by stage, and measures the results.

DEPTH = 100
TOLERANCE = 1e-4
"""The largest difference in nDCG@10 that counts as none."""


def run_stage(
    engine: SearchEngine,
    queries: Sequence[str],
    stage: str,
    *,
    merge: str = DEFAULT,
    tie_break: str = "",
    advance: Callable[[int], None] = lambda _: None,
) -> Run:
    """The `DEPTH` best product ids of each query; all cores search."""

    def one(query: str) -> list[str]:
        page = engine.search(
            query, size=DEPTH, stage=stage, merge=merge, tie_break=tie_break, correct=False, rules=False
        )
        advance(1)
        return [hit.product.id for hit in page.hits]

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return dict(zip(queries, threads.map(one, queries), strict=True))


def write_run(run: Run, path: Path, tag: str) -> None:
    """Writes a run in TREC's format: query number, Q0, product id, rank, score, tag.

    A query's number is its place among the judgments' distinct queries, from 1. White space inside an id, which the
    format does not allow, becomes an underscore. Raises SettingError if the file cannot be written.
    """
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise SettingError(f"run file {path}: cannot be written ({error.strerror}); use another place") from error
    with file:
        for number, ranked in enumerate(run.values(), 1):
            for rank, product in enumerate(ranked, 1):
                file.write(f"{number} Q0 {'_'.join(product.split())} {rank} {DEPTH + 1 - rank} shelfwise-{tag}\n")


def read_run(path: Path, judgments: Judgments) -> Run:
    """A run written by `write_run` for the queries of these judgments; raises SettingError for other files."""
    queries = list(judgments.grades)
    run: dict[str, list[str]] = {query: [] for query in queries}
    products = {"_".join(product.split()): product for judged in judgments.grades.values() for product in judged}
    try:
        for line in path.read_text("utf-8").splitlines():
            number, _, product, _, _, _ = line.split()
            run[queries[int(number) - 1]].append(products.get(product, product))
    except (OSError, ValueError, IndexError) as error:
        raise SettingError(f"run file {path}: is not a run of these {len(queries):,} queries ({error})") from error
    return run


@dataclass(frozen=True, slots=True)
class RunChange:
    """The difference between two runs of the same queries."""

    ndcg: Difference
    """The difference in nDCG@10."""
    higher: int
    """The number of queries with a higher nDCG@10."""
    lower: int


def compare_runs(run: Run, other: Run, judgments: Judgments) -> RunChange:
    """The change from another run."""
    first, second = (
        np.array([ndcg(each.get(query, ()), judged, judgments) for query, judged in judgments.grades.items()])
        for each in (run, other)
    )
    higher, lower = first > second + TOLERANCE, first < second - TOLERANCE
    return RunChange(paired_bootstrap(first, second), int(higher.sum()), int(lower.sum()))


# The measures of a ranking.

Run = Mapping[str, Sequence[str]]
"""Product ids by query, best first."""


def ndcg(ranked: Sequence[str], judged: Mapping[str, float], judgments: Judgments, depth: int = 10) -> float:
    """Normalised discounted cumulated gain of one query (Järvelin & Kekäläinen 2002, section 3).

    The gain is 2^(grade - lowest) - 1 (Burges et al. 2005, section 6), also between integer grades; unjudged products
    gain 0. A query without any possible gain counts as 0.
    """
    gains = [judgments.gain(judged[product]) if product in judged else 0.0 for product in ranked[:depth]]
    return ranked_ndcg(gains, map(judgments.gain, judged.values()), depth)


def measure(run: Run, judgments: Judgments) -> dict[str, float]:
    """The mean over all judged queries of each measure.

    `R@100` is computed on the products of a query's top grade, over the queries with one above the file's lowest grade:
    if nothing is relevant, nothing can be missed. The others are means over all queries, in which products graded above
    the lowest are relevant.
    """
    gained = []
    reciprocal = []
    precise = []
    recalled = []
    top_recalled = []
    for query, judged in judgments.grades.items():
        ranked = run.get(query, ())
        best = max(judged.values())
        gained.append(ndcg(ranked, judged, judgments))
        relevant = {product for product, grade in judged.items() if grade > judgments.lowest}
        first = next((rank for rank, product in enumerate(ranked, 1) if product in relevant), math.inf)
        hits = len(relevant.intersection(ranked[:10]))
        reciprocal.append(1 / first)
        precise.append(hits / 10)
        recalled.append(hits / max(len(relevant), 1))
        if relevant:
            top = {product for product, grade in judged.items() if grade == best}
            top_recalled.append(len(top.intersection(ranked[:100])) / len(top))
    precision, recall = _mean(precise), _mean(recalled)
    return {
        "nDCG@10": _mean(gained),
        "R@100": _mean(top_recalled),
        "MRR": _mean(reciprocal),
        "P@10": precision,
        "R@10": recall,
        "F1@10": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / max(len(values), 1)
