"""Click logs: shown result lists and their clicks as two matrices, with the resulting carts and purchases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shelfwise.retrieval.errors import InputError

if TYPE_CHECKING:
    import polars as pl


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def sums(places: npt.NDArray[np.integer], values: Floats | Flags, count: int) -> Floats:
    """(count,): the sum of the values at each index in `places`."""
    return np.asarray(np.bincount(places, values, count), np.float64)


NOTHING = -1
"""The value in `ClickLog.pairs` where no product was shown."""
_CELL = ["query_id", "position"]


@dataclass(frozen=True, slots=True, eq=False)
class ClickLog:
    """Result lists that were shown, earliest first, and their clicks.

    Raises InputError if the matrices have different shapes, or a pair is not below `count`.
    """

    pairs: Ints
    """(n, depth): the number of the pair of query and product at each position; -1 in gaps and past the end."""
    clicks: Flags
    """(n, depth): never true where nothing was shown."""
    count: int
    """The number of pairs; a part of a log keeps the numbering of the whole."""

    def __post_init__(self) -> None:
        if self.pairs.ndim != 2 or self.pairs.shape != self.clicks.shape:
            raise InputError(
                f"a click log has pairs {self.pairs.shape} and clicks {self.clicks.shape}: both must be (n, depth)"
            )
        if self.pairs.size and not NOTHING <= self.pairs.min() <= self.pairs.max() < self.count:
            highest = int(self.pairs.max())
            raise InputError(f"a click log counts {self.count:,} pairs and has number {highest:,}: count from 0")
        if bool((self.clicks & ~self.shown).any()):
            raise InputError("a click log has a click where nothing was shown: leave such clicks out")

    @property
    def size(self) -> int:
        return len(self.pairs)

    @property
    def depth(self) -> int:
        return int(self.pairs.shape[1])

    @property
    def shown(self) -> Flags:
        """(n, depth): whether a product was shown."""
        return np.asarray(self.pairs != NOTHING)

    def by_pair(self, chosen: Flags, values: Floats | None = None) -> Floats:
        """(pairs,): sums of `values` (n, depth), or counts, over the chosen places (n, depth)."""
        return sums(self.pairs[chosen], chosen[chosen] if values is None else values[chosen], self.count)

    def rows(self, chosen: slice | Flags) -> ClickLog:
        """The chosen lists; pairs keep their numbers."""
        return ClickLog(self.pairs[chosen], self.clicks[chosen], self.count)


def query_texts(events: pl.DataFrame) -> pl.DataFrame:
    """The text of each `query_id` for which an event has one: query_id, query; ordered by query_id.

    `events` has the columns query_id (empty: none), query (empty: not recorded) and time. If an id has different texts,
    the earliest is used, of equally early ones the first in alphabetical order.
    """
    import polars as pl

    texts = events.filter((pl.col("query_id") != "") & (pl.col("query") != ""))
    earliest = pl.col("query").sort_by("time", "query").first()
    return texts.group_by("query_id").agg(earliest).sort("query_id")


def click_log(events: pl.DataFrame, depth: int = 20) -> tuple[ClickLog, pl.DataFrame]:
    """The log of cleaned events: one row for each `query_id` with impressions, ordered by the first impression.

    `events` has the columns kind ("impression", "click"; only the query text of others is used), query_id (one shown
    answer; browsed pages have none, and are left out), query, product_id, position (from 1) and time. A list's query is
    that of `query_texts`, empty if no event has it. Positions beyond `depth` are left out. If a list was shown again,
    the first product of each position counts. A product may have two positions: a click counts at its own position, or
    at the product's highest one if its position is missing or another product's. Clicks on products that were not shown
    are left out.

    Also returns the table of pairs: pair (its number in the log), query, product_id.
    """
    import polars as pl

    shown = shown_places(events, depth)
    pairs = shown.select("query", "product_id").unique().sort("query", "product_id")
    pairs = pairs.with_row_index("pair").with_columns(pl.col("pair").cast(pl.Int32))
    cells = shown.join(pairs, on=["query", "product_id"], how="left").join(
        _clicked(events, shown), on=_CELL, how="left", maintain_order="left"
    )
    rows, columns = cells["row"].to_numpy(), cells["position"].to_numpy() - 1
    matrix = np.full((shown["query_id"].n_unique(), depth), NOTHING, np.int32)
    matrix[rows, columns] = cells["pair"].to_numpy()
    clicks = np.zeros(matrix.shape, np.bool_)
    clicks[rows, columns] = cells["clicked"].fill_null(value=False).to_numpy()
    return ClickLog(matrix, clicks, pairs.height), pairs


def shown_places(events: pl.DataFrame, depth: int = 20) -> pl.DataFrame:
    """One line for each place of each list: row (the list's in the log), query_id, position, query, product_id."""
    import polars as pl

    impressions = events.filter((pl.col("kind").cast(pl.String) == "impression") & (pl.col("query_id") != ""))
    first = (
        impressions.filter(pl.col("position").is_between(1, depth))
        .sort("time", "query_id", "position", maintain_order=True)
        .unique(_CELL, keep="first", maintain_order=True)
    )
    rows = first.select(pl.col("query_id").unique(maintain_order=True)).with_row_index("row")
    # A list is one answer to one query; other query texts in its events are ignored.
    joined = first.drop("query").join(rows, on="query_id").join(query_texts(events), on="query_id", how="left")
    joined = joined.with_columns(pl.col("query").fill_null(""))
    return joined.sort("row", "position").select("row", *_CELL, "query", "product_id")


def _clicked(events: pl.DataFrame, shown: pl.DataFrame) -> pl.DataFrame:
    """The distinct places that were clicked."""
    import polars as pl

    clicks = events.filter(pl.col("kind").cast(pl.String) == "click").select("query_id", "product_id", "position")
    highest = shown.group_by("query_id", "product_id").agg(pl.col("position").min().alias("highest"))
    named = shown.select(*_CELL, "product_id", pl.lit(value=True).alias("named"))
    return (
        clicks.join(highest, on=["query_id", "product_id"])
        .join(named, on=[*_CELL, "product_id"], how="left")
        .select("query_id", pl.when("named").then("position").otherwise("highest").alias("position"))
        .unique()
        .with_columns(clicked=pl.lit(value=True))
    )


Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """The carts and purchases that resulted from a log's lists."""

    log: ClickLog
    pairs: pl.DataFrame
    """pair, query, product_id: in the order of the pairs."""
    query: Ints
    """(pairs,): the query number of each pair."""
    cart_rows: Indices
    """(carts,): the list of each cart; at most one per list and product."""
    cart_pairs: Indices
    """(carts,)"""
    purchase_rows: Indices
    """(purchases,)"""
    purchase_pairs: Indices
    """(purchases,)"""
    unattributed: int
    """Carts and purchases of products that their list did not show, or without a list: left out."""

    @property
    def acts(self) -> Flags:
        """(n, depth, 3): whether the product at each position was clicked, carted, bought; a cart or purchase counts at
        its product's highest position."""
        pairs = self.log.pairs
        acts = np.zeros((*pairs.shape, 3), np.bool_)
        acts[..., 0] = self.log.clicks
        led = (self.cart_rows, self.cart_pairs), (self.purchase_rows, self.purchase_pairs)
        for output, (rows, of) in enumerate(led, 1):
            acts[rows, (pairs[rows] == of[:, None]).argmax(axis=1), output] = True
        return acts

    def carts(self, begin: int, end: int) -> Floats:
        """(pairs,): the number of carts from the lists of rows `begin` to before `end`."""
        return _counted(self.cart_rows, self.cart_pairs, begin, end, self.log.count)

    def purchases(self, begin: int, end: int) -> Floats:
        """(pairs,): the number of purchases from these lists."""
        return _counted(self.purchase_rows, self.purchase_pairs, begin, end, self.log.count)


def outcomes(events: pl.DataFrame, depth: int = 20) -> Outcomes:
    """Reads events with the columns of `click_log`; here the kinds "cart" and "purchase" count."""
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
    """The rows and pairs of one kind of event, and the number of events without any."""
    import polars as pl

    made = events.filter(pl.col("kind").cast(pl.String) == kind).select("query_id", "product_id").unique()
    found = places.join(made, on=["query_id", "product_id"], how="semi", maintain_order="left")
    rows, pairs = (found[column].to_numpy().astype(np.int64) for column in ("row", "pair"))
    return (rows, pairs), made.height - found.height


def _counted(rows: Indices, pairs: Indices, begin: int, end: int, count: int) -> Floats:
    inside = (rows >= begin) & (rows < end)
    return sums(pairs[inside], np.ones(int(inside.sum())), count)
