"""Exact search over a version's memory-mapped vectors, with live changes applied over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.store.files import load_array

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
StoredArray = NDArray[Any]
"""Vectors as stored on disk: float32, or float16 in a large catalog."""
_FEWEST_FOR_BACKGROUND = 50
_MAX_PASSED_OVER = 500
"""Masked rows that a search requests in addition and drops; beyond that it passes the allowed rows to the index."""


@dataclass(frozen=True, slots=True)
class NearestRows:
    """Rows with their cosine similarity to the query, most similar first; ties by row."""

    rows: Rows
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Background:
    """The mean and deviation of the cosine of unrelated products.

    It differs widely between encoders (from 0 to 1, or from 0.7 to 0.95): cosines are comparable only relative to it.
    """

    mean: float
    deviation: float

    def standardise(self, cosine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cosines (n,) in deviations above the mean."""
        return np.asarray((cosine - self.mean) / self.deviation)


DEFAULT_BACKGROUND = Background(0.2, 0.12)
"""The background of small English encoders."""


@dataclass(frozen=True, slots=True)
class Cutoff:
    """The least cosine between a query and its nearest product at which the catalog has products for the query."""

    known: float
    """The cutoff for a query with a word that the catalog or the language has."""
    unknown: float
    """The cutoff for a query without such a word."""


NO_CUTOFF = Cutoff(-1.0, -1.0)
"""The cutoff of a catalog that is too small to measure one: it accepts every query."""


def measure_background(vectors: StoredArray, pairs: int = 20_000, seed: int = 0) -> Background:
    """The background of a catalog's unit vectors (n, dimension), from `pairs` pairs drawn by `seed`.

    A catalog that is too small gets the default background.
    """
    if len(vectors) < _FEWEST_FOR_BACKGROUND:
        return DEFAULT_BACKGROUND
    random = np.random.default_rng(seed)
    one, other = random.integers(0, len(vectors), (2, pairs))
    apart = one != other
    cosines = np.einsum("ij,ij->i", whole_floats(vectors[one[apart]]), whole_floats(vectors[other[apart]]))
    return Background(float(cosines.mean()), max(float(cosines.std()), 1e-3))


def rows_now(rows_before: Rows, count: int) -> Rows:
    """The current row of each of the previous version's `count` rows, or -1 (count,). `rows_before` (n,) has for each
    current row the previous row of the same product, or -1."""
    rows = np.full(count, -1, np.int64)
    kept = np.flatnonzero(rows_before >= 0)
    rows[rows_before[kept]] = kept
    return rows


def places_of(wanted: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index in `among` (m,), whose numbers are distinct, of each number in `wanted` (n,), or -1 (n,)."""
    if not len(among):
        return np.full(len(wanted), -1)
    order = np.argsort(among)
    at = order[np.searchsorted(among, wanted, sorter=order).clip(max=len(order) - 1)]
    return np.where(among[at] == wanted, at, -1)


def nearest_of(rows: Rows, scores: NDArray[np.float32], limit: int) -> NearestRows:
    """The `limit` highest scores, ties by row."""
    if 0 < limit < len(rows):
        # Ties across the cut are also ordered by row, so all rows that reach the cut's score are kept until then.
        cut = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        kept = scores >= cut
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))[:limit]
    return NearestRows(rows[order], scores[order])


VECTORS_FILE = "vectors.npy"
CHUNK_ROWS = 16_384
"""The number of rows that are read into memory at once."""
_SCANNED = 2_048
"""The number of rows that a scan compares at once: they fit into the caches of a core."""
HALF_FROM = 200_000
"""The number of vectors from which they are stored in 16 bits, which changes a cosine by less than .0001."""


def stored_type(count: int) -> np.dtype[np.floating]:
    """The number type of `count` stored vectors."""
    return np.dtype(np.float16 if count >= HALF_FROM else np.float32)


def create_vectors(folder: Path, count: int, dimension: int) -> StoredArray:
    """A memory-mapped array (count, dimension) for unit vectors, which it rounds to its type."""
    folder.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(folder / VECTORS_FILE, "w+", dtype=stored_type(count), shape=(count, dimension))


def map_vectors(folder: Path) -> StoredArray:
    """The vectors in a folder, (n, dimension), memory-mapped; raises StoreDamagedError for other contents."""
    path = folder / VECTORS_FILE
    vectors = load_array(path, mapped=True)
    if vectors.ndim != 2 or vectors.dtype not in (np.float16, np.float32):
        message = f"{path} has {vectors.dtype}{vectors.shape}, not rows of float16 or float32; rebuild the index"
        raise StoreDamagedError(message)
    return vectors


def whole_floats(vectors: StoredArray) -> Vectors:
    """Stored vectors as float32 for computation; copied only if they are stored in 16 bits."""
    if vectors.dtype != np.float16:
        return np.asarray(vectors, dtype=np.float32)
    # NumPy's conversion takes six times as long. A finite half-precision number, shifted to the bit positions of a
    # float, is 2^-112 of its value.
    bits = vectors.view(np.int16).astype(np.int32)
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
    floats = bits.view(np.float32)
    return np.multiply(floats, np.float32(2.0**112), out=floats)


class StoredVectors:
    """An opened index of `size` unit vectors of a `dimension`: read-only, thread-safe. Exact search by a scan.

    Faster indexes derive from it and propose rows in `_propose`. Raises StoreDamagedError for unreadable vectors.
    """

    def __init__(self, folder: Path) -> None:
        self._vectors = map_vectors(folder)
        self.size = len(self._vectors)
        self.dimension: int = self._vectors.shape[1]

    def search(self, query: Vectors, limit: int, allowed: Rows | None = None) -> NearestRows:
        """The `limit` nearest rows to `query` (dimension,), among `allowed` (ascending, distinct) if it is given."""
        limit = min(limit, self.size if allowed is None else len(allowed))
        if limit < 1:
            return NearestRows(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        proposed = self._propose(query, limit, allowed)
        if proposed is None or len(proposed) < limit:
            return self._scan(query, limit, np.arange(self.size) if allowed is None else allowed)
        return nearest_of(proposed, self.similarity(query, proposed), limit)

    def similarity(self, query: Vectors, rows: Rows) -> NDArray[np.float32]:
        """The exact cosine of `query` (dimension,) with each of `rows`, in their order."""
        # Not BLAS: there, a row's last digit depends on the number of rows computed with it, so equal products would
        # not tie. np.take, since indexing by rows takes a third longer.
        return np.asarray(np.einsum("ij,j->i", whole_floats(np.take(self._vectors, rows, 0)), query), dtype=np.float32)

    def vector(self, row: int) -> Vectors:
        """The stored vector of one row, (dimension,)."""
        return np.array(self._vectors[row], dtype=np.float32)

    def gather(self, rows: Rows) -> Vectors:
        """The stored vectors of `rows` (n, dimension), in their order."""
        return np.array(self._vectors[rows], dtype=np.float32)

    def _propose(self, query: Vectors, limit: int, allowed: Rows | None) -> Rows | None:  # noqa: ARG002 (for others)
        """Distinct rows, of `allowed` if given, that include the `limit` nearest; None or fewer cause a full scan."""
        return None

    def _scan(self, query: Vectors, limit: int, allowed: Rows) -> NearestRows:
        parts = [
            self.similarity(query, allowed[start : start + _SCANNED]) for start in range(0, len(allowed), _SCANNED)
        ]
        return nearest_of(allowed, np.concatenate(parts), limit)


class ChangedVectors:
    """A vector index with changes applied over it. Read-only, like every index."""

    def __init__(self, base: VectorIndex, changes: Mapping[int, Vectors | None] = MappingProxyType({})) -> None:
        """`changes` are the vectors (dimension,) of changed rows, None for deleted ones."""
        self._base = base
        self._changes = changes
        laid = {row: vector for row, vector in sorted(changes.items()) if vector is not None}
        self._rows = np.array(list(laid), dtype=np.int64)
        self._vectors: Vectors = np.array(list(laid.values()), dtype=np.float32).reshape(len(laid), base.dimension)
        self._masked = frozenset(row for row in changes if row < base.size)
        self._is_masked = np.zeros(base.size, dtype=bool)
        self._is_masked[sorted(self._masked)] = True

    def with_changes(self, changes: Mapping[int, Vectors | None]) -> ChangedVectors:
        """This index with more changes, of which later ones win."""
        return ChangedVectors(self._base, {**self._changes, **changes})

    @property
    def size(self) -> int:
        return self._base.size - len(self._masked) + len(self._rows)

    @property
    def dimension(self) -> int:
        return self._base.dimension

    def search(self, query: Vectors, limit: int, allowed: Rows | None = None) -> NearestRows:
        base = self._base_search(query, limit, allowed)
        overlay = self._rows if allowed is None else np.intersect1d(self._rows, allowed, assume_unique=True)
        if not len(overlay):
            return base
        rows = np.concatenate([base.rows, overlay])
        scores = np.concatenate([base.scores, self.similarity(query, overlay)])
        return nearest_of(rows, scores, limit)

    def _base_search(self, query: Vectors, limit: int, allowed: Rows | None) -> NearestRows:
        if not self._masked and allowed is None:
            return self._base.search(query, limit)
        if allowed is None and len(self._masked) <= _MAX_PASSED_OVER:
            nearest = self._base.search(query, limit + len(self._masked))
            is_shown = ~self._is_masked[nearest.rows]
            return NearestRows(nearest.rows[is_shown][:limit], nearest.scores[is_shown][:limit])
        inside = np.flatnonzero(~self._is_masked) if allowed is None else allowed[allowed < self._base.size]
        return self._base.search(query, limit, inside[~self._is_masked[inside]])

    def similarity(self, query: Vectors, rows: Rows) -> NDArray[np.float32]:
        if not len(self._rows):
            return self._base.similarity(query, rows)
        at, is_changed = self._positions(rows)
        scores = np.empty(len(rows), dtype=np.float32)
        scores[~is_changed] = self._base.similarity(query, rows[~is_changed])
        scores[is_changed] = np.einsum("ij,j->i", self._vectors[at[is_changed]], query)
        return scores

    def vector(self, row: int) -> Vectors:
        vector: Vectors = self.gather(np.array([row]))[0]
        return vector

    def gather(self, rows: Rows) -> Vectors:
        if not len(self._rows):
            return self._base.gather(rows)
        at, is_changed = self._positions(rows)
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        vectors[~is_changed] = self._base.gather(rows[~is_changed])
        vectors[is_changed] = self._vectors[at[is_changed]]
        return vectors

    def _positions(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The positions of `rows` among the changed vectors, and whether each is there."""
        at = np.searchsorted(self._rows, rows).clip(max=len(self._rows) - 1)
        return at, self._rows[at] == rows


VectorIndex = StoredVectors | ChangedVectors
