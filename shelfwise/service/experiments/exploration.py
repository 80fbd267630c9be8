"""Exploration: some searches show a product with few impressions at one of their first ranks, by chance.

The product is drawn by Thompson sampling (Thompson 1933; Chapelle & Li 2011, An Empirical Evaluation of Thompson
Sampling) over the posteriors of the query memory. Instead of sampling each posterior, the probability that each product
has the highest value is computed and one product is drawn by these: the same choice, with a known propensity.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.memory import QueryMemory, product_hashes
from shelfwise.retrieval.index.keyword import Rows
from shelfwise.retrieval.index.vectors import places_of
from shelfwise.service.engine.ranking import HEAD, Ranking
from shelfwise.service.engine.snapshot import Snapshot

FIRST_RANK, LAST_RANK = 2, 10
"""The ranks at which a product may be placed."""
MAX_PRODUCTS = 20
"""Number of candidates for the draw: the best after the last of these ranks."""
_WELL_KNOWN = 0.5
"""Evidence of a product at which its own clicks weigh as much as its prior."""
_POINTS = 300


@dataclass(frozen=True, slots=True)
class ExploredProduct:
    """A product placed at a rank by exploration."""

    row: int
    rank: int
    """Rank, from 1."""
    propensity: float
    """Probability of this product at this rank, over all shoppers with the same search."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """The random numbers of a search that explores, in [0, 1), and what is known about the products."""

    share: float
    rank: float
    product: float
    memory: QueryMemory

    @classmethod
    def of_search(cls, share: float, who: str, query: str, memory: QueryMemory) -> Exploration | None:
        """The exploration of a search for a query with its filters, for any shopper; None for most."""
        digest = hashlib.sha256(f"{who}\0{query}".encode("utf-8", "surrogatepass")).digest()
        drawn, rank, product = (int.from_bytes(digest[at : at + 6], "big") / 2**48 for at in (0, 6, 12))
        return cls(share, rank, product, memory) if drawn < share else None

    def choose(
        self, snapshot: Snapshot, ranking: Ranking, rows: Rows, fixed: Rows, least: float
    ) -> ExploredProduct | None:
        """The product to show, from an order of rows (n,) that is complete up to `HEAD`; None if there is none.

        `fixed` rows, such as those that rules moved, are neither moved nor shown; `least` is the minimum cosine of a
        product.
        """
        head, others = rows[:LAST_RANK], rows[LAST_RANK:HEAD]
        ranks = np.flatnonzero(~np.isin(head, fixed)) + 1
        ranks = ranks[ranks >= FIRST_RANK]
        others = others[~np.isin(others, fixed)]
        others = others[_fit(snapshot, ranking, head, others, least)]
        known = self.memory.posteriors(ranking.text, product_hashes([*map(snapshot.products.id_of, others.tolist())]))
        new = np.flatnonzero(known.evidence < _WELL_KNOWN)[:MAX_PRODUCTS]
        if not (len(ranks) and len(new)):
            return None
        chances = highest_chances(known.shape[new], known.rate[new])
        drawn = min(int(np.searchsorted(np.cumsum(chances), self.product, "right")), len(new) - 1)
        rank = int(ranks[int(self.rank * len(ranks))])
        return ExploredProduct(int(others[new[drawn]]), rank, self.share * float(chances[drawn]) / len(ranks))


def _fit(snapshot: Snapshot, ranking: Ranking, head: Rows, others: Rows, least: float) -> NDArray[np.bool_]:
    """Whether each of the others (n,) is available, similar enough to the query, and agrees with its type and values at
    least like the head."""
    found, first, at = ranking.evidence, places_of(head, ranking.rows), places_of(others, ranking.rows)
    is_ranked, first = at >= 0, first[first >= 0]
    fits = is_ranked & (found.cosine[at] >= least) & ~(snapshot.signals.at(others).availability < 0)
    for values in (found.intent, found.preferred):
        fits &= values[at] >= values[first].min(initial=np.inf)
    return np.asarray(fits)


def highest_chances(shape: NDArray[np.float64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability (c,) that each of c independent gamma variables is the highest: the integral of its density times
    the others' distribution functions, by the trapezoidal rule, scaled to a sum of 1."""
    from scipy.special import gammainc  # not needed by searches that do not explore

    highest = float((shape / rate + 8 * np.sqrt(shape) / rate).max()) + 8 / float(rate.min())
    points = highest * np.linspace(0, 1, _POINTS) ** 3
    below = gammainc(shape[:, None], rate[:, None] * points).clip(1e-300)
    logarithms = np.log((below[:, 1:] + below[:, :-1]) / 2)
    chances = (np.diff(below) * np.exp(logarithms.sum(axis=0) - logarithms)).sum(axis=1)
    return np.asarray(chances / chances.sum())
