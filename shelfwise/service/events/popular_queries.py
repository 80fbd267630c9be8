"""Popular queries and their related queries, from the derived tables.

INDEX/popular_queries.json contains the queries that enough shoppers typed, under a checksum. Each refresh replaces it,
and engines reload it. It has no query of fewer shoppers than `events.minimum_shoppers`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR
from shelfwise.retrieval.store.files import SealedFile
from shelfwise.retrieval.store.manifest import POPULAR_QUERIES_FILE
from shelfwise.retrieval.text.vocabulary import WordPostings, index_words, postings_of, words_of
from shelfwise.service.events.signals import CURE

if TYPE_CHECKING:
    import polars as pl
    from scipy.sparse import csr_array

    from shelfwise.rerank.sessions.tables import DerivedTables


SCHEMA = 1
"""Incremented when the file changes so that an older program cannot read it."""
MAX_BYTES = 64 << 20


class PopularQuery(msgspec.Struct, frozen=True):
    """A query of enough shoppers."""

    text: str
    """The most frequent spelling."""
    searches: int
    has_purchases: bool = False
    """Whether the query led to purchases."""
    is_suggested: bool = False
    """Whether it finds what shoppers choose; only then it is suggested."""
    related: tuple[int, ...] = ()
    """Positions of the related queries, nearest first."""
    category: str = ""
    """Last name of the category of most acts on its hits; empty if no category has enough."""
    pages: tuple[tuple[str, int], ...] = ()
    """Ids of the products on whose pages enough shoppers asked it, with the number of times, most frequent first."""


_FILE = SealedFile(SCHEMA, CURE, "queries", msgspec.json.Decoder(tuple[PopularQuery, ...]))


@dataclass(frozen=True)
class PopularQueries:
    """The queries of a store, most frequent first."""

    queries: tuple[PopularQuery, ...] = ()

    @cached_property
    def places(self) -> Mapping[tuple[str, ...], int]:
        """Position of each query by its words in any order; of several with the same words, the most frequent."""
        return {query_key(query.text): at for at, query in reversed(list(enumerate(self.queries)))}

    @cached_property
    def postings(self) -> WordPostings:
        """The queries that contain each word."""
        return postings_of(
            [[part for word in words_of(each.text) for part in index_words(word)] for each in self.queries]
        )

    @cached_property
    def purchase_words(self) -> frozenset[str]:
        """The words of queries that led to purchases."""
        return frozenset(word for each in self.queries if each.has_purchases for word in words_of(each.text))

    def category_of(self, text: str) -> str:
        """The category of most acts on the hits of a query, or empty."""
        place = self.places.get(query_key(text))
        return "" if place is None else self.queries[place].category

    def prepare(self) -> None:
        """Computes the indexes of the queries in advance, so that no search waits for them."""
        _ = self.places, self.postings, self.purchase_words


NO_QUERIES = PopularQueries()


def query_key(text: str) -> tuple[str, ...]:
    """Key of a query, equal for queries with the same words."""
    return tuple(sorted(words_of(text)))


def write_popular_queries(root: Path, queries: Sequence[PopularQuery], made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError if it cannot be written."""
    _FILE.write(root / POPULAR_QUERIES_FILE, tuple(queries), made)


def read_popular_queries(root: Path) -> PopularQueries:
    """The queries in the file of an index directory; NO_QUERIES if there is none.

    Raises StoreDamagedError for a file that cannot be read or is damaged, StoreForeignError for one of another schema.
    """
    queries = _FILE.read(root / POPULAR_QUERIES_FILE, MAX_BYTES, _problem)
    return NO_QUERIES if queries is None else PopularQueries(queries)


def _problem(queries: tuple[PopularQuery, ...]) -> str:
    is_right = all(0 <= at < len(queries) for query in queries for at in query.related)
    return "" if is_right else "refers to related queries that it does not contain"


MAX_QUERIES = 20_000
MAX_RELATED = 16
_MIN_WEIGHT, _MIN_PROBABILITY = 20.0, 0.5
"""Minimum weight of acts in a category for a query, and minimum probability of the category."""
MIN_NEAR = 0.1
"""Minimum cosine, or share of changes, for two queries to be related."""
_SHRINKAGE = 2.0
"""Number of common products at which a cosine counts half."""
_BACKWARDS = 0.5
"""Weight of a change in the reverse direction."""
_AT_ONCE = 1_000


def popular_queries(derived: DerivedTables) -> list[PopularQuery]:
    """The queries of the tables, those most frequent recently first."""
    import polars as pl

    table = derived.queries.with_columns(_weight=pl.col("searches") * 2.0 ** pl.col("trend").fill_null(0).clip(-1, 1))
    table = table.sort("_weight", "query", descending=[True, False]).head(MAX_QUERIES)
    related = _related(table["query"].to_list(), derived)
    likely = (pl.col("weight") >= _MIN_WEIGHT) & (pl.col("probability") > _MIN_PROBABILITY)
    leaf = pl.col("category").str.split(CATEGORY_SEPARATOR).list.last()
    categories = dict(derived.query_categories.filter(likely).select("query", leaf).iter_rows())
    pages: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for query, product_id, times in derived.page_questions.select("query", "product_id", "times").iter_rows():
        pages[query].append((product_id, times))
    return [
        PopularQuery(
            row["spelling"],
            row["searches"],
            has_purchases=row["purchases"] > 0,
            is_suggested=row["clicks"] > 0 and 2 * row["empty"] < row["searches"],
            related=related.get(at, ()),
            category=categories.get(row["query"], ""),
            pages=tuple(pages.get(row["query"], ())),
        )
        for at, row in enumerate(table.iter_rows(named=True))
    ]


def _related(queries: list[str], derived: DerivedTables) -> Mapping[int, tuple[int, ...]]:
    import polars as pl

    near: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    places = {query: at for at, query in enumerate(queries)}
    table = derived.reformulations
    whole = dict(table.group_by("query").agg(pl.col("count").sum()).iter_rows())
    for query, to_query, count in table.select("query", "to_query", "count").iter_rows():
        if query in places and to_query in places:
            # The share of all replacements of the query.
            near[places[query]][places[to_query]] += count / whole[query]
            near[places[to_query]][places[query]] += _BACKWARDS * (count / whole[query])
    for one, other, nearness in similar_by_products(queries, derived.labels):
        near[one][other] += nearness
        near[other][one] += nearness
    keys = [query_key(query) for query in queries]
    found = {}
    for one, others in near.items():
        ranked = sorted((-nearness, other) for other, nearness in others.items() if nearness >= MIN_NEAR)
        found[one] = tuple(other for _, other in ranked if keys[other] != keys[one])[:MAX_RELATED]
    return found


def similar_by_products(queries: Sequence[str], labels: pl.DataFrame) -> Iterator[tuple[int, int, float]]:
    """The pairs of queries after which the same products were chosen: their numbers, the smaller first, and their
    similarity, 0 to 1.

    The click cover graph of Baeza-Yates & Tiberi 2007, Extracting Semantic Relations from Query Logs; few common
    products count for less.
    """
    import polars as pl

    from shelfwise.rerank.sessions.options import ACT_WEIGHTS

    acts = ACT_WEIGHTS
    weight = pl.col("clicks") + acts["carts"] * pl.col("carts") + acts["purchases"] * pl.col("purchases")
    vectors = query_vectors(queries, labels.select("query", "product_id", weight.alias("weight")), "product_id")
    there = vectors.copy()
    there.data = np.ones_like(there.data)
    for start in range(0, len(queries), _AT_ONCE):
        cosines = (vectors[start : start + _AT_ONCE] @ vectors.T).tocsr()
        common = (there[start : start + _AT_ONCE] @ there.T).tocsr()
        # Both have the same sparsity pattern, in the same order.
        cosines.sort_indices()
        common.sort_indices()
        found = (cosines.data * common.data / (common.data + _SHRINKAGE)).tolist()
        rows = np.repeat(np.arange(start, start + cosines.shape[0]), np.diff(cosines.indptr)).tolist()
        for one, other, alike in zip(rows, cosines.indices.tolist(), found, strict=True):
            if one < other:
                yield one, other, alike


def query_vectors(queries: Sequence[str], weights: pl.DataFrame, column: str) -> csr_array:
    """Shape (queries, values of the column): unit vectors of log weights."""
    import polars as pl
    from scipy.sparse import csr_array

    places = {query: at for at, query in enumerate(queries)}
    known = weights.filter(pl.col("query").is_in(list(places)) & (pl.col("weight") > 0)).sort("query", column)
    values = {value: at for at, value in enumerate(known[column].unique().sort().to_list())}
    rows = np.array([places[query] for query in known["query"].to_list()], np.int64)
    columns = np.array([values[value] for value in known[column].to_list()], np.int64)
    sizes = np.log1p(known["weight"].to_numpy().astype(np.float64))
    norms = np.sqrt(np.bincount(rows, sizes**2, len(places)))
    return csr_array((sizes / norms[rows], (rows, columns)), shape=(len(places), max(len(values), 1)))
