"""Milvus Lite: dense vectors, and BM25 by the function of its schema, merged by its RRFRanker."""

from __future__ import annotations

from typing import Any

from pymilvus import AnnSearchRequest, DataType, Function, FunctionType, MilvusClient, RRFRanker

from shelfwise.benchmarks.peers.protocol import Adapter, Catalog, PriceRange

_NAME = "products"
_BATCH = 1_000
_CANDIDATES = 100
_LONGEST = 65_535


class MilvusLite(Adapter):
    """Modes: words, vectors, hybrid."""

    packages = ("milvus-lite", "pymilvus")

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self._row = {each.id: row for row, each in enumerate(self.items)}
        self._client = MilvusClient(str(catalog.folder / "milvus.db"))

    def build(self) -> None:
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        analyzer = {"tokenizer": "jieba" if self.catalog.is_chinese else "standard"}
        analyzed = {"max_length": _LONGEST, "enable_analyzer": True, "analyzer_params": analyzer}
        schema.add_field("text", DataType.VARCHAR, **analyzed)
        schema.add_field("price", DataType.DOUBLE)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=self.vectors.shape[1])
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["words"]))
        indexes = MilvusClient.prepare_index_params()
        indexes.add_index("dense", index_type="AUTOINDEX", metric_type="COSINE")
        indexes.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        indexes.add_index("price", index_type="INVERTED")
        self._client.create_collection(_NAME, schema=schema, index_params=indexes)
        for start in range(0, len(self.items), _BATCH):
            rows = range(start, min(start + _BATCH, len(self.items)))
            self._client.insert(_NAME, [self._row_of(row, self.items[row].price) for row in rows])
        self._client.flush(_NAME)

    def open(self) -> None:
        self._client.load_collection(_NAME)

    def _row_of(self, row: int, price: float) -> dict[str, Any]:
        return {"row": row, "text": self.items[row].text, "price": price, "dense": self.vectors[row].tolist()}

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        allowed = f"price >= {prices.low!r} and price <= {prices.high!r}" if prices else ""
        parts: dict[str, Any] = {}
        if mode != "vectors":
            parts["words"] = query
        if mode != "words":
            parts["dense"] = self.encode(query).tolist()
        if mode == "hybrid":
            depth = max(k, _CANDIDATES)
            both = [AnnSearchRequest([each], field, {}, depth, expr=allowed or None) for field, each in parts.items()]
            found = self._client.hybrid_search(_NAME, both, RRFRanker(), limit=k)
        else:
            ((field, each),) = parts.items()
            found = self._client.search(_NAME, [each], anns_field=field, filter=allowed, limit=k)
        return [self.items[hit["row"]].id for hit in found[0]]

    def change_price(self, product: str, price: float) -> None:
        row = self._row[product]
        self._client.upsert(_NAME, [self._row_of(row, price)])

    def close(self) -> None:
        self._client.close()
