"""Elasticsearch under the complaint suite: its free hybrid search, a `query` and a `knn` in one request.

It follows Elasticsearch's guides for products: words by a `match` with automatic fuzziness over one copied field, exact
numbers by a `term`, filters in both parts, a `similarity` below which neighbours are dropped, `collapse` for variants
and named queries that say what matched. Fusion by ranks and the `pinned` query need a licence or a module that the
builds for tests lack: a `constant_score` with a large boost pins instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from shelfwise.benchmarks.peers.complaints.engine import MEANING_FLOOR, Answer, Condition, Listing, Search
from shelfwise.benchmarks.peers.process import start_elasticsearch

INDEX = "complaints"
NEIGHBOURS, CANDIDATES = 100, 200
"""`k` and `num_candidates`: the same for all pages, so that the pages of one search agree."""
_PINNED = 1e6
_KEYWORDS = ("kind", "brand", "sku", "colour", "size", "group")
_WORDS, _MEANING = "words", "meaning"


class ElasticsearchEngine:
    """An index of a running cluster, which is removed at the end."""

    name = "Elasticsearch"
    lacks: Mapping[str, str] = MappingProxyType(
        {"encoder": "vectors come from the caller, who must handle failures of the encoder"}
    )

    def __init__(self, url: str) -> None:
        """`url` is that of a node without security, such as http://127.0.0.1:9200; empty starts the node of the tests,
        which only a checkout has. Raises StoreError if that fails."""
        self._server = None if url else start_elasticsearch()
        self._url = url.rstrip("/") if self._server is None else str(self._server.url)
        self._pins: dict[str, str] = {}
        nodes = self._call("GET", "/_nodes/_local")["nodes"]
        self.version = str(next(iter(nodes.values()))["version"])

    def index(self, listings: Sequence[Listing], vectors: Sequence[Sequence[float]]) -> None:
        """Uses one shard, Elasticsearch's default; vectors are in its default int8 graph."""
        self._call("DELETE", f"/{INDEX}?ignore_unavailable=true")
        text = {"type": "text", "copy_to": "text"}
        fields: dict[str, Any] = {name: {"type": "keyword"} for name in _KEYWORDS}
        fields |= {"title": text, "description": text, "text": {"type": "text"}, "price": {"type": "float"}}
        vector = {"type": "dense_vector", "dims": len(vectors[0]), "index": True, "similarity": "cosine"}
        self._call("PUT", f"/{INDEX}", {"mappings": {"properties": fields | {"vector": vector}}})
        lines = []
        for listing, vector_of in zip(listings, vectors, strict=True):
            lines += [{"index": {"_id": listing.id}}, _document(listing, vector_of)]
        self._call("POST", f"/{INDEX}/_bulk?refresh=true", lines)

    def search(self, search: Search) -> Answer:
        """One request: the union of the matches of words and vectors, scored by the sum."""
        body = _body(search, self._pins.get(search.text, ""))
        found = self._call("POST", f"/{INDEX}/_search", body)
        hits, counts = found["hits"]["hits"], found.get("aggregations", {})
        return Answer(
            ids=tuple(hit["_id"] for hit in hits),
            total=counts["groups"]["value"] if search.grouped else found["hits"]["total"]["value"],
            facets={name: _counts(counts[name], grouped=search.grouped) for name in search.facets},
            sides={hit["_id"]: [name.split()[0] for name in hit.get("matched_queries", [])] for hit in hits},
            highlights={hit["_id"]: hit.get("highlight", {}).get("title", [""])[0] for hit in hits},
        )

    def upsert(self, listing: Listing, vector: Sequence[float]) -> None:
        """Waits for a refresh, as its guide recommends for changes that must be visible."""
        self._call("PUT", f"/{INDEX}/_doc/{listing.id}?refresh=wait_for", _document(listing, vector))

    def delete(self, ids: Sequence[str]) -> None:
        """Waits for a refresh, like `upsert`."""
        for each in ids:
            self._call("DELETE", f"/{INDEX}/_doc/{each}?refresh=wait_for")

    def pin(self, text: str, product: str) -> None:
        """Keeps the pin in memory, as an application stores its rules."""
        self._pins = {text: product} if product else {}

    def break_encoder(self, broken: bool) -> None:
        """Never called: the engine has no encoder."""
        raise NotImplementedError(f"encoder broken: {broken}")

    def close(self) -> None:
        """Removes the index, and stops a node that it started."""
        self._call("DELETE", f"/{INDEX}?ignore_unavailable=true")
        if self._server is not None:
            self._server.stop()

    def _call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        lines = body if isinstance(body, list) else [] if body is None else [body]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode() or None
        kind = "application/x-ndjson" if isinstance(body, list) else "application/json"
        request = Request(self._url + path, data, {"Content-Type": kind}, method=method)  # noqa: S310 - its own node
        try:
            with urlopen(request, timeout=600) as response:  # noqa: S310
                return json.loads(response.read() or b"{}")
        except HTTPError as error:
            reason = json.loads(error.read() or b"{}").get("error", {})
            raise OSError(f"{error.code} {reason.get('type', '')}: {reason.get('reason', '')}") from error


def _document(listing: Listing, vector: Sequence[float]) -> Mapping[str, object]:
    # A product without a group becomes a separate group, since collapse would group all of those.
    keywords = {name: getattr(listing, name) for name in _KEYWORDS} | {"group": listing.group or listing.id}
    fields = {"title": listing.title, "description": listing.description, "price": listing.price}
    return fields | {name: value for name, value in keywords.items() if value} | {"vector": vector}


def _body(search: Search, pinned: str) -> dict[str, Any]:
    filters = [_filter(each) for each in search.conditions]
    body: dict[str, Any] = {
        "from": (search.page - 1) * search.size,
        "size": search.size,
        "track_total_hits": True,
        "_source": False,
        "query": {"bool": {"must": [_words(search.text, pinned)], "filter": filters}},
        "aggs": {name: _facet(name, grouped=search.grouped) for name in search.facets},
    }
    if search.vector:
        body["knn"] = {
            "field": "vector",
            "query_vector": search.vector,
            "k": NEIGHBOURS,
            "num_candidates": CANDIDATES,
            "similarity": MEANING_FLOOR,
            "filter": filters,
            "_name": _MEANING,
        }
    if search.grouped:
        body["collapse"] = {"field": "group"}
        body["aggs"]["groups"] = {"cardinality": {"field": "group"}}
    if search.sort:
        body["sort"] = [{search.sort: "asc"}]
    if search.highlight:
        body["highlight"] = {"fields": {"title": {"require_field_match": False}}}
    return body


def _words(text: str, pinned: str) -> dict[str, Any]:
    if not text:
        return {"match_all": {}}
    match = {"query": text, "fuzziness": "AUTO", "minimum_should_match": "2<75%", "_name": _WORDS}
    ways: list[dict[str, Any]] = [{"match": {"text": match}}]
    ways.append({"term": {"sku": {"value": text, "boost": 100, "_name": f"{_WORDS} sku"}}})
    if pinned:
        ways.append({"constant_score": {"filter": {"ids": {"values": [pinned]}}, "boost": _PINNED}})
    return {"bool": {"should": ways, "minimum_should_match": 1}}


def _filter(condition: Condition) -> dict[str, Any]:
    field, operator, value = condition.field, condition.operator, condition.value
    if operator in {"=", "!="}:
        term = {"term": {field: value}}
        return term if operator == "=" else {"bool": {"must_not": [term]}}
    return {"range": {field: {"lt" if operator == "<" else "gte": value}}}


def _facet(name: str, *, grouped: bool) -> dict[str, Any]:
    facet: dict[str, Any] = {"terms": {"field": name, "size": 100}}
    return facet | {"aggs": {"groups": {"cardinality": {"field": "group"}}}} if grouped else facet


def _counts(facet: Mapping[str, Any], *, grouped: bool) -> Mapping[str, int]:
    buckets = facet["buckets"]
    return {each["key"]: each["groups"]["value"] if grouped else each["doc_count"] for each in buckets}
