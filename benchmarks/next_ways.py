"""Ways of foretelling what a shopper buys next: what they learn from, how options are chosen, what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.purchases import Case, Ints, Purchases

Floats = NDArray[np.float64]
Scorer = Callable[[Sequence[Case]], NDArray[np.floating]]
"""Every product's score for each case, (cases, products). What scores alike goes by popularity."""
DEPTH = 10
_CASES = 512
"""Scored at once: it bounds the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a way may learn from."""

    purchases: Purchases
    vectors: NDArray[np.float32]
    """(products, dimension): the unit vectors of the products' texts."""
    categories: Ints | None
    """(products,) by number, -1 where there is none; None for a catalog without."""
    hide_seen: bool
    """Whether what a shopper has bought is no candidate."""
    seed: int

    @property
    def products(self) -> int:
        """How many the catalog has."""
        return len(self.vectors)

    @property
    def counts(self) -> Ints:
        """How often each product was bought, (products,)."""
        return self.purchases.counts(self.products)


Fit = Callable[[Material], Scorer]
Judge = Callable[[Scorer], float]
"""nDCG@10 on the part that tunes."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The options that did best on the part that tunes."""

    options: str
    """In words."""
    fit: Fit


@dataclass(frozen=True, slots=True)
class Way:
    """One way, by its name in the table."""

    name: str
    choose: Callable[[Material, Judge], Chosen]
    ours: bool = False


def best_of(trials: Mapping[str, Fit]) -> Callable[[Material, Judge], Chosen]:
    """Tries all options, by their names; of equals the first is chosen."""

    def choose(material: Material, judge: Judge) -> Chosen:
        if len(trials) == 1:
            return Chosen(*next(iter(trials.items())))
        reached = {name: judge(fit(material)) for name, fit in trials.items()}
        best = max(reached, key=lambda name: reached[name])
        return Chosen(best, trials[best])

    return choose


def top_products(scorer: Scorer, cases: Sequence[Case], popularity: Ints, *, hide_seen: bool) -> Ints:
    """The rows of the best products of each case, (cases, DEPTH), out of the whole catalog."""
    depth = min(DEPTH, len(popularity))
    best = np.full((len(cases), DEPTH), -1, np.int64)
    for start, chunk in _chunks(cases):
        scores = np.array(scorer(chunk), np.float64)
        for row, case in enumerate(chunk):
            if hide_seen:
                scores[row, case.history] = -np.inf
            found = _best(scores[row], popularity, depth)
            best[start + row, : len(found)] = found
    return best


def _best(scores: Floats, popularity: Ints, depth: int) -> Ints:
    least = scores[np.argpartition(-scores, depth - 1)[depth - 1]]
    candidates = np.flatnonzero((scores >= least) & (scores > -np.inf))
    ordered = np.lexsort((candidates, -popularity[candidates], -scores[candidates]))
    return candidates[ordered[:depth]]


def _chunks(cases: Sequence[Case]) -> Iterator[tuple[int, Sequence[Case]]]:
    for start in range(0, len(cases), _CASES):
        yield start, cases[start : start + _CASES]


def hits(best: Ints, targets: Sequence[Ints]) -> tuple[Floats, Floats]:
    """HR@10 and NDCG@10 of each case, (cases,) each, from its best products (cases, 10) and what it was to find.

    A hit is any target among the ten. The gain is 1 (Järvelin & Kekäläinen 2002, section 3), the ideal all targets
    first; of one target it is 1 / log2(rank + 1). NaN for a case without targets.
    """
    discounts = 1.0 / np.log2(np.arange(DEPTH) + 2.0)
    found = np.array([np.isin(row, wanted) for row, wanted in zip(best, targets, strict=True)]).reshape(-1, DEPTH)
    sizes = np.array([len(wanted) for wanted in targets], np.int64)
    ideal = np.concatenate(([np.nan], np.cumsum(discounts)))[np.minimum(sizes, DEPTH)]
    return np.where(sizes > 0, found.any(axis=1), np.nan), found @ discounts / ideal
