"""Quality of an engine's ranking over judged queries, by stage, and the parity of two backends."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
from ir_measures import RR, P, Qrel, R, ScoredDoc

from rerank.evaluation.metrics import ranked_ndcg
from rerank.evaluation.statistics import Difference, paired_bootstrap
from retrieval.errors import SettingError
from retrieval.index.fusion import DEFAULT
from retrieval.judgments import Judgments
from retrieval.records import Page
from service.engine.engine import SearchEngine
from service.engine.request import SearchOptions, SearchRequest

# Runs an engine over judged queries, stage by stage, and measures what comes out.

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


def read_run(path: Path, judgments: Judgments) -> Run:
    """A run that `write_run` wrote for the queries of these judgments; raises SettingError for a file that is none."""
    queries = list(judgments.grades)
    run: dict[str, list[str]] = {query: [] for query in queries}
    known = {"_".join(product.split()): product for judged in judgments.grades.values() for product in judged}
    try:
        for line in path.read_text("utf-8").splitlines():
            number, _, product, _, _, _ = line.split()
            run[queries[int(number) - 1]].append(known.get(product, product))
    except (OSError, ValueError, IndexError) as error:
        raise SettingError(f"run file {path}: is no run of these {len(queries):,} queries ({error})") from error
    return run


@dataclass(frozen=True, slots=True)
class RunChange:
    """How much better a run is than another one of the same queries."""

    ndcg: Difference
    """Of nDCG@10."""
    higher: int
    """Queries with a higher nDCG@10."""
    lower: int


def compare_runs(run: Run, other: Run, judgments: Judgments) -> RunChange:
    """The change from another run."""
    first, second = (
        np.array([ndcg(each.get(query, ()), judged, judgments) for query, judged in judgments.grades.items()])
        for each in (run, other)
    )
    higher, lower = first > second + TOLERANCE, first < second - TOLERANCE
    return RunChange(paired_bootstrap(first, second), int(higher.sum()), int(lower.sum()))


# The measures of a ranking. All but nDCG come from ir-measures, whose providers take whole grades only.

Run = Mapping[str, Sequence[str]]
"""Query to product ids, best first."""
Relevance = Callable[[float, float], bool]
"""By the best grade of a query and that of a product."""


def ndcg(ranked: Sequence[str], judged: Mapping[str, float], judgments: Judgments, depth: int = 10) -> float:
    """Normalised discounted cumulated gain of one query (Järvelin & Kekäläinen 2002, section 3).

    The gain is 2^(grade - lowest) - 1 (Burges et al. 2005, section 6), also between whole grades; what is not judged
    gains 0. A query without any gain to be had counts as 0.
    """
    found = [judgments.gain(judged[product]) if product in judged else 0.0 for product in ranked[:depth]]
    return ranked_ndcg(found, map(judgments.gain, judged.values()), depth)


def measure(run: Run, judgments: Judgments) -> dict[str, float]:
    """The mean over all judged queries of each measure.

    `R@100` is about the products of a query's top grade, over the queries that have one above the file's lowest: where
    nothing is relevant, nothing can be missed. The others are means over all queries, and count what is graded above
    the lowest.
    """
    names = {query: str(place) for place, query in enumerate(judgments.grades, 1)}
    documents = [
        ScoredDoc(names[query], product, -float(place))
        for query, ranked in run.items()
        for place, product in enumerate(ranked)
    ]
    relevant = list(_qrels(judgments.grades, names, lambda _, grade: grade > judgments.lowest))
    findable = {query: judged for query, judged in judgments.grades.items() if max(judged.values()) > judgments.lowest}
    top = list(_qrels(findable, names, lambda best, grade: grade == best))
    rates = ir_measures.calc_aggregate([RR, P @ 10, R @ 10], relevant, documents)
    recall = ir_measures.calc_aggregate([R @ 100], top, documents)
    gained = [ndcg(run.get(query, ()), judged, judgments) for query, judged in judgments.grades.items()]
    precision, found = float(rates[P @ 10]), float(rates[R @ 10])
    return {
        "nDCG@10": math.fsum(gained) / len(gained),
        "R@100": float(recall[R @ 100]) if findable else 0.0,
        "MRR": float(rates[RR]),
        "P@10": precision,
        "R@10": found,
        "F1@10": 2 * precision * found / (precision + found) if precision + found else 0.0,
    }


def _qrels(
    grades: Mapping[str, Mapping[str, float]], names: Mapping[str, str], is_relevant: Relevance
) -> Iterator[Qrel]:
    for query, judged in grades.items():
        best = max(judged.values())
        for product, grade in judged.items():
            yield Qrel(names[query], product, int(is_relevant(best, grade)))


# Whether two engines over one catalog answer alike: the same hits in the same order, totals and facet counts.

TOLERANCE = 1e-4
"""How far two scores of one hit may be apart."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison found."""

    searches: int
    hits: int
    largest: float
    """The largest difference of two scores of one hit."""
    swapped: tuple[str, ...]
    """A line for each search in which hits changed places whose scores are as good as equal: each backend adds words
    up in single precision in its own order, and two sums of the same may fall on two sides of a step."""
    differing: tuple[str, ...]
    """A line for each search that the two answer differently in any other way."""


def compare(
    one: SearchEngine,
    other: SearchEngine,
    searches: Iterable[SearchRequest],
    advance: Callable[[int], None] = lambda _: None,
) -> Parity:
    """Puts every search to both engines."""
    count, hits, largest = 0, 0, 0.0
    swapped: list[str] = []
    differing: list[str] = []
    for request in searches:
        ours, theirs = one.search(request), other.search(request)
        count, hits = count + 1, hits + len(ours.hits)
        named = f"{request.text!r} {request.filters} {request.sort} {request.stage}"
        if difference := _difference(ours, theirs):
            differing.append(f"{named}: {difference}")
        else:
            if difference := _swap(ours, theirs):
                swapped.append(f"{named}: {difference}")
            apart = np.abs(np.array(_scores(ours)) - np.array(_scores(theirs)))
            largest = max(largest, float(apart.max(initial=0.0)))
        advance(1)
    return Parity(count, hits, largest, tuple(swapped), tuple(differing))


def varied_requests(queries: Sequence[str], engine: SearchEngine) -> list[SearchRequest]:
    """Each query plainly, with the words alone, under filters, with facets, and sorted; then what is browsed."""
    facets, (chosen, price) = ("brand", "category", "price"), _usual(engine)
    options: list[SearchOptions] = [
        {"facets": facets},
        {"stage": "bm25", "size": 300},
        {"filters": chosen, "facets": facets},
        {"filters": f"price < {price} OR NOT price EXISTS", "facets": facets},
        {"filters": f"NOT ({chosen} AND price >= {price})", "sort": "-price"},
    ]
    plain: SearchOptions = {"stage": "merged", "size": 100, "rules": False}
    made = [_request(text, plain, each) for text in queries for each in options]
    browsed: list[SearchOptions] = [
        {"facets": facets, "sort": "price"},
        {"filters": f"price > {price}", "facets": facets},
    ]
    return [*made, *(_request("", plain, each) for each in browsed)]


def _request(text: str, plain: SearchOptions, changes: SearchOptions) -> SearchRequest:
    options = plain.copy()
    options.update(changes)
    return SearchRequest(text, **options)


def _usual(engine: SearchEngine) -> tuple[str, float]:
    """A filter by the commonest category, or brand where there are none, and the middle price of a catalog."""
    facets = engine.search("", size=0, facets=("category", "brand"), rules=False).facets
    counted = facets["category"] if facets["category"].counts else facets["brand"]
    chosen = f'{counted.field} = "{counted.counts[0].value}"' if counted.counts else "brand EXISTS"
    products = engine.snapshot.products
    prices = [price for row in range(0, len(products), 17) if (price := products[row].price) is not None]
    return chosen, float(np.median(prices)) if prices else 10.0


def _scores(page: Page) -> list[float]:
    return [hit.score for hit in page.hits]


def _difference(ours: Page, theirs: Page) -> str:
    """What differs, or nothing."""
    if ours.degraded or theirs.degraded:
        return f"answered without {ours.degraded or theirs.degraded}"
    if ours.total != theirs.total:
        return f"{ours.total} hits, {theirs.total} in the other"
    if len(ours.hits) != len(theirs.hits):
        return "one page is longer"
    for place, (hit, match) in enumerate(zip(ours.hits, theirs.hits, strict=True), 1):
        if abs(hit.score - match.score) > TOLERANCE:
            return f"at place {place} the score {hit.score:.6f}, in the other {match.score:.6f}"
        if hit.product.id != match.product.id and not _is_among(match.product.id, ours, match.score):
            return f"at place {place} {hit.product.id}, in the other {match.product.id}"
    for name, facet in ours.facets.items():
        if facet != theirs.facets[name]:
            return f"the facet {name} differs"
    return ""


def _swap(ours: Page, theirs: Page) -> str:
    """The first place where hits of nearly equal scores changed places, or nothing."""
    for place, (hit, match) in enumerate(zip(ours.hits, theirs.hits, strict=True), 1):
        if hit.product.id != match.product.id:
            return f"at place {place}, scores {hit.score:.7g} and {match.score:.7g}"
    return ""


def _is_among(product_id: str, page: Page, score: float) -> bool:
    """Whether a product is on a page with as good as this score; at the end of a full page it may be the next."""
    found = [hit.score for hit in page.hits if hit.product.id == product_id]
    return abs((found[0] if found else page.hits[-1].score) - score) <= TOLERANCE
