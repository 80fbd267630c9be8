"""Searches over HTTP: the engine's results, and errors that name the parameter."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.records import EventKind, Relation, RelationEvidence, RelationKind
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.signals import Relations, write_relations
from shelfwise.service.http.fields import select_fields
from tests.services import events_of_query


def test_post_search_equals_get_search_and_accepts_a_history(client: TestClient, store: SearchEngine) -> None:
    product = store.search("drill").hits[0].product.id
    request = {"q": "drill", "filters": "price < 100", "history": [{"product_id": product, "kind": "cart"}]}
    found = client.post("/v1/search", json=request).json()
    assert found["total"] == store.search("drill", filters="price < 100").total


def test_results_are_grouped_and_diversified(client: TestClient, store: SearchEngine) -> None:
    parameters = {"q": "backpack", "facets": "color", "group": "variants", "diversity": "0.5"}
    found = client.get("/v1/search", params=parameters).json()
    page = store.search("backpack", group="variants", diversity=0.5, facets=["color"])
    shown = [(hit["product"]["id"], hit["group_size"], tuple(hit["siblings"])) for hit in found["hits"]]
    assert shown == [(hit.product.id, hit.group_size, hit.siblings) for hit in page.hits]
    assert found["total"] == page.total < store.search("backpack").total
    assert found["facets"]["color"]["counts"][0]["count"] == page.facets["color"].counts[0].count


def test_operators_are_read_with_advanced_syntax(client: TestClient, store: SearchEngine) -> None:
    parameters = {"q": '"cordless drill" -brushless', "advanced_syntax": "true"}
    page = store.search("cordless drill", phrases=["cordless drill"], excluded=["brushless"])
    assert client.get("/v1/search", params=parameters).json()["total"] == page.total > 0


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"size": "many"}, "size"),
        ({"size": 1_001}, "size"),
        ({"page": 0}, "page"),
        ({"q": "x" * 10_001}, "q"),
        ({"colour": "red"}, "colour"),
        ({"filters": "price <"}, "filters"),
        ({"filters": "(" * 1_000 + "price<1" + ")" * 1_000}, "filters"),
        ({"facets": "nosuch"}, "nosuch"),
        ({"search_fields": "nosuch"}, "nosuch"),
        ({"sort": "price,nosuch"}, "nosuch"),
        ({"fields": "title,nosuch"}, "nosuch"),
        ({"ranges": "nosuch:1,2"}, "nosuch"),
        ({"fields": ",".join(["title"] * 51)}, "fields"),
    ],
)
def test_invalid_parameter_error_names_the_field(client: TestClient, parameters: dict[str, str], field: str) -> None:
    answer = client.get("/v1/search", params=parameters)
    assert answer.status_code == 400
    fault = answer.json()["error"]
    assert fault["field"] == field
    assert fault["message"]
    assert fault["request_id"] == answer.headers["X-Request-ID"]


def test_all_faults_of_a_body_are_named(client: TestClient) -> None:
    fault = client.post("/v1/search", json={"size": -1, "colour": "red", "page": "x"}).json()["error"]
    assert fault["message"].endswith("(and 2 more)")
    assert [each["field"] for each in fault["faults"]] == ["size", "page", "colour"]
    assert client.post("/v1/search", json={"size": -1}).json()["error"].keys().isdisjoint({"faults"})


def test_q_and_query_are_one_parameter(client: TestClient) -> None:
    one, other = (client.post("/v1/search", json={name: "drill"}).json() for name in ("q", "query"))
    assert (one["total"], one["query"]) == (other["total"], other["query"])
    assert client.get("/v1/search", params={"query": "drill"}).json()["total"] == one["total"]
    refused = client.get("/v1/search", params={"q": "drill", "query": "saw"})
    assert refused.status_code == 400 and "they differ" in refused.json()["error"]["message"]


def test_product_supports_etags(client: TestClient, store: SearchEngine) -> None:
    product = store.search("drill").hits[0].product
    first = client.get(f"/v1/products/{product.id}")
    assert first.json()["product"]["title"] == product.title
    assert first.json()["types"]["by_category"] == "drills"
    again = client.get(f"/v1/products/{product.id}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_related_products_name_their_relation(client: TestClient, store: SearchEngine) -> None:
    one, other = (store.search(query, size=1).hits[0] for query in ("drill", "backpack"))
    fits = Relation(RelationKind.FITS, RelationEvidence.TEXTS, 0.75)
    pairs = [(one.product.id, other.product.id, 0.75, fits)]
    write_relations(store.root, Relations.of_pairs(pairs), datetime.now(UTC))
    store.reload_if_changed()
    path = f"/v1/products/{other.product.id}/related"
    (hit,) = client.get(path, params={"fields": "price"}).json()["hits"]
    assert (hit["product"]["id"], hit["score"], {*hit["product"]}) == (one.product.id, 0.75, {"id", "price"})
    assert hit["relation"] == {"kind": "fits", "evidence": "texts", "strength": 0.75, "shoppers": 0, "reverse": True}
    assert client.get(path, params={"kind": "substitute"}).json()["hits"] == []
    assert client.get(path, params={"kind": "beside"}).json()["error"]["field"] == "kind"
    assert client.get("/v1/products/nosuch/related").status_code == 404
    (store.root / "relations.bin").unlink()
    store.reload_if_changed()


def test_only_the_named_fields_are_returned(client: TestClient, store: SearchEngine) -> None:
    product = store.search("backpack", filters="color EXISTS").hits[0].product
    expected = {"id": product.id, "title": product.title, "attributes": {"color": product.attributes["color"]}}
    parameters = {"q": "backpack", "filters": "color EXISTS", "fields": "title,color"}
    named = {**parameters, "fields": ["title", "attributes.color"]}
    history = {"history": [{"product_id": product.id}], "fields": "price"}
    found = client.get("/v1/search", params=parameters).json()
    assert found["hits"][0]["product"] == expected
    assert found["hits"] == client.post("/v1/multi-search", json={"searches": [named]}).json()["results"][0]["hits"]
    assert client.get(f"/v1/products/{product.id}", params={"fields": "title,color"}).json()["product"] == expected
    similar = client.get(f"/v1/products/{product.id}/similar", params={"fields": "price"}).json()["hits"]
    recommended = client.post("/v1/recommend", json=history).json()["hits"]
    assert {(*hit["product"],) for hit in (*similar, *recommended)} == {("id", "price")}


def test_object_of_attributes_is_returned_whole() -> None:
    document = {"id": "p", "attributes": {"size.width": 2, "size.height": 3, "sizes": 4}, "size": {"width": 5}}
    assert select_fields(document, ["attributes.size"]) == {"attributes": {"size.width": 2, "size.height": 3}}
    assert select_fields(document, ["size.width", "attributes.size.width"]) == {
        "attributes": {"size.width": 2},
        "size": {"width": 5},
    }
    assert select_fields(document, ["size.depth", "id.length"]) == {}


def test_missing_product_is_a_404(client: TestClient) -> None:
    for path in ("/v1/products/nosuch", "/v1/products/nosuch/similar", "/v1/products/..%2f..%2fetc%2fpasswd"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_product")


def test_search_with_a_session_is_recorded_with_impressions(client: TestClient, store: SearchEngine) -> None:
    found = client.get("/v1/search", params={"q": "hammer", "size": 3, "page": 2, "session": "s1"}).json()
    events = events_of_query(store.root, found["query_id"])
    assert [event["kind"] for event in events].count(EventKind.QUERY) == 1
    shown = {event["position"]: event["product_id"] for event in events if event["kind"] == EventKind.IMPRESSION}
    assert shown == {place: hit["product"]["id"] for place, hit in enumerate(found["hits"], 4)}


def test_privacy_header_disables_recording(client: TestClient, store: SearchEngine) -> None:
    request = {"q": "saw", "session": "s2"}
    private = client.get("/v1/search", params=request, headers={"Sec-GPC": "1"}).json()
    open_one = client.get("/v1/search", params=request).json()
    assert events_of_query(store.root, open_one["query_id"])
    assert not events_of_query(store.root, private["query_id"], seconds=0)


@pytest.mark.parametrize(
    ("body", "field", "status"),
    [
        ({"q": "is it red? " * 1_000}, "q", 400),
        ({"q": ""}, "q", 400),
        ({"q": "is it red?", "about": {"product": "d1"}}, "about.product", 400),
        ({"q": "is it red?", "product_id": "no"}, "", 404),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    client: TestClient, body: dict[str, object], field: str, status: int
) -> None:
    refused = client.post("/v1/answer", json=body)
    assert (refused.status_code, refused.json()["error"].get("field")) == (status, field)
