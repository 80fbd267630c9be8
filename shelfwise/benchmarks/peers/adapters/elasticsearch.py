"""Elasticsearch: BM25, approximate kNN, and both, with its free features.

Without an address, a node is started as in the tests, with the build from Maven. That build lacks the `english`
analyzer, so terms are made here by the same steps and split at spaces there: words, the possessive, lower case,
Lucene's stop words, Porter's stemmer; for a Chinese catalog, jieba's words. Reciprocal rank fusion is not free, so both
rankings of one multi-search are merged here with its default constant.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import Stemmer
from elasticsearch import Elasticsearch, helpers

from shelfwise.benchmarks.peers.process import start_elasticsearch
from shelfwise.benchmarks.peers.protocol import CANDIDATES, Adapter, Catalog, PriceRange, Reranker, chinese_words

_NAME = "shelfwise-peers"
_HEAP = "1g"
_SETTINGS = {"indices.merge.disk.watermark.high": "1gb"}
"""Cluster settings: by default, merges wait without an error while less than 5% of the disk is free."""
_RANK_CONSTANT = 60
_FIELDS = ("title", "brand", "category", "description")
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+(?:['’][^\W\u3400-\u9fff]+)*")
"""Words of the standard tokenizer: a Chinese character is a word."""
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with",
    )
)


class ElasticsearchNode(Adapter):
    """Modes: words, vectors, hybrid, and each with -cross-encoder."""

    packages = ("elasticsearch",)
    is_reopened = False

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self._server: Any = None
        address = catalog.elasticsearch or self._start()
        self._client = Elasticsearch(address, request_timeout=120, connections_per_node=16)
        self._terms = _chinese_terms if catalog.is_chinese else _EnglishAnalyzer().terms
        self._reranker = Reranker(catalog.cross_encoder)
        self._item = {each.id: each for each in self.items}

    def _start(self) -> str:
        self._server = start_elasticsearch(heap=_HEAP, java_options="", settings=_SETTINGS)
        self.processes += [node.process for node in self._server.nodes]
        return str(self._server.url)

    def build(self) -> None:
        text = {"type": "text", "analyzer": "whitespace"}
        vector = {"type": "dense_vector", "dims": self.vectors.shape[1], "similarity": "cosine"}
        fields: dict[str, Any] = dict.fromkeys(_FIELDS, text)
        fields |= {"price": {"type": "double"}, "vector": vector}
        self._client.options(ignore_status=404).indices.delete(index=_NAME)
        self._client.indices.create(
            index=_NAME,
            settings={"number_of_shards": 1, "number_of_replicas": 0},
            mappings={"dynamic": False, "properties": fields},
        )
        helpers.bulk(self._client, self._documents(), chunk_size=500)
        self._client.indices.refresh(index=_NAME)
        self._client.options(request_timeout=7_200).indices.forcemerge(index=_NAME, max_num_segments=1)
        self._client.indices.refresh(index=_NAME)

    def open(self) -> None:
        """Does nothing: the node has it open."""

    def _documents(self) -> Iterator[dict[str, Any]]:
        for item, vector in zip(self.items, self.vectors, strict=True):
            texts = {name: self._terms(getattr(item, name)) for name in _FIELDS}
            source = {**texts, "price": item.price, "vector": vector.tolist()}
            yield {"_index": _NAME, "_id": item.id, "_source": source}

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        retrieval, reranked, _ = mode.partition("-cross-encoder")
        depth = max(k, CANDIDATES) if reranked or retrieval == "hybrid" else k
        parts = {}
        if retrieval != "vectors":
            parts["words"] = self._words(query, prices)
        if retrieval != "words":
            parts["vectors"] = self._vectors(query, prices, depth)
        lines: list[dict[str, Any]] = []
        for each in parts.values():
            lines += [{"index": _NAME}, {**each, "size": depth, "_source": False, "track_total_hits": False}]
        responses = self._client.msearch(searches=lines)["responses"]
        rankings = [[hit["_id"] for hit in each["hits"]["hits"]] for each in responses]
        found = _merged(rankings) if len(rankings) > 1 else rankings[0]
        if reranked:
            return self._reranker.best(query, [self._item[each] for each in found[:CANDIDATES]], k)
        return found[:k]

    def _words(self, query: str, prices: PriceRange | None) -> dict[str, Any]:
        matched = {"query": self._terms(query), "fields": list(_FIELDS), "type": "cross_fields"}
        return {"query": {"bool": {"must": [{"multi_match": matched}], "filter": _filter(prices)}}}

    def _vectors(self, query: str, prices: PriceRange | None, k: int) -> dict[str, Any]:
        near = {"field": "vector", "query_vector": self.encode(query).tolist(), "k": k, "filter": _filter(prices)}
        return {"knn": near}

    def change_price(self, product: str, price: float) -> None:
        self._client.update(index=_NAME, id=product, doc={"price": price})

    def bytes(self) -> int:
        statistics = self._client.indices.stats(index=_NAME, metric="store")
        return int(statistics["_all"]["primaries"]["store"]["size_in_bytes"])

    def versions(self) -> dict[str, str]:
        nodes = self._client.nodes.info(filter_path="nodes.*.version")["nodes"]
        return {**super().versions(), "Elasticsearch": next(iter(nodes.values()))["version"]}

    def close(self) -> None:
        if self._server:
            self._server.stop()
        else:
            self._client.options(ignore_status=404).indices.delete(index=_NAME)


class _EnglishAnalyzer:
    """The terms of Lucene's EnglishAnalyzer."""

    def __init__(self) -> None:
        self._threads = threading.local()

    @property
    def _stemmer(self) -> Stemmer.Stemmer:
        if not hasattr(self._threads, "stemmer"):
            self._threads.stemmer = Stemmer.Stemmer("porter")
        return self._threads.stemmer

    def terms(self, text: str) -> str:
        """The terms of a text, separated by spaces."""
        words = (word.removesuffix("'s").removesuffix("’s") for word in _WORD.findall(text.lower()))
        return " ".join(self._stemmer.stemWords([word for word in words if word not in _STOP_WORDS]))


def _chinese_terms(text: str) -> str:
    return " ".join(chinese_words(text))


def _merged(rankings: list[list[str]]) -> list[str]:
    """Reciprocal rank fusion (Cormack, Clarke & Buettcher 2009)."""
    scores: defaultdict[str, float] = defaultdict(float)
    for ranking in rankings:
        for rank, product in enumerate(ranking, 1):
            scores[product] += 1 / (_RANK_CONSTANT + rank)
    return sorted(scores, key=lambda product: -scores[product])


def _filter(prices: PriceRange | None) -> list[dict[str, Any]]:
    return [{"range": {"price": {"gte": prices.low, "lte": prices.high}}}] if prices else []
