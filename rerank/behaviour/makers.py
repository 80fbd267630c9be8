"""The derived tables that a refresh makes by default, besides `visits` and `aside`."""

from __future__ import annotations

from rerank.behaviour.labels import LABELS
from rerank.behaviour.neighbours import NEIGHBOURS
from rerank.behaviour.next_products import NEXT_PRODUCTS
from rerank.behaviour.parts import TableMaker
from rerank.behaviour.popularity import POPULARITY
from rerank.behaviour.query_categories import QUERY_CATEGORIES
from rerank.behaviour.query_changes import REFORMULATIONS
from rerank.behaviour.query_statistics import QUERIES
from rerank.behaviour.sequences import SEQUENCES

TABLES: tuple[TableMaker, ...] = (
    POPULARITY,
    NEIGHBOURS,
    QUERIES,
    REFORMULATIONS,
    QUERY_CATEGORIES,
    NEXT_PRODUCTS,
    SEQUENCES,
    LABELS,
)
