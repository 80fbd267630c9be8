"""Derived tables of products: popularity and neighbours."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import scipy  # loads each submodule at its first use: a service starts without them

from shelfwise.rerank.sessions.decay import (
    ACT_COUNTS,
    ACT_PARTIAL,
    COUNT_PARTIAL,
    HALF_LIFE,
    VIEWS,
    add_trend,
    day_decay,
    exact_sum,
)
from shelfwise.rerank.sessions.options import ACT_WEIGHTS, Window
from shelfwise.rerank.sessions.partitions import WHO, Context, PartialReader, TableMaker
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store

_COUNTS = ("impressions", "clicks", "consultations", "carts", "purchases")


def popularity(read: PartialReader, context: Context) -> pl.DataFrame:
    """One row a product, by category and rank; products with too few shoppers are left out.

    Ranks count the remaining products from 1 within each category (the whole path).
    """
    daily = read(COUNT_PARTIAL)
    counts = daily.group_by("product_id").agg(pl.col(_COUNTS).sum())
    shoppers = read(ACT_PARTIAL).group_by("product_id").agg(shoppers=pl.col(WHO).n_unique())
    scores = add_trend(daily, "product_id", weighted_acts(), context.window)
    table = counts.join(shoppers, on="product_id").join(scores, on="product_id")
    table = add_category(table.filter(pl.col("shoppers") >= context.options.least_shoppers), context.products)
    ranked = table.sort("category", "score", "product_id", descending=[False, True, False])
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("category")
    return ranked.select("product_id", "category", *_COUNTS, "shoppers", "score", "trend", rank=rank)


def scores_before(acts: pl.DataFrame, end: datetime, context: Context) -> pl.DataFrame:
    """product_id and score of `popularity` as of `end`, a time within its window: only rows of `ACT_PARTIAL` from
    before `end` count, so that training on later events does not use them."""
    before = acts.filter(pl.col("time") < end)
    daily = before.group_by("product_id", "day").agg(**ACT_COUNTS)
    window = Window(context.window.first, end - timedelta(milliseconds=1))
    amount = weighted_acts() * day_decay(window, HALF_LIFE)
    scores = daily.group_by("product_id").agg(score=exact_sum(amount))
    shoppers = before.group_by("product_id").agg(shoppers=pl.col(WHO).n_unique())
    known = scores.join(shoppers, on="product_id").filter(pl.col("shoppers") >= context.options.least_shoppers)
    return known.select("product_id", "score").sort("product_id")


def weighted_acts() -> pl.Expr:
    """The sum of a row's counts, weighted by kind."""
    return pl.sum_horizontal(weight * pl.col(name) for name, weight in ACT_WEIGHTS.items())


def add_category(table: pl.DataFrame, products: pl.DataFrame | None) -> pl.DataFrame:
    """The table with the `category` of its `product_id`; empty if it is not known."""
    if products is None:
        return table.with_columns(category=pl.lit(""))
    categories = products.select("product_id", "category").unique("product_id", keep="first")
    joined = table.join(categories, on="product_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("category").fill_null(""))


POPULARITY = TableMaker("popularity", (COUNT_PARTIAL, ACT_PARTIAL), popularity)


_NEIGHBOURS = 50
"""The largest number of neighbours of a product."""
SHRINKAGE = 10.0
"""The number of common shoppers at which a similarity counts half."""
_CANDIDATES = 6
"""Candidates per neighbour, since some have too few shoppers."""
_ROWS = 1_000
"""The number of products whose pairs are computed at once; bounds the memory."""
_SCHEMA = pl.Schema(
    {
        "kind": pl.String(),
        "product_id": pl.String(),
        "neighbour_id": pl.String(),
        "similarity": pl.Float32(),
        "shoppers": pl.UInt32(),
        "rank": pl.UInt32(),
    }
)


def neighbours(read: PartialReader, context: Context) -> pl.DataFrame:
    """One row a pair, by kind ("view" or "purchase"), product and rank (from 1).

    The similarity is the cosine between products over shoppers (Sarwar et al. 2001, Item-Based Collaborative Filtering
    Recommendation Algorithms, section 3.1), shrunk by the number of common shoppers (Bell & Koren 2007, Improved
    Neighborhood-based Collaborative Filtering, section 3), in `shoppers`. Pairs with too few are left out.
    """
    acts = read(ACT_PARTIAL)
    kinds = {"view": VIEWS, "purchase": ("purchase",)}
    tables = [_of_kind(kind, acts.filter(pl.col("kind").is_in(which)), context) for kind, which in kinds.items()]
    return pl.concat(tables)


def _of_kind(kind: str, acts: pl.DataFrame, context: Context) -> pl.DataFrame:
    least = context.options.least_shoppers
    # Only the last act of a shopper on a product counts.
    latest = day_decay(context.window, HALF_LIFE).max()
    cells = acts.group_by(WHO, "product_id").agg(value=latest)
    # A pair cannot have more shoppers than either of its products.
    cells = cells.filter(pl.len().over("product_id") >= least).sort(WHO, "product_id")
    if cells.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    ids = cells["product_id"].unique().sort()
    return _ranked(kind, _pairs(_matrix(cells, ids), ids), context)


def _matrix(cells: pl.DataFrame, ids: pl.Series) -> scipy.sparse.csr_matrix:
    """Values (shoppers, products), with products ordered by id."""
    columns = ids.to_frame().with_row_index("_column")
    rows = (cells[WHO].rank("dense") - 1).to_numpy()
    places = cells.join(columns, on="product_id", how="left", maintain_order="left")["_column"].to_numpy()
    shape = (int(rows.max()) + 1, len(ids))
    return scipy.sparse.csr_matrix((cells["value"].to_numpy(), (rows, places)), shape=shape)


def _pairs(matrix: scipy.sparse.csr_matrix, ids: pl.Series) -> pl.DataFrame:
    """The cosine of each product with those of the highest cosine, and the number of their common shoppers."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
    units = (matrix @ scipy.sparse.diags(1 / lengths)).tocsr()
    ones = matrix.copy()
    ones.data = np.ones_like(ones.data)
    most = _CANDIDATES * _NEIGHBOURS
    blocks = []
    for start in range(0, len(ids), _ROWS):
        block = slice(start, start + _ROWS)
        cosines, common = ((each[:, block].T @ each).tocsr().sorted_indices().tocoo() for each in (units, ones))
        columns = {"row": cosines.row, "column": cosines.col, "cosine": cosines.data, "shoppers": common.data}
        pairs = pl.DataFrame(columns).with_columns(pl.col("row") + start).filter(pl.col("row") != pl.col("column"))
        ordered = pairs.sort("row", "cosine", "column", descending=[False, True, False])
        blocks.append(ordered.group_by("row", maintain_order=True).head(most))
    found = pl.concat(blocks)
    return found.select(
        "cosine",
        pl.col("shoppers").cast(pl.UInt32),
        product_id=ids.gather(found["row"]),
        neighbour_id=ids.gather(found["column"]),
    )


def _ranked(kind: str, pairs: pl.DataFrame, context: Context) -> pl.DataFrame:
    supported = pairs.filter(pl.col("shoppers") >= context.options.least_shoppers)
    similarity = pl.col("cosine") * pl.col("shoppers") / (pl.col("shoppers") + SHRINKAGE)
    scored = supported.with_columns(kind=pl.lit(kind), similarity=similarity.cast(pl.Float32))
    ordered = scored.sort("product_id", "similarity", "neighbour_id", descending=[False, True, False])
    ranked = ordered.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("product_id"))
    return ranked.filter(pl.col("rank") <= _NEIGHBOURS).select(_SCHEMA.names()).cast(_SCHEMA)


NEIGHBOURS = TableMaker("neighbours", (ACT_PARTIAL,), neighbours)


_PRODUCTS_SCHEMA = pl.Schema(
    {
        "product_id": pl.String(),
        "category": pl.String(),
        "created": pl.Datetime("ms", "UTC"),
        "brand": pl.String(),
        "price": pl.Float64(),
    }
)


def product_table(store: Store) -> pl.DataFrame:
    """The products of the serving version, by id: product_id, category (path), brand, and created and price (null if
    not known).

    Raises StoreMissingError if nothing is published, StoreDamagedError if the version cannot be read.
    """
    products = ProductStore(store.version_folder(store.current()))
    rows = []
    for row in range(len(products)):
        product = products[row]
        path = CATEGORY_SEPARATOR.join(product.category)
        rows.append((product.id, path, product.created, product.brand, product.price))
    return pl.DataFrame(rows, schema=_PRODUCTS_SCHEMA, orient="row")
