"""The InstantSearch protocol over HTTP: request bodies of the libraries, responses with all required fields."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KeyFile, Scope
from shelfwise.service.settings import ServiceSettings
from tests.services import add_key, events_of_query, hidden_word

QUERIES = "/1/indexes/*/queries"
PAGE = "https://shop.example"


def request(client: TestClient, *requests: dict[str, object]) -> list[dict[str, Any]]:
    """The results of a batch, sent like version 5 of the library."""
    body = json.dumps({"requests": [{"indexName": "products", **each} for each in requests]})
    answer = client.post(QUERIES, content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def test_search_response_has_every_field_of_the_libraries(client: TestClient, store: SearchEngine) -> None:
    (found,) = request(client, {"query": "cordless drill", "facets": ["brand", "price"], "hitsPerPage": 5})
    page = store.search("cordless drill", size=5, facets=["brand", "price"])
    assert [hit["objectID"] for hit in found["hits"]] == [hit.product.id for hit in page.hits]
    assert (found["nbHits"], found["page"], found["hitsPerPage"]) == (page.total, 0, 5)
    assert found["nbPages"] == -(-page.total // 5)
    assert found["facets"]["brand"] == {str(each.value): each.count for each in page.facets["brand"].counts}
    assert found["facets_stats"]["price"] == {"min": page.facets["price"].minimum, "max": page.facets["price"].maximum}
    assert found["renderingContent"]["facetOrdering"]["facets"]["order"] == ["brand", "price"]
    assert found["exhaustiveNbHits"] is found["exhaustiveFacetsCount"] is True
    assert (found["index"], found["query"]) == ("products", "cordless drill")
    assert found["processingTimeMS"] >= 1
    assert "queryID" not in found
    assert "_automaticInsights" not in found


def test_facets_that_narrow_a_query_best_come_first(client: TestClient, store: SearchEngine) -> None:
    best = [choice.field.removeprefix("attributes.") for choice in store.search("drill", size=2, choices=3).choices]
    asked = [*sorted({"availability", "currency", *best}, reverse=True)]
    (found,) = request(client, {"query": "drill", "facets": asked, "hitsPerPage": 2})
    assert best
    assert found["renderingContent"]["facetOrdering"]["facets"]["order"][: len(best)] == best


def test_pages_and_offsets_reach_every_hit_once(client: TestClient) -> None:
    (whole, *pages) = request(
        client,
        {"query": "lamp", "hitsPerPage": 30},
        *({"query": "lamp", "hitsPerPage": 10, "page": at} for at in range(3)),
    )
    ids = [hit["objectID"] for hit in whole["hits"]]
    assert [hit["objectID"] for page in pages for hit in page["hits"]] == ids
    (part, past) = request(client, {"query": "lamp", "offset": 7, "length": 5}, {"query": "lamp", "page": 10**6})
    assert [hit["objectID"] for hit in part["hits"]] == ids[7:12]
    assert past["hits"] == []
    assert past["nbHits"] == whole["nbHits"]


def test_facet_values_are_searched(client: TestClient) -> None:
    (every,) = request(client, {"facets": ["brand"], "hitsPerPage": 0})
    brand, count = next(iter(every["facets"]["brand"].items()))
    typed = brand[:3].lower()
    result = client.post("/1/indexes/any/facets/brand/query", json={"params": urlencode({"facetQuery": typed})}).json()
    hit = next(each for each in result["facetHits"] if each["value"] == brand)
    assert hit == {"value": brand, "highlighted": f"<em>{brand[:3]}</em>{brand[3:]}", "count": count}
    marks = {"highlightPreTag": "__ais-highlight__", "highlightPostTag": "__/ais-highlight__"}
    (batched, unknown) = request(
        client,
        {"type": "facet", "facet": "brand", "facetQuery": typed, "maxFacetHits": 100, **marks},
        {"type": "facet", "facet": "nosuch", "facetQuery": typed},
    )
    marked = f"__ais-highlight__{brand[:3]}__/ais-highlight__{brand[3:]}"
    assert marked in {each["highlighted"] for each in batched["facetHits"]}
    assert unknown["facetHits"] == []


def test_query_suggestions_are_a_separate_index(client: TestClient, store: SearchEngine) -> None:
    (found,) = request(client, {"indexName": "shop_query_suggestions", "query": "dri", "hitsPerPage": 4})
    assert [hit["query"] for hit in found["hits"]] == [each.text for each in store.suggest("dri", size=4).queries]
    assert found["hits"][0]["_highlightResult"]["query"]["value"].startswith("<em>dri</em>")


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b"{", "JSON"),
        (b"[]", "JSON object"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"requests": {}}', "requests must be a list"),
        (json.dumps({"requests": [{}] * 51}).encode(), "at most 50"),
        (b'{"requests": [{"filters": "brand:A OR"}]}', "column 11"),
        (b'{"requests": [{"query": "\\ud800"}]}', ""),
        (b"x" * 5_000_000, "bytes"),
    ],
)
def test_invalid_request_is_refused_in_the_protocol_format(client: TestClient, body: bytes, result: str) -> None:
    answer = client.post(QUERIES, content=body, headers={"Origin": "http://localhost:3000"})
    assert answer.status_code in (400, 413)
    assert set(answer.json()) == {"message", "status"}
    assert answer.json()["status"] == answer.status_code
    assert result in answer.json()["message"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "payload",
    [
        {"query": "电钻" * 5_000, "hitsPerPage": 20},
        {"query": "lamp", "facetQuery": "a " * 250, "type": "facet", "facet": "brand"},
        {"numericFilters": [f"{':' * 990}1 TO 2"]},
        {"filters": "a" + " " * 9_990},
        {"filters": 'x:"' + "\\" * 9_000},
        {"indexName": "_" * 499 + "asc"},
        {"facets": ["brand"] * 200, "facetFilters": [["brand:x"] * 200]},
    ],
)
def test_long_requests_are_parsed_in_linear_time(client: TestClient, payload: dict[str, object]) -> None:
    started = time.perf_counter()
    answer = client.post(QUERIES, json={"requests": [{"indexName": "a", **payload}]})
    assert answer.status_code in (200, 400)
    assert time.perf_counter() - started < 3


class TestKeys:
    """Keys of requests, and the pages that may send them."""

    @pytest.fixture
    def guarded(self, store: SearchEngine, keys: KeyFile) -> Iterator[TestClient]:
        settings = ServiceSettings(keys=keys.path, cors_origins=("https://other.example",))
        with TestClient(create_app(store, settings), "http://search.example") as calling:
            yield calling

    def test_key_is_accepted_in_header_url_or_body(self, guarded: TestClient, keys: KeyFile) -> None:
        key = add_key(keys, Scope.SEARCH)
        body = {"requests": [{"indexName": "a"}]}
        assert guarded.post(QUERIES, json=body, headers={"X-Algolia-API-Key": key}).status_code == 200
        for name in ("x-algolia-api-key", "X-Algolia-API-Key"):
            assert guarded.post(QUERIES, json=body, params={name: key}).status_code == 200
        assert guarded.post(QUERIES, json={**body, "apiKey": key}).status_code == 200
        refused = guarded.post(QUERIES, json=body)
        assert (refused.status_code, set(refused.json())) == (401, {"message", "status"})
        # A search key cannot record events.
        assert guarded.post("/1/events", json={"events": []}, params={"x-algolia-api-key": key}).status_code == 403

    @pytest.mark.parametrize("events", ["x", [{}] * 1_001])
    def test_list_of_events_is_checked(self, guarded: TestClient, keys: KeyFile, events: object) -> None:
        key = {"x-algolia-api-key": add_key(keys, Scope.EVENTS)}
        assert guarded.post("/1/events", json={"events": events}, params=key).status_code == 400

    def test_narrowed_key_is_filtered(self, guarded: TestClient, keys: KeyFile, store: SearchEngine) -> None:
        product = store.search("lamp").hits[0].product
        params = {"x-algolia-api-key": add_key(keys, Scope.SEARCH, filters=f'id != "{product.id}"')}
        caller: dict[str, object] = {"requests": [{"query": "lamp", "filters": 'objectID:x OR price > 0"'}]}
        assert guarded.post(QUERIES, json=caller, params=params).status_code == 400
        caller = {"requests": [{"query": "lamp", "facetFilters": [[f"objectID:{product.id}", 'x") OR price:1']]}]}
        found = guarded.post(QUERIES, json=caller, params=params).json()["results"][0]
        assert product.id not in {hit["objectID"] for hit in found["hits"]}
        assert guarded.get(f"/1/indexes/a/{product.id}", params=params).status_code == 404

    def test_narrowed_key_reveals_no_hidden_word(self, guarded: TestClient, keys: KeyFile, store: SearchEngine) -> None:
        word, typed, others = hidden_word(store)
        full, narrowed = add_key(keys, Scope.SEARCH), add_key(keys, Scope.SEARCH, filters=others)

        def answer(query: str, key: str) -> str:
            searches = [{"query": query, "indexName": name} for name in ("shop", "shop_query_suggestions")]
            response = guarded.post(QUERIES, json={"requests": searches, "apiKey": key})
            assert response.status_code == 200
            return response.text.lower()

        for query in (typed, typed[:5], word[:5]):
            assert word not in answer(query, narrowed)
        assert f"searched for {word}" in answer(typed, full)

    def test_every_origin_is_allowed_with_a_key(self, guarded: TestClient, keys: KeyFile) -> None:
        caller = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"}
        allowed = guarded.options(QUERIES, headers=caller)
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == "*"
        assert allowed.headers["Access-Control-Allow-Headers"] == "x-a"
        assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
        params = {"x-algolia-api-key": add_key(keys, Scope.SEARCH)}
        for origin in (PAGE, "https://other.example"):
            answer = guarded.post(QUERIES, json={"requests": []}, params=params, headers={"Origin": origin})
            assert answer.status_code == 200
            assert answer.headers.get_list("Access-Control-Allow-Origin") == ["*"]
            assert "Access-Control-Allow-Credentials" not in answer.headers

    def test_without_keys_every_origin_may_search_and_none_may_write(self, client: TestClient) -> None:
        for origin in ("http://localhost:3000", PAGE, "null"):
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            assert client.post(QUERIES, json={"requests": []}, headers=headers).status_code == 200
            assert client.post("/1/indexes/p/clear", json={}, headers=headers).status_code == 403  # has the cookie


class TestEvents:
    """Events sent by a page."""

    @pytest.mark.parametrize("more", [{"userToken": ""}, {"analytics": False}, {"hitsPerPage": 0}])
    def test_untracked_searches_are_not_recorded(
        self, client: TestClient, store: SearchEngine, more: dict[str, object]
    ) -> None:
        (found,) = request(client, {"query": "saw", "clickAnalytics": True, "userToken": "u1", **more})
        assert not events_of_query(store.root, found["queryID"], wanted=1, seconds=0.6)
