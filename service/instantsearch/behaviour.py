"""What shoppers chose, as recommendations need it: read from the tables of events, again when those were made anew."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from rerank.behaviour.derived import open_derived
from rerank.behaviour.publishing import DERIVED
from retrieval.errors import StoreError
from retrieval.manifest import file_stamp
from retrieval.store_files import EVENTS_FOLDER
from service.event_log import DERIVED_FOLDER
from service.popularity import ServedPopularity

_NOTHING = pl.DataFrame(schema={"product_id": pl.String(), "neighbour_id": pl.String(), "similarity": pl.Float32()})


class ServedBehaviour:
    """The behaviour of one store's shoppers. Safe to share between threads."""

    def __init__(self, root: Path) -> None:
        self._folder = root / EVENTS_FOLDER / DERIVED_FOLDER
        self._popularity = ServedPopularity(root)
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._bought = _NOTHING

    def popularity(self) -> Mapping[str, float]:
        """The products that were chosen of late, each one's score as a share of the highest."""
        self._popularity.look()
        return self._popularity.now.shares

    def bought_with(self, product_id: str, most: int) -> dict[str, float]:
        """What the same shoppers bought, nearest first: the cosine of the two over shoppers. Nothing where too few did,
        or where no tables can be read."""
        found = self._neighbours().filter(pl.col("product_id") == product_id).head(most)
        return dict(zip(found["neighbour_id"].to_list(), found["similarity"].to_list(), strict=True))

    def _neighbours(self) -> pl.DataFrame:
        seen = file_stamp(self._folder / DERIVED)
        with self._lock:
            if seen != self._seen:
                self._bought, self._seen = _read(self._folder), seen
            return self._bought


def _read(folder: Path) -> pl.DataFrame:
    try:
        table = open_derived(folder).neighbours
    except StoreError:
        return _NOTHING
    bought = table.filter(pl.col("kind") == "purchase").sort("product_id", "rank")
    return bought.select(_NOTHING.columns)
