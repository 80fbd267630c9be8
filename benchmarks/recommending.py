"""Recommending the next product, ours beside what a store could choose today: the same purchases teach all of them.

Products are ranked over the whole catalog, none are sampled (Krichene & Rendle 2020, On Sampled Metrics for Item
Recommendation). Options are chosen on the part that tunes; the part that judges is seen once, by what was chosen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.next_ways import Material, Way, hits, top_products
from benchmarks.purchases import Case, Ints, Part, PurchaseSet, seen_left_out
from benchmarks.shopper_means import over_shoppers
from rerank.gate.bootstrap import Difference
from retrieval.errors import InputError, TrainingError
from service.training.from_catalog import Progress

EVERYTHING = "all with a history"
_MOST_TUNING = 1_000
"""Cases that options are chosen on: as many again would cost time and change little."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """What is known of products without purchases."""

    vectors: NDArray[np.float32]
    """(products, dimension): the unit vectors of their texts."""
    categories: Ints | None = None
    """(products,) by number, -1 where there is none; None where no product has one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way reached in one slice; intervals of 95%, by bootstrap over shoppers."""

    hit_rate: Difference
    """HR@10; `queries` counts shoppers."""
    ndcg: Difference
    """NDCG@10."""
    from_last: Difference | None
    """The last way's NDCG@10 less this one's, paired by shopper; None for the last one itself."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some cases, or some of what they were to find."""

    cases: int
    shoppers: int
    figures: Mapping[str, Figures]
    """By way."""


@dataclass(frozen=True, slots=True)
class WayTold:
    """How a way came about."""

    options: str
    """What was chosen on the part that tunes."""
    seconds: float
    """For choosing, learning and scoring."""
    ours: bool


@dataclass(frozen=True, slots=True)
class RecommendReport:
    """All ways on the same cases."""

    products: int
    purchases: int
    """That were learned from."""
    shoppers: int
    divided: str
    hide_seen: bool
    """Whether what a shopper had bought was left out, as an answer and as a candidate."""
    ways: Mapping[str, WayTold]
    left_out: Mapping[str, str]
    """Ways that could not be trained, and why."""
    slices: Mapping[str, Slice]


def measure_recommending(
    bought: PurchaseSet, catalog: Catalog, ways: Sequence[Way], *, hide_seen: bool, seed: int, progress: Progress
) -> RecommendReport:
    """Each way chosen on one part and judged on the other; one that cannot be trained on so little is left out, with
    its reason. Raises InputError where either part has no case, TrainingError where no way is left."""
    tuning, judging = (_of_interest(part, hide_seen) for part in (bought.tuning, bought.judging))
    best: dict[str, Ints] = {}
    told: dict[str, WayTold] = {}
    left_out: dict[str, str] = {}
    learned = _material(judging, catalog, hide_seen, seed)
    for way in ways:
        progress.begin(way.name, None, "")
        started = time.perf_counter()
        try:
            chosen = way.choose(_material(tuning, catalog, hide_seen, seed), _judge(tuning, catalog, hide_seen))
            scorer = chosen.fit(learned)
        except TrainingError as error:
            left_out[way.name] = str(error)
            progress.end(f"left out: {error}")
            continue
        best[way.name] = top_products(scorer, judging.cases, learned.counts, hide_seen=hide_seen)
        told[way.name] = WayTold(chosen.options, time.perf_counter() - started, way.ours)
        progress.end(f"{told[way.name].seconds:.0f} s {chosen.options}")
    if not best:
        raise TrainingError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    slices = {name: _slice(judging.cases, targets, best) for name, targets in _slices(judging, learned.counts).items()}
    return RecommendReport(
        learned.products,
        len(learned.purchases.products),
        len(learned.purchases.histories),
        bought.divided,
        hide_seen,
        told,
        left_out,
        {name: each for name, each in slices.items() if each.cases},
    )


def _of_interest(part: Part, hide_seen: bool) -> Part:
    cases = seen_left_out(part.cases) if hide_seen else part.cases
    if not any(len(case.history) for case in cases) or not len(part.training.products):
        raise InputError("nobody who bought something before bought again in a part that is held out: nothing to judge")
    return Part(part.training, cases)


def _material(part: Part, catalog: Catalog, hide_seen: bool, seed: int) -> Material:
    return Material(part.training, catalog.vectors, catalog.categories, hide_seen, seed)


def _judge(part: Part, catalog: Catalog, hide_seen: bool) -> Callable[[Callable[..., NDArray[np.floating]]], float]:
    known = [case for case in part.cases if len(case.history)]
    cases = known[:: -(-len(known) // _MOST_TUNING)]
    counts, targets = part.training.counts(len(catalog.vectors)), [case.targets for case in cases]
    return lambda scorer: float(hits(top_products(scorer, cases, counts, hide_seen=hide_seen), targets)[1].mean())


def _slices(part: Part, counts: Ints) -> dict[str, list[Ints]]:
    """By name, what each case is to find there: nothing where it is none of the slice's."""
    shoppers: dict[str, Callable[[int], bool]] = {
        EVERYTHING: lambda size: size > 0,
        "shoppers with 1 event": lambda size: size == 1,
        "shoppers with 2-5": lambda size: 2 <= size <= 5,
        "shoppers with more": lambda size: size > 5,
        "shoppers without any": lambda size: size == 0,
    }
    products: dict[str, Callable[[Ints], NDArray[np.bool_]]] = {
        "products without events": lambda bought: bought == 0,
        "products with 1-10": lambda bought: (bought > 0) & (bought <= 10),
        "products with more": lambda bought: bought > 10,
    }
    none = np.empty(0, np.int64)
    by_shopper = {
        name: [case.targets if is_in(len(case.history)) else none for case in part.cases]
        for name, is_in in shoppers.items()
    }
    by_product = {
        name: [case.targets[are_in(counts[case.targets])] if len(case.history) else none for case in part.cases]
        for name, are_in in products.items()
    }
    return by_shopper | by_product


def _slice(cases: Sequence[Case], targets: Sequence[Ints], best: Mapping[str, Ints]) -> Slice:
    counted = np.array([len(each) > 0 for each in targets])
    if not counted.any():
        return Slice(0, 0, {})
    shoppers = np.unique([case.shopper for case in cases], return_inverse=True)[1]
    reached = {name: hits(rows, targets) for name, rows in best.items()}
    last = next(reversed(reached))
    figures = {
        name: Figures(
            over_shoppers(hit, shoppers),
            over_shoppers(gain, shoppers),
            None if name == last else over_shoppers(reached[last][1] - gain, shoppers),
        )
        for name, (hit, gain) in reached.items()
    }
    return Slice(int(counted.sum()), len(np.unique(shoppers[counted])), figures)
