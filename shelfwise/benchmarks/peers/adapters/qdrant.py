"""Qdrant Edge, Qdrant's engine in the same process: dense vectors by HNSW, BM25 by its sparse vectors, and its fusion
of both by reciprocal ranks."""

from __future__ import annotations

from typing import Any

import qdrant_edge as qdrant
from qdrant_edge import FieldCondition, Filter, Fusion, Prefetch, Query, QueryRequest, RangeFloat, UpdateOperation

from shelfwise.benchmarks.peers.protocol import Adapter, Catalog, PriceRange

_BATCH = 1_000
_CANDIDATES = 100
_RRF = 2
"""Qdrant's default of k in 1 / (k + rank)."""


class QdrantEdge(Adapter):
    """Modes: words, vectors, hybrid."""

    packages = ("qdrant-edge-py",)

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        multilingual = qdrant.TokenizerType.Multilingual
        settings = {"language": "chinese", "tokenizer": multilingual} if catalog.is_chinese else {"language": "english"}
        counted = qdrant.Bm25(qdrant.Bm25Config(**settings)).embed_document
        words = [len(counted(each.text).indices if catalog.is_chinese else each.text.split()) for each in self.items]
        self._words = qdrant.Bm25(qdrant.Bm25Config(**settings, avg_len=sum(words) / len(words)))
        self._row = {each.id: row for row, each in enumerate(self.items)}

    def build(self) -> None:
        dimension = self.vectors.shape[1]
        self._shard = qdrant.EdgeShard.create(
            str(self.catalog.folder),
            qdrant.EdgeConfig(
                vectors={"dense": qdrant.EdgeVectorParams(size=dimension, distance=qdrant.Distance.Cosine)},
                sparse_vectors={"words": qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
            ),
        )
        self._shard.update(UpdateOperation.create_field_index("price", qdrant.PayloadSchemaType.Float))
        for start in range(0, len(self.items), _BATCH):
            points = [
                qdrant.Point(
                    row,
                    {"dense": self.vectors[row].tolist(), "words": self._words.embed_document(each.text)},
                    {"price": each.price},
                )
                for row, each in enumerate(self.items[start : start + _BATCH], start)
            ]
            self._shard.update(UpdateOperation.upsert_points(points))
        self._shard.optimize()
        self._shard.flush()

    def open(self) -> None:
        self._shard = qdrant.EdgeShard.load(str(self.catalog.folder))

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        allowed = _filter(prices)
        parts: dict[str, Any] = {}
        if mode != "vectors":
            parts["words"] = Query.Nearest(self._words.embed_query(query), using="words")
        if mode != "words":
            parts["vectors"] = Query.Nearest(self.encode(query).tolist(), using="dense")
        if mode == "hybrid":
            both = [Prefetch(limit=max(k, _CANDIDATES), query=each, filter=allowed) for each in parts.values()]
            request = QueryRequest(limit=k, query=Fusion.Rrf(k=_RRF), prefetches=both)
        else:
            request = QueryRequest(limit=k, query=parts[mode], filter=allowed)
        return [self.items[each.id].id for each in self._shard.query(request)]

    def change_price(self, product: str, price: float) -> None:
        self._shard.update(UpdateOperation.set_payload([self._row[product]], {"price": price}))

    def close(self) -> None:
        self._shard.close()


def _filter(prices: PriceRange | None) -> Filter | None:
    if prices is None:
        return None
    return Filter(must=[FieldCondition("price", range=RangeFloat(gte=prices.low, lte=prices.high))])
