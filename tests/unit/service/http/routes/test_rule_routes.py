"""Rules, suggestions, recommendations and versions over HTTP."""

from __future__ import annotations

from fastapi.testclient import TestClient

from service.app import create_app
from service.engine.engine import SearchEngine
from service.http.auth import KeyFile, Scope, narrow_key
from service.settings import ServiceSettings
from tests.services import made


def test_a_rule_is_previewed_put_followed_and_taken_back(client: TestClient, store: SearchEngine) -> None:
    hidden = store.search("drill").hits[0].product.id
    hide = {"kind": "hide", "products": [hidden]}
    rule = {"id": "no-drill", "when": {"query": "drill", "match": "exact"}, "actions": [hide]}
    seen = client.post("/v1/rules/preview", json={"q": "drill", "put": [rule]}).json()
    assert [each["product"] for each in seen["lost"]] == [hidden]
    assert seen["total_after"] == seen["total_before"] - 1
    assert client.get("/v1/search", params={"q": "drill"}).json()["hits"][0]["product"]["id"] == hidden
    revision = client.put("/v1/rules", json={"rules": [rule]}).json()["revision"]
    found = client.get("/v1/search", params={"q": "drill", "size": 200}).json()
    assert hidden not in {hit["product"]["id"] for hit in found["hits"]}
    assert found["rules"] == ["no-drill"]
    assert client.get("/v1/rules").json()["rules"][0]["id"] == "no-drill"
    assert client.patch("/v1/rules/no-drill", json={"enabled": False}).json()["revision"] == revision + 1
    assert client.get("/v1/search", params={"q": "drill"}).json()["hits"][0]["product"]["id"] == hidden
    assert client.post("/v1/rules/restore", json={"revision": revision}).json()["revision"] == revision + 2
    assert client.delete("/v1/rules/no-drill").json()["revision"] == revision + 3
    changes = client.get("/v1/rules/history").json()["changes"]
    assert [change["revision"] for change in changes[:4]] == [revision + 3, revision + 2, revision + 1, revision]
    assert (changes[0]["before"]["id"], changes[0]["after"]) == ("no-drill", None)


def test_a_rule_that_cannot_be_is_refused_with_its_field(client: TestClient) -> None:
    for rule, field in (
        ({"id": "r", "actions": [{"kind": "pin", "product": ["x"]}]}, "product"),
        ({"id": "r", "actions": [{"kind": "redirect", "url": "javascript:alert(1)"}]}, "url"),
        ({"id": "r", "actions": [{"kind": "boost", "filters": "nosuch = 1"}]}, "nosuch"),
    ):
        answer = client.put("/v1/rules", json={"rules": [rule]})
        assert answer.status_code == 400
        assert field in answer.json()["error"]["message"]


def test_suggestions_say_what_to_show_bold(client: TestClient) -> None:
    found = client.get("/v1/suggest", params={"q": "dri"}).json()
    first = found["queries"][0]
    start, end = first["spans"][0]
    assert first["text"][start:end].lower() == "dri"
    assert found["products"][0]["product"]["id"]
    assert client.get("/v1/suggest").status_code == 200
    assert client.get("/v1/related", params={"q": "drill"}).json() == {"queries": []}


def test_a_narrowed_key_is_suggested_its_part_of_the_store(store: SearchEngine, keys: KeyFile) -> None:
    everything = store.suggest("d", size=20)
    brand = store.search("drill").hits[0].product.brand
    key = narrow_key(made(keys, Scope.SEARCH), filters=f'brand = "{brand}"')
    with TestClient(create_app(store, ServiceSettings(keys=keys.path))) as calling:
        found = calling.get("/v1/suggest", params={"q": "d", "size": 20}, headers={"X-API-Key": key}).json()
    assert {each["product"]["brand"] for each in found["products"]} <= {brand}
    assert {each["name"] for each in found["brands"]} <= {brand}
    assert len(found["queries"]) < len(everything.queries)


def test_recommendations_follow_what_was_done(client: TestClient, store: SearchEngine) -> None:
    clicked = store.search("drill").hits[0].product
    request = {"history": [{"product_id": clicked.id}], "size": 5}
    hits = client.post("/v1/recommend", json=request).json()["hits"]
    near = [hit.product.id for hit in store.similar(clicked.id, size=5).hits]
    assert [hit["product"]["id"] for hit in hits] == near
    private = client.post("/v1/recommend", json=request, headers={"Sec-GPC": "1"}).json()["hits"]
    assert private == client.post("/v1/recommend", json={"size": 5}).json()["hits"] != hits


def test_seen_products_are_recommended_where_asked_for(client: TestClient, store: SearchEngine) -> None:
    clicked = store.search("drill").hits[0].product
    request = {"history": [{"product_id": clicked.id}], "size": 5, "include_seen": True}
    hits = client.post("/v1/recommend", json=request).json()["hits"]
    assert hits[0]["product"]["id"] == clicked.id
    hidden = client.post("/v1/recommend", json=request | {"include_seen": False}).json()["hits"]
    assert clicked.id not in {hit["product"]["id"] for hit in hidden}
    assert client.post("/v1/recommend", json=request | {"include_seen": "perhaps"}).status_code in (400, 422)


def test_recommendations_are_of_several_interests(store: SearchEngine) -> None:
    from retrieval.records import PastAct

    drill, lamp = (store.search(text).hits[0].product for text in ("drill", "lamp"))
    hits = store.recommend([PastAct(drill.id), PastAct(lamp.id)], size=10).hits
    shown = {hit.product.id for hit in hits}
    for each in (drill, lamp):
        assert each.id not in shown
        assert shown & {hit.product.id for hit in store.similar(each.id, size=5).hits}


def test_versions_and_rankers_are_listed(client: TestClient, store: SearchEngine) -> None:
    (version,) = client.get("/v1/versions").json()
    assert (version["version"], version["serves"]) == (store.manifest.version, True)
    models = client.get("/v1/models")
    assert models.status_code == 200
    assert models.json()["user_towers"] == {"serving": "", "is_off": False, "notices": [], "towers": []}
    answer = client.post("/v1/models/rollback", json={"name": "tower-0007"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_user_tower")
    answer = client.post("/v1/versions/rollback", json={"name": "v999999"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_version")
    assert client.get("/v1/reports/events").status_code == 404
