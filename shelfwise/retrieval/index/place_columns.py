"""The places of an index's products in columns, for areas and distances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.filters.places import Area, distances
from shelfwise.retrieval.index.keyword import Rows
from shelfwise.retrieval.index.vectors import places_of
from shelfwise.retrieval.records import Place
from shelfwise.retrieval.store.files import load_array

PLACES_FILE = "places.npy"


@dataclass(frozen=True, slots=True, eq=False)
class PlaceColumns:
    """The places of products. `table` (m, 3) has a row, a latitude and a longitude; a product may have several."""

    table: NDArray[np.float64]

    @classmethod
    def of(cls, places: Iterable[tuple[int, Sequence[tuple[float, float]]]]) -> PlaceColumns:
        """The columns of rows, given with the latitudes and longitudes of their places."""
        lines = [(row, lat, lng) for row, each in places for lat, lng in each]
        return cls(np.array(lines, np.float64).reshape(-1, 3))

    @classmethod
    def load(cls, folder: Path) -> PlaceColumns:
        """The columns in an index's folder; raises StoreDamagedError."""
        table = load_array(folder / PLACES_FILE, mapped=True)
        if table.ndim != 2 or table.shape[1] != 3 or table.dtype != np.float64:
            message = f"{folder / PLACES_FILE} has {table.dtype}{table.shape}, not places; rebuild the index"
            raise StoreDamagedError(message)
        return cls(table)

    def save(self, folder: Path) -> None:
        np.save(folder / PLACES_FILE, self.table)

    def replace(self, rows: Iterable[int], others: PlaceColumns) -> PlaceColumns:
        """These columns, with the places of some rows replaced by those of `others`."""
        is_replaced = np.isin(self.table[:, 0], list(rows))
        if not is_replaced.any() and not len(others.table):
            return self
        return PlaceColumns(np.concatenate([self.table[~is_replaced], others.table]))

    def rows(self, area: Area | None = None) -> Rows:
        """The rows with a place, ascending; with `area`, the rows with a place in it."""
        row, lat, lng = self.table.T
        return np.unique(row if area is None else row[area.contains(lat, lng)]).astype(np.int64)

    def distances(self, rows: Rows, place: Place) -> NDArray[np.float64]:
        """The distance (n,) in metres from a place to the nearest place of each row; NaN for a row without places."""
        found = np.full(len(rows), np.inf)
        row, lat, lng = self.table.T
        at = places_of(row.astype(np.int64), rows)
        np.minimum.at(found, at[at >= 0], distances(place, lat, lng)[at >= 0])
        return np.where(np.isinf(found), np.nan, found)
