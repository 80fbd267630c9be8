"""Qdrant under the complaint suite: its engine as a library, qdrant-edge-py, run in a separate environment.

It follows Qdrant's guides: a dense and a BM25 sparse vector for each point, both prefetched under the filter and fused
by reciprocal ranks, a `score_threshold` on the dense side, payload indexes on filtered fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from types import MappingProxyType
from uuid import NAMESPACE_URL, uuid5

import qdrant_edge as qdrant
from qdrant_edge import FieldCondition, Filter, PayloadSchemaType, UpdateOperation

from shelfwise.benchmarks.peers.complaints.engine import MEANING_FLOOR, Answer, Condition, Listing, Search
from shelfwise.benchmarks.peers.complaints.peer_engine import ComplaintAdapter

_CANDIDATES = 100
"""The points that each prefetch passes to the fusion, on every page."""
_RRF = 2
"""Qdrant's default of k in 1 / (k + rank)."""


class QdrantComplaints(ComplaintAdapter):
    """One shard."""

    packages = ("qdrant-edge-py",)
    lacks = MappingProxyType(
        {
            "total": "a query returns points, and count counts those of a filter only",
            "facets": "facet counts the points of a filter, not those of a query",
            "group": "the library has no query_groups, which the server has",
            "highlight": "results do not name the words that matched",
            "pin": "there are no rules; an application reorders points itself",
            "sides": "a fused point has one score, not those of its prefetches",
            "encoder": "vectors come from the caller, who must handle failures of the encoder",
        }
    )

    def fill(self, listings: Sequence[Listing], vectors: Sequence[Sequence[float]]) -> None:
        """Fills a shard, indexes its payload and optimizes it."""
        words = sum(len(each.text.split()) for each in listings) / len(listings)
        self._words = qdrant.Bm25(qdrant.Bm25Config(language="english", avg_len=words))
        self._shard = qdrant.EdgeShard.create(
            str(self.catalog.folder),
            qdrant.EdgeConfig(
                vectors={"dense": qdrant.EdgeVectorParams(size=len(vectors[0]), distance=qdrant.Distance.Cosine)},
                sparse_vectors={"words": qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
            ),
        )
        for name in ("kind", "brand", "colour", "size"):
            self._shard.update(UpdateOperation.create_field_index(name, PayloadSchemaType.Keyword))
        self._shard.update(UpdateOperation.create_field_index("price", PayloadSchemaType.Float))
        points = [self._point(listing, vector) for listing, vector in zip(listings, vectors, strict=True)]
        self._shard.update(UpdateOperation.upsert_points(points))
        self._shard.optimize()

    def answer(self, search: Search) -> Answer:
        """A fused query, a query ordered by a field, or a scroll if there is no text."""
        offset, allowed = (search.page - 1) * search.size, _filter(search.conditions)
        if not search.text:
            request = qdrant.ScrollRequest(limit=offset + search.size, filter=allowed, with_payload=["id"])
            records, _ = self._shard.scroll(request)
            return Answer(tuple(each.payload["id"] for each in records[offset:]))
        words = qdrant.Query.Nearest(self._words.embed_query(search.text), using="words")
        meaning = qdrant.Query.Nearest(list(search.vector), using="dense")
        both = [
            qdrant.Prefetch(limit=_CANDIDATES, query=words, filter=allowed),
            qdrant.Prefetch(limit=_CANDIDATES, query=meaning, filter=allowed, score_threshold=MEANING_FLOOR),
        ]
        order = qdrant.OrderBy(search.sort) if search.sort else qdrant.Fusion.Rrf(k=_RRF)
        query = qdrant.QueryRequest(limit=search.size, offset=offset, query=order, prefetches=both, with_payload=["id"])
        return Answer(tuple(each.payload["id"] for each in self._shard.query(query)))

    def put(self, listing: Listing, vector: Sequence[float]) -> None:
        """Writes one point."""
        self._shard.update(UpdateOperation.upsert_points([self._point(listing, vector)]))

    def remove(self, ids: Sequence[str]) -> None:
        """Deletes by id."""
        self._shard.update(UpdateOperation.delete_points(list(map(_number, ids))))

    def close(self) -> None:
        self._shard.close()

    def _point(self, listing: Listing, vector: Sequence[float]) -> qdrant.Point:
        payload = {name: value for name, value in asdict(listing).items() if value != ""}
        words = self._words.embed_document(f"{listing.text} {listing.sku}")
        return qdrant.Point(_number(listing.id), {"dense": list(vector), "words": words}, payload)


def _number(product: str) -> str:
    """A point's id, since points are numbered by integers or UUIDs."""
    return str(uuid5(NAMESPACE_URL, product))


def _filter(conditions: Sequence[Condition]) -> Filter | None:
    if not conditions:
        return None
    excluded = [_condition(each) for each in conditions if each.operator == "!="]
    return Filter(must=[_condition(each) for each in conditions if each.operator != "!="], must_not=excluded)


def _condition(condition: Condition) -> FieldCondition:
    if condition.operator in {"=", "!="}:
        return FieldCondition(condition.field, match=qdrant.MatchValue(condition.value))
    bound = "lt" if condition.operator == "<" else "gte"
    return FieldCondition(condition.field, range=qdrant.RangeFloat(**{bound: condition.value}))
