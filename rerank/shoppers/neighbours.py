"""What the same shoppers chose, product by product: pairs of products, with what each says of the other.

A few columns of factors cannot say which two of a thousand products are a pair, a table of pairs can: a tower scores by
both. rerank/shoppers/ease.py learns them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rerank.shoppers.histories import Ints


@dataclass(frozen=True, slots=True)
class NeighbourOptions:
    """How neighbours are learned."""

    ridge: float = 25.0
    """Added to how many shoppers chose each product, as a multiple of the mean of that; the more, the less is made of
    few shoppers."""
    half_life: float | None = None
    """Days after which a choice counts half; None where all count alike."""
    again: float = 0.0
    """What a product says of itself, where shoppers may choose it again; the regression leaves it out."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Neighbours and how much they count in a tower's scores."""

    neighbours: Neighbours
    weight: float
    """What a strength of 1 adds to a score; 0 where they say nothing that the tower does not know."""
    fading: float
    options: NeighbourOptions | None = None
    """How they were learned, if by `rerank.shoppers.ease`."""

    def some(self, places: Ints) -> Beside:
        """As `Neighbours.some`."""
        return replace(self, neighbours=self.neighbours.some(places)) if self.weight else self


NOTHING_BESIDE = Beside(Neighbours(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)), 0.0, 1.0)
"""Where no product has neighbours."""
