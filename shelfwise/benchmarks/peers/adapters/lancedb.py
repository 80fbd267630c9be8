"""LanceDB: full-text search and vectors of one table, merged by its rerankers."""

from __future__ import annotations

from typing import Any

import lancedb
import pyarrow as pa  # type: ignore[import-untyped]
from lancedb.index import FTS
from lancedb.rerankers import CrossEncoderReranker, RRFReranker

from shelfwise.benchmarks.peers.protocol import Adapter, Catalog, PriceRange

_CANDIDATES = 100
_INDEXED = 100_000
"""The number of vectors from which LanceDB's guide recommends an index; it scans fewer."""


class LanceTable(Adapter):
    """Modes: words, vectors, hybrid, hybrid-cross-encoder."""

    packages = ("lancedb",)

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self._database = lancedb.connect(str(catalog.folder))
        self._merge = RRFReranker()
        self._cross_encoder: CrossEncoderReranker | None = None

    def build(self) -> None:
        dimension = self.vectors.shape[1]
        columns = {
            "id": pa.array([each.id for each in self.items]),
            "text": pa.array([each.text for each in self.items]),
            "price": pa.array([each.price for each in self.items], pa.float64()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.ravel()), dimension),
        }
        table = self._database.create_table("products", pa.table(columns))
        english = FTS(language="English", stem=True, remove_stop_words=True)
        chinese = FTS(base_tokenizer="icu", stem=False, remove_stop_words=False)
        table.create_index("text", config=chinese if self.catalog.is_chinese else english)
        table.create_scalar_index("price")
        if len(self.items) >= _INDEXED:
            table.create_index(metric="cosine", vector_column_name="vector")

    def open(self) -> None:
        self._table = self._database.open_table("products")

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        if mode == "words":
            prepared: Any = self._table.search(query, query_type="fts")
        elif mode == "vectors":
            prepared = self._table.search(self.encode(query)).distance_type("cosine")
        else:
            prepared = self._table.search(query_type="hybrid").vector(self.encode(query)).text(query)
            prepared = prepared.distance_type("cosine").rerank(self._reranker(mode))
        if prices:
            prepared = prepared.where(f"price >= {prices.low!r} AND price <= {prices.high!r}", prefilter=True)
        depth = max(k, _CANDIDATES) if "hybrid" in mode else k
        found: list[str] = prepared.select(["id", "text"]).limit(depth).to_arrow()["id"].to_pylist()
        return found[:k]

    def _reranker(self, mode: str) -> RRFReranker | CrossEncoderReranker:
        if mode == "hybrid":
            return self._merge
        if self._cross_encoder is None:
            self._cross_encoder = CrossEncoderReranker(self.catalog.cross_encoder, column="text", device="cpu")
        return self._cross_encoder

    def change_price(self, product: str, price: float) -> None:
        self._table.update(where=f"id = '{product.replace(chr(39), chr(39) * 2)}'", values={"price": price})
