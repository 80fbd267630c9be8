"""What every vector index can do: the nearest products by inner product, over all of them or over those allowed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rows with their cosine similarity to the query, most similar first, ties by row."""

    rows: Rows
    scores: NDArray[np.float32]


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

    def save(self, folder: Path) -> None:
        """Writes the index into an empty folder, from which it opens again with the same answers."""
        ...
