"""What every vector index can do: the nearest products by inner product, over all of them or over those allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
_FEWEST_FOR_BACKGROUND = 50


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rows with their cosine similarity to the query, most similar first, ties by row."""

    rows: Rows
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Background:
    """How similar two products are that have nothing to do with each other: the cosine's mean and deviation.

    Encoders differ widely in it (one spreads cosines from 0 to 1, another from 0.7 to 0.95), so a cosine means
    something beside another score only when it is measured from here.
    """

    mean: float
    deviation: float

    def standardised(self, cosine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cosines (n,) in deviations above the mean."""
        return np.asarray((cosine - self.mean) / self.deviation)


USUAL_BACKGROUND = Background(0.2, 0.12)
"""What small English encoders have on catalogs."""


def measure_background(vectors: Vectors, pairs: int = 20_000, seed: int = 0) -> Background:
    """The background of a catalog's unit vectors (n, dimension), from `pairs` pairs drawn by `seed`.

    A catalog too small to tell gets the usual one.
    """
    if len(vectors) < _FEWEST_FOR_BACKGROUND:
        return USUAL_BACKGROUND
    random = np.random.default_rng(seed)
    one, other = random.integers(0, len(vectors), (2, pairs))
    apart = one != other
    cosines = np.einsum("ij,ij->i", vectors[one[apart]], vectors[other[apart]])
    return Background(float(cosines.mean()), max(float(cosines.std()), 1e-3))


class VectorIndex(Protocol):
    """An opened vector index over unit vectors: read-only, safe to ask from many threads at once."""

    @property
    def size(self) -> int:
        """The number of vectors."""
        ...

    @property
    def dimension(self) -> int:
        """The length of each vector."""
        ...

    def search(self, query: Vectors, limit: int, allowed: Rows | None = None) -> Neighbours:
        """The `limit` nearest rows to `query` (dimension,), of `allowed` (ascending, distinct) where it is given."""
        ...

    def similarity(self, query: Vectors, rows: Rows) -> NDArray[np.float32]:
        """The exact cosine of `query` (dimension,) with each of `rows`, in their order."""
        ...

    def vector(self, row: int) -> Vectors:
        """The stored vector of one row, (dimension,)."""
        ...

    def gather(self, rows: Rows) -> Vectors:
        """The stored vectors of `rows` (n, dimension), in their order."""
        ...

    @property
    def without_cluster(self) -> VectorIndex:
        """The same vectors where no cluster is asked: itself, unless it asks one."""
        ...
