"""What the same shoppers chose, product by product (item-based kNN: Deshpande & Karypis 2004, Item-Based Top-N
Recommendation Algorithms, section 4).

A few columns of factors cannot say which two of a thousand products are a pair, a table of pairs can: a tower scores by
both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rerank.shoppers.factors import who_chose
from rerank.shoppers.histories import Histories, Ints

MOST = 400
"""Products beside each one, those most alike."""
_PAIRS = 20_000_000
"""Of all products together, which take 8 bytes each."""
_ROWS = 1_000
"""Products whose shoppers in common are counted at once: it bounds the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Of m products, by their places, those that the same shoppers chose."""

    starts: Ints
    """(m + 1,): beside place i are `others[starts[i]:starts[i + 1]]`."""
    others: NDArray[np.int32]
    """(p,): places, each product's ascending."""
    strengths: NDArray[np.float32]
    """(p,): 0 to 1, the cosine over shoppers."""

    def __len__(self) -> int:
        """Products."""
        return len(self.starts) - 1

    def some(self, places: Ints) -> Neighbours:
        """Of the products at places (k,), which become the places 0 to k - 1."""
        new = np.full(len(self), -1)
        new[places] = np.arange(len(places))
        taken = []
        for place in places.tolist():
            part = np.arange(self.starts[place], self.starts[place + 1])
            part = part[new[self.others[part]] >= 0]
            taken.append(part[np.argsort(new[self.others[part]])])
        chosen = np.concatenate([np.empty(0, np.int64), *taken])
        starts = np.cumsum([0, *map(len, taken)], dtype=np.int64)
        return Neighbours(starts, new[self.others[chosen]].astype(np.int32), self.strengths[chosen])

    def problem(self, count: int) -> str:
        """What is wrong with the arrays for so many products, or nothing."""
        bounds = self.starts
        if len(bounds) != count + 1 or bounds[0] != 0 or bounds[-1] != len(self.others) or (np.diff(bounds) < 0).any():
            return "holds bounds of neighbours that do not fit"
        if len(self.others) != len(self.strengths) or ((self.others < 0) | (self.others >= count)).any():
            return "names neighbours that it does not hold"
        is_right = ((self.strengths >= 0) & (self.strengths <= 1)).all()
        return "" if is_right else "holds strengths of neighbours that are not within 0 and 1"

    def beside(self, places: Ints, fading: float) -> tuple[Ints, NDArray[np.float32]]:
        """What is beside products at places (w,), oldest first, -1 for none: places (k,), ascending, and how strongly
        (k,), each older product counting `fading` of the next newer one."""
        chosen = [(place, fading**age) for age, place in enumerate(places[::-1].tolist()) if place >= 0]
        if not chosen:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        parts = [slice(int(self.starts[place]), int(self.starts[place + 1])) for place, _ in chosen]
        others = np.concatenate([self.others[part] for part in parts])
        told = np.concatenate([self.strengths[part] * weight for part, (_, weight) in zip(parts, chosen, strict=True)])
        sums = np.bincount(others, told, len(self))
        found = np.flatnonzero(sums)
        return found, sums[found].astype(np.float32)


def neighbours_of(histories: Histories, rows: Ints, *, least_shoppers: int, most: int = MOST) -> Neighbours:
    """Of the products at rows (m,), ascending: the `most` that were chosen by most of the same shoppers, at least so
    many; a product is beside itself. A place is a place in `rows`. Large catalogs have fewer beside each product."""
    most = max(1, min(most, _PAIRS // max(len(rows), 1)))
    table = who_chose(histories, rows)
    by_product = table.T.tocsr()
    reach = 1 / np.sqrt(np.maximum(by_product.getnnz(axis=1), 1))
    counts, others, strengths = [], [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for start in range(0, len(rows), _ROWS):
        common = (by_product[start : start + _ROWS] @ table).tocsr()
        common.sort_indices()
        for at in range(common.shape[0]):
            part = slice(common.indptr[at], common.indptr[at + 1])
            found, often = common.indices[part], common.data[part]
            strength = often * reach[start + at] * reach[found]
            strength = np.where(often >= least_shoppers, strength, 0.0)
            best = np.argsort(-strength, kind="stable")[:most]
            best = np.sort(best[strength[best] > 0])
            counts.append(len(best))
            others.append(found[best].astype(np.int32))
            strengths.append(strength[best].astype(np.float32))
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    return Neighbours(starts, np.concatenate(others), np.concatenate(strengths))


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Neighbours and how much they count in a tower's scores."""

    neighbours: Neighbours
    weight: float
    """What a strength of 1 adds to a score; 0 where they say nothing that the tower does not know."""
    fading: float

    def of(self, places: Ints) -> tuple[Ints, NDArray[np.float32]]:
        """As `Neighbours.beside`, each strength being what it adds to a score."""
        if not self.weight:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        found, told = self.neighbours.beside(places, self.fading)
        return found, np.float32(self.weight) * told

    def some(self, places: Ints) -> Beside:
        """As `Neighbours.some`."""
        return replace(self, neighbours=self.neighbours.some(places)) if self.weight else self


NOTHING_BESIDE = Beside(Neighbours(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)), 0.0, 1.0)
"""Where no product has neighbours."""
