"""A store's events as the log of clicks, and the carts and purchases that its lists led to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rerank.clicks.arrays import Floats, Ints, sums
from rerank.clicks.click_log import ClickLog, click_log, shown_places

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What a log's lists led to."""

    log: ClickLog
    pairs: pl.DataFrame
    """pair, query, product_id: in the order of the pairs."""
    query: Ints
    """(pairs,): the number of each pair's query."""
    cart_rows: Indices
    """(carts,): from which list each came; one a list and product."""
    cart_pairs: Indices
    """(carts,)"""
    purchase_rows: Indices
    """(purchases,)"""
    purchase_pairs: Indices
    """(purchases,)"""
    unattributed: int
    """Carts and purchases of products that their list did not show, or of no list: left out."""

    def carts(self, begin: int, end: int) -> Floats:
        """(pairs,): how many carts the lists from row `begin` to before `end` led to."""
        return _counted(self.cart_rows, self.cart_pairs, begin, end, self.log.count)

    def purchases(self, begin: int, end: int) -> Floats:
        """(pairs,): the same of purchases."""
        return _counted(self.purchase_rows, self.purchase_pairs, begin, end, self.log.count)


def outcomes(events: pl.DataFrame, depth: int = 20) -> Outcomes:
    """Reads events of the columns that `click_log` takes; kinds "cart" and "purchase" count here."""
    log, pairs = click_log(events, depth)
    places = (
        shown_places(events, depth)
        .join(pairs, on=["query", "product_id"])
        .select("row", "query_id", "product_id", "pair")
    )
    places = places.unique(["query_id", "product_id"]).sort("row", "pair")
    carts, lost_carts = _attributed(events, "cart", places)
    purchases, lost_purchases = _attributed(events, "purchase", places)
    query = pairs["query"].rle_id().to_numpy().astype(np.int32)
    return Outcomes(log, pairs, query, *carts, *purchases, lost_carts + lost_purchases)


def _attributed(events: pl.DataFrame, kind: str, places: pl.DataFrame) -> tuple[tuple[Indices, Indices], int]:
    """The rows and pairs of one kind of event, and how many have none."""
    made = events.filter(pl.col("kind").cast(pl.String) == kind).select("query_id", "product_id").unique()
    found = places.join(made, on=["query_id", "product_id"], how="semi", maintain_order="left")
    rows, pairs = (found[column].to_numpy().astype(np.int64) for column in ("row", "pair"))
    return (rows, pairs), made.height - found.height


def _counted(rows: Indices, pairs: Indices, begin: int, end: int, count: int) -> Floats:
    inside = (rows >= begin) & (rows < end)
    return sums(pairs[inside], np.ones(int(inside.sum())), count)
