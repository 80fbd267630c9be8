"""What the same shoppers chose, product by product: a linear model of each product by all others (EASE: Steck 2019,
Embarrassingly Shallow Autoencoders for Sparse Data, section 3).

A few columns of factors cannot say which two of a thousand products are a pair, a table of pairs can: a tower scores by
both. Cosines of pairs (item-based kNN) count what all shoppers choose once for each product beside it; here products
explain what others have explained no second time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from rerank.shoppers.factors import who_chose
from rerank.shoppers.histories import Histories, Ints
from retrieval.errors import TrainingError

MOST = 400
"""Products beside each one, those that say most of it."""
MOST_PRODUCTS = 10_000
"""That have any, those that most shoppers chose: their pairs are solved for in one matrix of so many rows, 400 MB."""
_SELF = 0.3
"""What a product says of itself, where shoppers choose again; the model itself leaves it out."""
_ROWS = 1_000
"""Products whose shoppers in common are counted at once: it bounds the memory."""


@dataclass(frozen=True, slots=True)
class NeighbourOptions:
    """How neighbours are learned."""

    ridge: float = 25.0
    """Added to how many shoppers chose each product, as a multiple of the mean of that; the more, the less is made of
    few shoppers."""
    half_life: float | None = None
    """Days after which a choice counts half; None where all count alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Of m products, by their places, those that the same shoppers chose."""

    starts: Ints
    """(m + 1,): beside place i are `others[starts[i]:starts[i + 1]]`."""
    others: NDArray[np.int32]
    """(p,): places, each product's ascending."""
    strengths: NDArray[np.float32]
    """(p,): -1 to 1, what having chosen the place says of choosing the other."""

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
        return (
            "" if (np.abs(self.strengths) <= 1).all() else "holds strengths of neighbours that are not within -1 and 1"
        )

    def beside(self, places: Ints, fading: float) -> NDArray[np.float32]:
        """(m,): how strongly products are beside those at places (w,), oldest first, -1 for none; each older one counts
        `fading` of the next newer one."""
        chosen = [(place, fading**age) for age, place in enumerate(places[::-1].tolist()) if place >= 0]
        if not chosen:
            return np.zeros(len(self), np.float32)
        parts = [slice(int(self.starts[place]), int(self.starts[place + 1])) for place, _ in chosen]
        others = np.concatenate([self.others[part] for part in parts])
        told = np.concatenate([self.strengths[part] * weight for part, (_, weight) in zip(parts, chosen, strict=True)])
        return np.bincount(others, told, len(self)).astype(np.float32)


def neighbours_of(
    histories: Histories,
    rows: Ints,
    options: NeighbourOptions = NeighbourOptions(),
    *,
    least_shoppers: int,
    most: int = MOST,
    most_products: int = MOST_PRODUCTS,
) -> Neighbours:
    """Of the products at rows (m,), ascending: the `most` that say most of each, of those that at least so many
    shoppers chose with it; a product is beside itself. A place is a place in `rows`.

    Raises TrainingError where the pairs cannot be solved for.
    """
    table = who_chose(histories, rows)
    places = np.sort(np.argsort(-table.getnnz(axis=0), kind="stable")[:most_products])
    if not len(places):
        return Neighbours(np.zeros(len(rows) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    told = _weights(histories, rows[places], options)
    chosen = table[:, places].tocsr()
    by_product = chosen.T.tocsr()
    counts = np.zeros(len(rows), np.int64)
    others, strengths = [], []
    for start in range(0, len(places), _ROWS):
        common = (by_product[start : start + _ROWS] @ chosen).toarray()
        part = np.where(common >= least_shoppers, told[start : start + _ROWS], 0.0)
        best = np.argsort(-np.abs(part), axis=1, kind="stable")[:, :most]
        for at, found in enumerate(best):
            kept = np.sort(found[part[at, found] != 0])
            counts[places[start + at]] = len(kept)
            others.append(places[kept].astype(np.int32))
            strengths.append(part[at, kept].astype(np.float32))
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Neighbours(starts, np.concatenate(others), np.concatenate(strengths))


def _weights(histories: Histories, rows: Ints, options: NeighbourOptions) -> NDArray[np.float32]:
    """(m, m): what having chosen the first product says of choosing the second.

    With G the shoppers that products have in common and P = (G + ridge)^-1 it is -P_ij / P_jj (equation 8).
    """
    table = who_chose(histories, rows, options.half_life)
    table.data = np.sqrt(table.data)
    by_product = table.T.tocsr()
    matrix = np.empty((len(rows), len(rows)), np.float32, order="F")
    for start in range(0, len(rows), _ROWS):
        matrix[start : start + _ROWS] = (by_product[start : start + _ROWS] @ table).toarray()
    diagonal = np.diag_indices(len(rows))
    matrix[diagonal] += options.ridge * matrix[diagonal].mean()
    factor, problem = lapack.spotrf(matrix, lower=True, overwrite_a=True)
    inverse, later = lapack.spotri(factor, lower=True, overwrite_c=True) if not problem else (factor, 0)
    if problem or later:
        raise TrainingError(f"what shoppers chose cannot be solved for pairs of products (row {problem or later})")
    whole = np.tril(inverse) + np.tril(inverse, -1).T
    made: NDArray[np.float32] = np.clip(-whole / whole[diagonal], -1.0, 1.0)
    made[diagonal] = _SELF
    return made


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Neighbours and how much they count in a tower's scores."""

    neighbours: Neighbours
    weight: float
    """What a strength of 1 adds to a score; 0 where they say nothing that the tower does not know."""
    fading: float
    options: NeighbourOptions = NeighbourOptions()
    """How they were learned."""

    def some(self, places: Ints) -> Beside:
        """As `Neighbours.some`."""
        return replace(self, neighbours=self.neighbours.some(places)) if self.weight else self


NOTHING_BESIDE = Beside(Neighbours(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)), 0.0, 1.0)
"""Where no product has neighbours."""
