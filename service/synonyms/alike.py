"""How alike queries are by what was chosen after them: the click cover graph of Baeza-Yates & Tiberi 2007, Extracting
Semantic Relations from Query Logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from rerank.behaviour.options import ActWeights

_SHRINKAGE = 2.0
"""Products in common at which a cosine counts half."""
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Alike:
    """Two queries by their places, the first before the second, and how alike they are, 0 to 1."""

    one: int
    other: int
    alike: float


def alike_by_products(queries: Sequence[str], labels: pl.DataFrame, least: float) -> Iterator[Alike]:
    """The pairs of queries after which the same products were chosen; few products in common count for less."""
    acts = ActWeights()
    weight = pl.col("clicks") + acts.cart * pl.col("carts") + acts.purchase * pl.col("purchases")
    vectors = _vectors(queries, labels.select("query", "product_id", weight.alias("weight")), "product_id")
    there = vectors.copy()
    there.data = np.ones_like(there.data)
    for start in range(0, len(queries), _AT_ONCE):
        cosines = (vectors[start : start + _AT_ONCE] @ vectors.T).tocsr()
        common = (there[start : start + _AT_ONCE] @ there.T).tocsr()
        # Both have the same pattern, in the same order.
        cosines.sort_indices()
        common.sort_indices()
        found = (cosines.data * common.data / (common.data + _SHRINKAGE)).tolist()
        rows = np.repeat(np.arange(start, start + cosines.shape[0]), np.diff(cosines.indptr)).tolist()
        for one, other, alike in zip(rows, cosines.indices.tolist(), found, strict=True):
            if one < other and alike >= least:
                yield Alike(one, other, alike)


class Categories:
    """Which categories queries lead to."""

    def __init__(self, queries: Sequence[str], query_categories: pl.DataFrame) -> None:
        vectors = _vectors(queries, query_categories.select("query", "category", "weight"), "category")
        ends, categories, sizes = vectors.indptr.tolist(), vectors.indices.tolist(), vectors.data.tolist()
        self._of = [dict(zip(categories[start:end], sizes[start:end], strict=True)) for start, end in pairwise(ends)]

    def agree(self, one: int, other: int) -> float:
        """The cosine of two queries' categories; 1 where too little is known of one of them."""
        left, right = self._of[one], self._of[other]
        return sum(size * right.get(category, 0.0) for category, size in left.items()) if left and right else 1.0


def _vectors(queries: Sequence[str], weights: pl.DataFrame, column: str) -> csr_array:
    """(queries, values of the column) of unit length, of logarithms of weights."""
    places = {query: at for at, query in enumerate(queries)}
    known = weights.filter(pl.col("query").is_in(list(places)) & (pl.col("weight") > 0)).sort("query", column)
    values = {value: at for at, value in enumerate(known[column].unique().sort().to_list())}
    rows = np.array([places[query] for query in known["query"].to_list()], np.int64)
    columns = np.array([values[value] for value in known[column].to_list()], np.int64)
    sizes = np.log1p(known["weight"].to_numpy().astype(np.float64))
    norms = np.sqrt(np.bincount(rows, sizes**2, len(places)))
    return csr_array((sizes / norms[rows], (rows, columns)), shape=(len(places), max(len(values), 1)))
