"""LanceDB under the complaint suite: its hybrid search with reciprocal rank fusion, run in a separate environment.

It follows LanceDB's guides: a full-text index on the searched column, scalar indexes on filtered ones, hybrid queries
with the filter before the search, `distance_range` against distant neighbours, `limit` and `offset` for pages. Fuzzy
words find no more of the suite's misspellings than vectors do, and hide product numbers, so words must match exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import lancedb
from lancedb.index import FTS
from lancedb.query import ColumnOrdering
from lancedb.rerankers import RRFReranker

from shelfwise.benchmarks.peers.complaints.engine import MEANING_FLOOR, Answer, Condition, Listing, Search
from shelfwise.benchmarks.peers.complaints.peer_engine import ComplaintAdapter


class LanceComplaints(ComplaintAdapter):
    """One table."""

    packages = ("lancedb",)
    lacks = MappingProxyType(
        {
            "total": "a search returns rows, and count_rows counts those of a filter only",
            "facets": "a search has no aggregations",
            "group": "a search cannot collapse rows",
            "highlight": "results do not name the words that matched",
            "pin": "there are no rules; an application reorders rows itself",
            "encoder": "vectors come from the caller, who must handle failures of the encoder",
        }
    )

    def fill(self, listings: Sequence[Listing], vectors: Sequence[Sequence[float]]) -> None:
        """Writes the table and its indexes. Vectors of a table of this size are scanned, as its guides say."""
        rows = [_row(listing, vector) for listing, vector in zip(listings, vectors, strict=True)]
        self._table = lancedb.connect(str(self.catalog.folder)).create_table("products", rows, mode="overwrite")
        self._table.create_index("text", config=FTS(language="English", stem=True, remove_stop_words=True))
        for column in ("brand", "kind", "colour", "size", "price"):
            self._table.create_scalar_index(column)

    def answer(self, search: Search) -> Answer:
        """A hybrid query, or a scan if there is no text."""
        offset, where = (search.page - 1) * search.size, " AND ".join(map(_expression, search.conditions))
        if not search.text:
            scan = self._table.search().limit(search.size).offset(offset)
            rows = (scan.where(where) if where else scan).select(["id"]).to_list()
            return Answer(tuple(row["id"] for row in rows))
        query: Any = self._table.search(query_type="hybrid").vector(list(search.vector)).text(search.text)
        query = query.distance_type("cosine").distance_range(upper_bound=1 - MEANING_FLOOR)
        query = query.rerank(RRFReranker(return_score="all"))
        query = query.where(where, prefilter=True) if where else query
        query = query.order_by([ColumnOrdering(column_name=search.sort)]) if search.sort else query
        rows = query.limit(search.size).offset(offset).to_list()
        return Answer(tuple(row["id"] for row in rows), sides={row["id"]: _sides(row) for row in rows})

    def put(self, listing: Listing, vector: Sequence[float]) -> None:
        """A merge by id. Every search scans rows that no index has yet."""
        merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute([_row(listing, vector)])

    def remove(self, ids: Sequence[str]) -> None:
        """Deletes by a filter."""
        self._table.delete(f"id IN ({', '.join(map(_quoted, ids))})")


def _row(listing: Listing, vector: Sequence[float]) -> Mapping[str, object]:
    fields = {name: value if value != "" else None for name, value in asdict(listing).items()}
    return fields | {"text": f"{listing.text} {listing.sku}", "vector": vector}


def _expression(condition: Condition) -> str:
    right = _quoted(condition.value) if isinstance(condition.value, str) else condition.value
    if condition.operator == "!=":
        return f"({condition.field} != {right} OR {condition.field} IS NULL)"
    return f"{condition.field} {condition.operator} {right}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sides(row: Mapping[str, object]) -> list[str]:
    scores = {"words": row.get("_score"), "meaning": row.get("_distance")}
    return [side for side, score in scores.items() if score is not None]
