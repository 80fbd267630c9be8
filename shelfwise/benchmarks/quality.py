"""Quality of an engine's ranking by stage: over judged queries, and over intent cases, which name a kind of product.

Judgments pooled from one engine count an unjudged product as wrong. A case needs no pool: a pattern says which titles
are of the kind, over the whole catalog.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shelfwise.rerank.evaluation.metrics import ranked_ndcg
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.retrieval.errors import JudgmentsError, SettingError
from shelfwise.retrieval.index.fusion import DEFAULT
from shelfwise.retrieval.index.keyword import Rows, Selection
from shelfwise.retrieval.judgments import Judgments, read_table
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import Snapshot, condition_of

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


# Intent cases.

HEADER = ("query", "good", "accessory", "filter", "part")
PARTS = ("choose", "report")
"""Cases that may decide a parameter, and cases that only measure."""
_FIRST = 10


@dataclass(frozen=True, slots=True)
class IntentCase:
    """A query, and the titles of the kind that it asks for."""

    query: str
    good: re.Pattern[str]
    accessory: re.Pattern[str] | None
    """Titles of accessories of the kind, if the case has them."""
    condition: str
    """A filter that good products must also pass; empty for none."""
    part: str


@dataclass(frozen=True, slots=True)
class IntentFigures:
    """The figures of one stage over n cases; intervals are bootstraps over cases."""

    first: Difference
    """P@1: the share of first hits that are of the kind."""
    ten: Difference
    """P at min(10, the number of products of the kind)."""
    accessories: float
    """The share of the first ten hits that are accessories."""
    failures: Sequence[IntentFailure]
    """Cases whose first hit is not of the kind, or with fewer than half of the first ten of it."""


@dataclass(frozen=True, slots=True)
class IntentFailure:
    """A case that failed, with the first titles that were shown."""

    query: str
    precision: float
    titles: Sequence[str]


@dataclass(frozen=True, slots=True)
class AbsentFigures:
    """The responses of a store to queries for kinds that it does not sell."""

    cases: int
    with_hits: int
    unsaid: int
    """Queries with hits and without a notice that these are only the nearest."""


def read_intent_cases(path: Path, part: str = "") -> list[IntentCase]:
    """Reads intent cases, tab-separated with the header query, good, accessory, filter, part; `part` selects one part.

    `good` and `accessory` are regular expressions that are searched in titles, ignoring case. Raises JudgmentsError
    with the line of a malformed case, or if there are no cases.
    """
    cases: list[IntentCase] = []
    for number, cells in read_table(path, HEADER):
        if len(cells) != len(HEADER) or not cells[0].strip() or not cells[1]:
            raise JudgmentsError(f"{path}, line {number}: expected {', '.join(HEADER)} between tabs")
        query, good, accessory, condition, own_part = cells
        if own_part not in PARTS:
            raise JudgmentsError(f"{path}, line {number}: the part is {own_part!r}, but must be {' or '.join(PARTS)}")
        try:
            patterns = re.compile(good, re.IGNORECASE), re.compile(accessory, re.IGNORECASE) if accessory else None
        except re.error as error:
            raise JudgmentsError(f"{path}, line {number}: not a regular expression: {error}") from error
        if part in ("", own_part):
            cases.append(IntentCase(query, *patterns, condition, own_part))
    if not cases:
        raise JudgmentsError(f"{path} has no case{f' of the part {part!r}' if part else ''}")
    return cases


def measure_intent(
    engine: SearchEngine,
    cases: Sequence[IntentCase],
    stages: Sequence[str],
    advance: Callable[[int], None] = lambda _count: None,
) -> tuple[Mapping[str, IntentFigures], int]:
    """Figures by stage, and the number of cases that count: those with a product of the kind in the catalog.

    Raises FilterError for a condition that does not match the catalog.
    """
    figures = {}
    kinds = products_of_kinds(engine.snapshot, cases)
    for stage in stages:
        figures[stage] = _intent_figures(engine, kinds, stage)
        advance(len(cases) // len(stages))
    return figures, len(kinds)


def measure_absent(engine: SearchEngine, cases: Sequence[IntentCase]) -> AbsentFigures:
    """Figures of the cases without a product of their kind in the catalog, by the whole search."""
    present = {case.query for case, _ in products_of_kinds(engine.snapshot, cases)}
    pages = [engine.search(case.query, size=1) for case in cases if case.query not in present]
    non_empty = [page for page in pages if page.total]
    return AbsentFigures(len(pages), len(non_empty), sum(not page.doubtful for page in non_empty))


def products_of_kinds(snapshot: Snapshot, cases: Sequence[IntentCase]) -> list[tuple[IntentCase, frozenset[str]]]:
    """The cases with products of their kind in the catalog, each with their ids. Raises JudgmentsError if no case has
    any, FilterError for a condition that does not match the catalog."""
    titles = [snapshot.products[row].title for row in range(len(snapshot.products))]
    kinds = []
    for case in cases:
        rows: Rows = np.array([row for row, title in enumerate(titles) if case.good.search(title)], np.int64)
        if case.condition:
            rows = snapshot.keyword.select(Selection(rows=rows, where=condition_of(snapshot, case.condition)))
        if len(rows):
            kinds.append((case, frozenset(snapshot.products.id_of(row) for row in rows.tolist())))
    if not kinds:
        raise JudgmentsError("no case has a product of its kind in this index")
    return kinds


def _intent_figures(
    engine: SearchEngine, kinds: Sequence[tuple[IntentCase, frozenset[str]]], stage: str
) -> IntentFigures:
    first = list[float]()
    ten = list[float]()
    accessories = list[float]()
    failures = list[IntentFailure]()
    for case, good in kinds:
        top = [hit.product for hit in engine.search(case.query, size=_FIRST, stage=stage).hits]
        is_good = [product.id in good for product in top]
        depth = min(_FIRST, len(good))
        first.append(float(is_good[0]) if is_good else 0.0)
        ten.append(sum(is_good[:depth]) / depth)
        accessories.append(sum(bool(case.accessory and case.accessory.search(each.title)) for each in top) / _FIRST)
        if not first[-1] or ten[-1] < 0.5:
            failures.append(IntentFailure(case.query, ten[-1], [each.title for each in top[:3]]))
    nothing = np.zeros(len(kinds))
    return IntentFigures(
        paired_bootstrap(np.array(first), nothing),
        paired_bootstrap(np.array(ten), nothing),
        float(np.mean(accessories)),
        failures,
    )
