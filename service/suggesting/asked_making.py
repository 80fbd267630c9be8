"""Makes what shoppers asked out of the derived tables: the queries that are suggested, and which go with which.

Two queries go together where shoppers replaced one by the other, and where the same products were chosen after both
(Baeza-Yates & Tiberi 2007, Extracting Semantic Relations from Query Logs: the click cover graph). Both are queries that
enough shoppers asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from rerank.behaviour.derived import Derived
from rerank.behaviour.options import ActWeights
from service.suggesting.asked import AskedQuery, asked_key

MOST_QUERIES = 20_000
MOST_RELATED = 16
LEAST_NEAR = 0.1
"""Of a cosine, or a share of changes, from which on two queries go together."""
_SHRINKAGE = 2.0
"""Products in common at which a cosine counts half."""
_BACKWARDS = 0.5
"""What a change to a query counts for as a way back from it."""
_AT_ONCE = 1_000


def asked_queries(derived: Derived) -> list[AskedQuery]:
    """The queries of the tables, those that are asked most of late first."""
    table = derived.queries.with_columns(_asked=pl.col("searches") * 2.0 ** pl.col("trend").fill_null(0).clip(-1, 1))
    table = table.sort("_asked", "query", descending=[True, False]).head(MOST_QUERIES)
    related = _related(table["query"].to_list(), derived)
    return [
        AskedQuery(
            row["spelling"],
            row["searches"],
            sells=row["purchases"] > 0,
            leads=row["clicks"] > 0 and 2 * row["empty"] < row["searches"],
            related=related.get(at, ()),
        )
        for at, row in enumerate(table.iter_rows(named=True))
    ]


def _related(queries: list[str], derived: Derived) -> Mapping[int, tuple[int, ...]]:
    places = {query: at for at, query in enumerate(queries)}
    near: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for one, other, nearness in (*_replaced(places, derived), *_chosen_alike(places, derived)):
        near[one][other] += nearness
    keys = [asked_key(query) for query in queries]
    found = {}
    for one, others in near.items():
        ranked = sorted((-nearness, other) for other, nearness in others.items() if nearness >= LEAST_NEAR)
        found[one] = tuple(other for _, other in ranked if keys[other] != keys[one])[:MOST_RELATED]
    return found


def _replaced(places: Mapping[str, int], derived: Derived) -> Iterator[tuple[int, int, float]]:
    """Which query was replaced by which, as a share of all times that it was replaced."""
    table = derived.reformulations
    whole = dict(table.group_by("query").agg(pl.col("count").sum()).iter_rows())
    for query, to_query, count in table.select("query", "to_query", "count").iter_rows():
        one, other = places.get(query), places.get(to_query)
        if one is not None and other is not None:
            yield one, other, count / whole[query]
            yield other, one, _BACKWARDS * count / whole[query]


def _chosen_alike(places: Mapping[str, int], derived: Derived) -> Iterator[tuple[int, int, float]]:
    """The cosines of queries over the products that were chosen after them."""
    acts = ActWeights()
    weight = pl.col("clicks") + acts.cart * pl.col("carts") + acts.purchase * pl.col("purchases")
    chosen = derived.labels.filter(pl.col("query").is_in(list(places))).with_columns(_weight=weight)
    chosen = chosen.filter(pl.col("_weight") > 0)
    products = {product: at for at, product in enumerate(chosen["product_id"].unique().sort().to_list())}
    rows = np.array([places[query] for query in chosen["query"].to_list()], np.int64)
    columns = np.array([products[product] for product in chosen["product_id"].to_list()], np.int64)
    values = np.log1p(chosen["_weight"].to_numpy().astype(np.float64))
    shape = (len(places), max(len(products), 1))
    norms = np.sqrt(np.bincount(rows, values**2, len(places)))
    vectors = csr_array((values / norms[rows], (rows, columns)), shape=shape)
    there = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    for start in range(0, len(places), _AT_ONCE):
        cosines = (vectors[start : start + _AT_ONCE] @ vectors.T).tocoo()
        common = (there[start : start + _AT_ONCE] @ there.T).tocsr()
        for one, other, cosine in zip(cosines.row.tolist(), cosines.col.tolist(), cosines.data.tolist(), strict=True):
            if start + one != other:
                shared = float(common[one, other])
                yield start + one, other, cosine * shared / (shared + _SHRINKAGE)
