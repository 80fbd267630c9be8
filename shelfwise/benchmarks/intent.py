"""Intent cases: queries that name a kind of product, and how many of the first hits are of that kind, by stage.

Judgments pooled from one engine count an unjudged product as wrong. A case needs no pool: a pattern says which titles
are of the kind, over the whole catalog.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.retrieval.errors import JudgmentsError
from shelfwise.retrieval.index.keyword import Rows, Selection
from shelfwise.retrieval.judgments import read_table
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import Snapshot, condition_of

HEADER = ("query", "good", "accessory", "filter", "part")
PARTS = ("choose", "report")
"""Cases that may decide a parameter, and cases that only measure."""
DEPTH = 10


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
    chosen = [case for case in _cases(path) if part in ("", case.part)]
    if not chosen:
        raise JudgmentsError(f"{path} has no case{f' of the part {part!r}' if part else ''}")
    return chosen


def _cases(path: Path) -> Iterator[IntentCase]:
    for number, cells in read_table(path, HEADER):
        if len(cells) != len(HEADER) or not cells[0].strip() or not cells[1]:
            raise JudgmentsError(f"{path}, line {number}: expected {', '.join(HEADER)} between tabs")
        query, good, accessory, condition, part = cells
        if part not in PARTS:
            raise JudgmentsError(f"{path}, line {number}: the part is {part!r}, but must be {' or '.join(PARTS)}")
        try:
            patterns = re.compile(good, re.IGNORECASE), re.compile(accessory, re.IGNORECASE) if accessory else None
        except re.error as error:
            raise JudgmentsError(f"{path}, line {number}: not a regular expression: {error}") from error
        yield IntentCase(query, *patterns, condition, part)


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

        def hits(query: str, stage: str = stage) -> list[tuple[str, str]]:
            page = engine.search(query, size=DEPTH, stage=stage)
            return [(hit.product.id, hit.product.title) for hit in page.hits]

        figures[stage] = intent_figures(kinds, hits)
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
    kinds = [(case, good) for case in cases if (good := _good_products(snapshot, case, titles))]
    if not kinds:
        raise JudgmentsError("no case has a product of its kind in this index")
    return kinds


def intent_figures(
    kinds: Sequence[tuple[IntentCase, frozenset[str]]], hits: Callable[[str], Sequence[tuple[str, str]]]
) -> IntentFigures:
    """The figures of a ranking; `hits` returns the ids and titles of the first hits of a query."""
    first = list[float]()
    ten = list[float]()
    accessories = list[float]()
    failures = list[IntentFailure]()
    for case, good in kinds:
        top = hits(case.query)[:DEPTH]
        is_good = [product in good for product, _ in top]
        depth = min(DEPTH, len(good))
        first.append(float(is_good[0]) if is_good else 0.0)
        ten.append(sum(is_good[:depth]) / depth)
        accessories.append(sum(bool(case.accessory and case.accessory.search(title)) for _, title in top) / DEPTH)
        if not first[-1] or ten[-1] < 0.5:
            failures.append(IntentFailure(case.query, ten[-1], [title for _, title in top[:3]]))
    nothing = np.zeros(len(kinds))
    return IntentFigures(
        paired_bootstrap(np.array(first), nothing),
        paired_bootstrap(np.array(ten), nothing),
        float(np.mean(accessories)),
        failures,
    )


def _good_products(snapshot: Snapshot, case: IntentCase, titles: Sequence[str]) -> frozenset[str]:
    rows: Rows = np.array([row for row, title in enumerate(titles) if case.good.search(title)], np.int64)
    if case.condition:
        rows = snapshot.keyword.select(Selection(rows=rows, where=condition_of(snapshot, case.condition)))
    return frozenset(snapshot.products.id_of(row) for row in rows.tolist())
