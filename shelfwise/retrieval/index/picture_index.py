"""The picture index of a version: the vectors of the products' pictures, in addition to those of their texts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.index.faiss import FaissIndex
from shelfwise.retrieval.index.vectors import NearestRows, Rows, Vectors
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.store.manifest import PictureInfo

DEPTH = 100
"""The number of products with the nearest pictures that become candidates of a search whose text is about looks."""
FLOOR = 2.5
"""Deviations above the cosine of unrelated titles and pictures from which a picture counts as evidence that its product
fits a text."""
WEIGHT = 2.0
"""The score of a product per deviation of its picture above `FLOOR`."""
ROWS_FILE = "products.npy"
"""The rows of the products with a picture, ascending (m,) int64, in the order of the vectors."""
KEYS_FILE = "keys.npy"
"""The fingerprint of each vector's picture (m, 16) uint8: equal pictures are encoded once."""


@dataclass(frozen=True)
class PictureIndex:
    """An opened picture index: read-only, thread-safe. Rows are those of products."""

    info: PictureInfo
    vectors: FaissIndex
    """The vectors, by place."""
    rows: Rows
    """(m,): the product of each place, ascending."""
    masked: frozenset[int] = field(default_factory=frozenset)
    """Rows whose picture does not count, because a live change deleted the product or changed its picture."""

    @classmethod
    def open(cls, folder: Path, info: PictureInfo) -> PictureIndex:
        """Opens the index; raises StoreDamagedError if its files do not match the manifest."""
        vectors, rows = FaissIndex(folder), load_array(folder / ROWS_FILE)
        if not (vectors.size == len(rows) == info.pictures and vectors.dimension == info.dimension):
            found = f"{vectors.size} vectors of dimension {vectors.dimension} for {len(rows)} products"
            message = f"{folder} has {found}, but its manifest says {info.pictures} of dimension {info.dimension}"
            raise StoreDamagedError(f"{message}; rebuild the index")
        return cls(info, vectors, rows)

    def without(self, rows: frozenset[int]) -> PictureIndex:
        """The same index without the pictures of some products."""
        return replace(self, masked=self.masked | rows) if rows - self.masked else self

    @cached_property
    def _allowed(self) -> Rows | None:
        """The places that count (n,); None if all do."""
        return np.flatnonzero(~np.isin(self.rows, sorted(self.masked))) if self.masked else None

    def nearest(self, query: Vectors, limit: int, allowed: Rows | None = None) -> NearestRows:
        """The products with the pictures nearest to `query` (dimension,), among the rows `allowed` if given."""
        places = self._allowed
        if allowed is not None:
            inside = np.flatnonzero(np.isin(self.rows, allowed))
            places = inside if places is None else np.intersect1d(places, inside, assume_unique=True)
        found = self.vectors.search(query, limit, places)
        return NearestRows(self.rows[found.rows], found.scores)

    def similarity(self, query: Vectors, rows: Rows) -> NDArray[np.float64]:
        """The cosine of `query` (dimension,) with the picture of each of `rows` (n,); NaN for a product without one."""
        places = self._places(rows)
        cosines = np.full(len(rows), np.nan)
        has_picture = places >= 0
        cosines[has_picture] = self.vectors.similarity(query, places[has_picture])
        return cosines

    def gains(self, query: Vectors, rows: Rows) -> NDArray[np.float64]:
        """The additions to the scores of some products (n,) by their pictures, for the vector of a text; 0 for a
        product without a picture, and if text and picture are unrelated."""
        similarity = self.info.background.standardise(self.similarity(query, rows))
        return WEIGHT * np.nan_to_num(similarity - FLOOR, nan=0.0).clip(min=0.0)

    @staticmethod
    def deviations(gain: float) -> float:
        """The deviations of text and picture above unrelated ones if the picture adds `gain` > 0: the inverse of
        `gains`."""
        return gain / WEIGHT + FLOOR

    def near(self, query: Vectors) -> Rows:
        """The products whose pictures fit the vector of a text, nearest first, at most `DEPTH`."""
        found = self.nearest(query, DEPTH)
        return found.rows[self.info.background.standardise(found.scores.astype(np.float64)) > FLOOR]

    def vector(self, row: int) -> Vectors | None:
        """The vector of a product's picture (dimension,); None for a product without a picture."""
        (place,) = self._places(np.array([row])).tolist()
        return self.vectors.vector(place) if place >= 0 else None

    def _places(self, rows: Rows) -> Rows:
        """The places of products (n,), or -1."""
        if not len(self.rows):
            return np.full(len(rows), -1)
        at = np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)
        is_there = self.rows[at] == rows
        if self.masked:
            is_there &= ~np.isin(rows, sorted(self.masked))
        return np.where(is_there, at, -1)
