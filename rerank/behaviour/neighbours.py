"""Neighbours of products: what the same shoppers have looked at, and what they have bought (item-based kNN).

The cosine between products over shoppers (Sarwar et al. 2001, Item-Based Collaborative Filtering Recommendation
Algorithms, section 3.1), shrunk by how many shoppers it rests on (Bell & Koren 2007, Improved Neighborhood-based
Collaborative Filtering, section 3).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from implicit.nearest_neighbours import ItemItemRecommender, normalize
from scipy.sparse import csr_matrix

from rerank.behaviour.acts import ACT_PART, VIEWS
from rerank.behaviour.decay import day_decay
from rerank.behaviour.options import Window
from rerank.behaviour.parts import WHO, Context, PartReader, TableMaker

_CANDIDATES = 6
"""How many times the neighbours wanted are looked at: some of them rest on too few shoppers."""
_ROWS = 1_000
"""Products whose shoppers in common are counted at once: it bounds the memory."""
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


def neighbours(read: PartReader, context: Context) -> pl.DataFrame:
    """One row a pair, by kind ("view" or "purchase"), product and rank (from 1).

    `shoppers` is how many did both; pairs of too few are left out.
    """
    acts = read(ACT_PART)
    kinds = {"view": VIEWS, "purchase": ("purchase",)}
    tables = [_of_kind(kind, acts.filter(pl.col("kind").is_in(which)), context) for kind, which in kinds.items()]
    return pl.concat(tables)


def neighbours_before(acts: pl.DataFrame, end: datetime, context: Context) -> pl.DataFrame:
    """That table as it stood at a time within the window: of the rows of `ACT_PART` before `end` alone."""
    before = acts.filter(pl.col("time") < end)
    window = Window(context.window.first, end - timedelta(milliseconds=1))
    return neighbours(lambda _part: before, replace(context, window=window))


def _of_kind(kind: str, acts: pl.DataFrame, context: Context) -> pl.DataFrame:
    least = context.options.least_shoppers
    # The last time counts: who looks at a thing again and again is one shopper.
    latest = day_decay(context.window, context.options.half_life).max()
    cells = acts.group_by(WHO, "product_id").agg(value=latest)
    # A pair cannot have more shoppers than each of its products.
    cells = cells.filter(pl.len().over("product_id") >= least).sort(WHO, "product_id")
    if cells.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    ids = cells["product_id"].unique().sort()
    return _ranked(kind, _pairs(_matrix(cells, ids), ids, context), context)


def _matrix(cells: pl.DataFrame, ids: pl.Series) -> csr_matrix:
    """Values (shoppers, products); products in the order of their ids."""
    columns = ids.to_frame().with_row_index("_column")
    rows = (cells[WHO].rank("dense") - 1).to_numpy()
    places = cells.join(columns, on="product_id", how="left", maintain_order="left")["_column"].to_numpy()
    shape = (int(rows.max()) + 1, len(ids))
    return csr_matrix((cells["value"].to_numpy(), (rows, places)), shape=shape)


def _pairs(matrix: csr_matrix, ids: pl.Series, context: Context) -> pl.DataFrame:
    model = ItemItemRecommender(K=1 + _CANDIDATES * context.options.neighbours, num_threads=1)
    # The products of unit columns are cosines: what CosineRecommender does, but for a warning about its own format.
    model.fit(normalize(matrix.T).T.tocsr(), show_progress=False)
    found = model.similarity.tocoo()
    apart = found.row != found.col
    row, column, cosine = found.row[apart], found.col[apart], found.data[apart]
    return pl.DataFrame(
        {
            "product_id": ids.gather(row),
            "neighbour_id": ids.gather(column),
            "cosine": cosine,
            "shoppers": _shoppers_in_common(matrix, row, column),
        },
        schema_overrides={"shoppers": pl.UInt32},
    )


def _shoppers_in_common(matrix: csr_matrix, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """How many shoppers each pair of products (rows, columns) has in common (pairs,)."""
    did = matrix.copy()
    did.data = np.ones_like(did.data)
    of_products = did.T.tocsr()
    counts = np.zeros(len(row), np.uint32)
    for start in range(0, of_products.shape[0], _ROWS):
        here = np.flatnonzero((row >= start) & (row < start + _ROWS))
        if len(here):
            common = (of_products[start : start + _ROWS] @ did).tocsr()
            counts[here] = np.asarray(common[row[here] - start, column[here]]).ravel()
    return counts


def _ranked(kind: str, pairs: pl.DataFrame, context: Context) -> pl.DataFrame:
    options = context.options
    supported = pairs.filter(pl.col("shoppers") >= options.least_shoppers)
    shrunk = pl.col("cosine") * pl.col("shoppers") / (pl.col("shoppers") + options.shrinkage)
    scored = supported.with_columns(kind=pl.lit(kind), similarity=shrunk.cast(pl.Float32))
    ordered = scored.sort("product_id", "similarity", "neighbour_id", descending=[False, True, False])
    ranked = ordered.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("product_id"))
    return ranked.filter(pl.col("rank") <= options.neighbours).select(_SCHEMA.names()).cast(_SCHEMA)


NEIGHBOURS = TableMaker("neighbours", (ACT_PART,), neighbours)
