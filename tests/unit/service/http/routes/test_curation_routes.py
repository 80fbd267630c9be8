"""Routes of rules, synonyms and experiments, and the notices of experiments."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi.testclient import TestClient

from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.popular_queries import PopularQuery, write_popular_queries
from shelfwise.service.http.auth import KeyFile, Scope
from shelfwise.service.settings import ServiceSettings
from tests.services import add_key, hidden_word, narrowed
from tests.unit.service.engine.demo_rankers import publish, spec_for, weighted_graph
from tests.unit.service.http.test_health import value


def test_text_for_answers_is_found_and_quoted_without_its_markup(client: TestClient, store: SearchEngine) -> None:
    product = store.search("drill").hits[0].product.id
    entry = {"question": "<b>Is it vegan?</b>", "answer": "Yes.\nCall 212-555-2368.", "products": [product]}
    client.put("/v1/answers", json={"documents": [entry]})
    found = client.get("/v1/answers", params={"q": "VEGAN"}).json()
    (stored,) = found["documents"]
    assert found["total"] == 1
    assert (stored["question"], stored["answer"]) == ("Is it vegan?", "Yes. Call 212-555-2368.")
    answer = client.post("/v1/answer", json={"q": "is it vegan", "product_id": product}).json()
    assert answer["quotes"][0]["entry"] == stored["id"]
    assert client.put("/v1/answers", json={"documents": [entry] * 101}).status_code == 400
    client.delete(f"/v1/answers/{stored['id']}")


def test_questions_without_an_answer_are_listed_with_their_subjects(client: TestClient, store: SearchEngine) -> None:
    product = store.search("drill", filters="attributes.voltage_v > 0").hits[0].product
    queries = [
        PopularQuery("cordless drill", 50),
        PopularQuery("What voltage is it?", 30, pages=((product.id, 30),)),
        PopularQuery("Is it vegan?", 12, pages=((product.id, 7), ("gone", 1))),
    ]
    write_popular_queries(store.root, queries, datetime.now(UTC))
    found = client.get("/v1/answers/unanswered").json()["questions"]
    assert [(each["text"], each["times"], each["about"]["product_id"]) for each in found] == [
        ("Is it vegan?", 7, product.id),
        ("Is it vegan?", 4, ""),
    ]
    write_popular_queries(store.root, [], datetime.now(UTC))


def test_relations_are_added_removed_and_withdrawn(client: TestClient, store: SearchEngine) -> None:
    toner, printer = (store.search(query, size=1).hits[0].product.id for query in ("drill", "backpack"))
    fits = {"kind": "fits", "product": toner, "other": printer, "removed": False}
    before = client.get("/v1/relations", params={"product": printer}).json()
    client.put("/v1/relations", json={"documents": [fits]})
    details = client.get("/v1/relations", params={"product": printer}).json()["details"]
    (relation,) = details["relations"]
    assert (relation["product_id"], details["titles"][toner]) == (toner, store.product(toner).title)
    assert (relation["relation"]["evidence"], relation["relation"]["reverse"]) == ("owner", True)
    hits = client.get(f"/v1/products/{printer}/related").json()["hits"]
    assert [hit["product"]["id"] for hit in hits] == [toner]
    client.put("/v1/relations", json={"documents": [{**fits, "removed": True}]})
    assert client.get(f"/v1/products/{printer}/related").json()["hits"] == []
    client.delete(f"/v1/relations/fits {toner} {printer}")
    assert client.get("/v1/relations", params={"product": printer}).json()["details"] == before["details"]
    assert len(client.get("/v1/relations/history", params={"id": toner}).json()["changes"]) == 3
    assert client.put("/v1/relations", json={"documents": [{**fits, "other": "nosuch"}]}).status_code == 404
    assert client.get("/v1/relations", params={"product": "nosuch"}).status_code == 404


def test_relevance_settings_are_previewed_and_applied(client: TestClient) -> None:
    by_price = {"signals": [{"field": "price", "weight": 10}], "typo_tolerance": "offer"}
    before = client.get("/v1/relevance").json()
    seen = client.post("/v1/relevance/preview", json={"q": "drill", "size": 5, "put": [by_price]}).json()
    assert seen["total_before"] == seen["total_after"]
    assert seen["gained"] or seen["moved"]
    assert client.get("/v1/relevance").json() == before
    assert client.get("/v1/search", params={"q": "dril"}).json()["corrected"]
    client.put("/v1/relevance", json={"documents": [by_price]})
    assert not client.get("/v1/search", params={"q": "dril"}).json()["corrected"]
    client.delete("/v1/relevance/relevance")
    text = {"q": "drill", "put": [{"signals": [{"field": "brand"}]}]}
    assert client.post("/v1/relevance/preview", json=text).json()["error"]["field"] == "signals"


def test_suggestions_respect_a_narrowed_key(store: SearchEngine, keys: KeyFile) -> None:
    everything = store.suggest("d", size=20)
    brand = store.search("drill").hits[0].product.brand
    key = narrowed(add_key(keys, Scope.SEARCH), filters=f'brand = "{brand}"')
    with TestClient(create_app(store, ServiceSettings(keys=keys.path))) as calling:
        found = calling.get("/v1/suggest", params={"q": "d", "size": 20}, headers={"X-API-Key": key}).json()
    assert {each["product"]["brand"] for each in found["products"]} <= {brand}
    assert {each["name"] for each in found["brands"]} <= {brand}
    assert len(found["queries"]) < len(everything.queries)


def test_narrowed_key_reveals_no_hidden_word(store: SearchEngine, keys: KeyFile) -> None:
    word, typed, others = hidden_word(store)
    full = add_key(keys, Scope.SEARCH)
    with TestClient(create_app(store, ServiceSettings(keys=keys.path))) as calling:

        def answer(path: str, query: str, key: str) -> str:
            return calling.get(path, params={"q": query, "prefix": True}, headers={"X-API-Key": key}).text.lower()

        for path in ("/v1/search", "/v1/suggest"):
            for query in (typed, typed[:5], word[:5]):
                assert word not in answer(path, query, narrowed(full, filters=others))
            assert word in answer(path, typed, full)


def test_recommendations_use_the_history_and_can_include_it(client: TestClient, store: SearchEngine) -> None:
    clicked = store.search("drill").hits[0].product
    request = {"history": [{"product_id": clicked.id}], "size": 5}
    hits = client.post("/v1/recommend", json=request).json()["hits"]
    near = [hit.product.id for hit in store.similar(clicked.id, size=5).hits]
    assert [hit["product"]["id"] for hit in hits] == near
    private = client.post("/v1/recommend", json=request, headers={"Sec-GPC": "1"}).json()["hits"]
    assert private == client.post("/v1/recommend", json={"size": 5}).json()["hits"] != hits
    seen, hidden = (
        client.post("/v1/recommend", json=request | {"include_seen": value}).json()["hits"] for value in (True, False)
    )
    assert seen[0]["product"]["id"] == clicked.id
    assert clicked.id not in {hit["product"]["id"] for hit in hidden}


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


def test_previewed_and_stored_rules_need_no_id(client: TestClient, store: SearchEngine) -> None:
    first, second = (hit.product.id for hit in store.search("drill").hits[:2])
    when = {"query": "drill", "match": "contains"}
    hide = [{"when": when, "actions": [{"kind": "hide", "products": [each]}]} for each in (first, second)]
    seen = client.post("/v1/rules/preview", json={"q": "drill", "put": hide}).json()
    assert {first, second} <= {each["product"] for each in seen["lost"]}
    client.put("/v1/rules", json={"documents": hide})
    assert [rule["id"] for rule in client.get("/v1/rules").json()["documents"]] == ["drill", "drill-2"]
    for each in ("drill", "drill-2"):
        client.delete(f"/v1/rules/{each}")


ORDER = {"id": "order", "variants": [{"name": "now"}, {"name": "words", "options": {"ranker": "ranker-0001"}}]}


def test_experiment_with_a_missing_ranker_is_refused_or_reported(client: TestClient, store: SearchEngine) -> None:
    refused = client.put("/v1/experiments", json={"documents": [ORDER]})
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "ranker")
    assert "has no ranker 'ranker-0001'" in refused.json()["error"]["message"]
    for sign in (1.0, -1.0):
        publish(store.root, spec_for(store.snapshot), weighted_graph(merged=sign))
    store.reload_if_changed()
    assert client.put("/v1/experiments", json={"documents": [ORDER]}).json() == {"revision": 1}
    request = {"q": "drill", "shopper": "u1"}
    assert "~order." in client.get("/v1/search", params=request).json()["query_id"]
    assert client.get("/health/ready").json()["notices"] == []
    before = value(client, "shelfwise_notices")
    ranker_store(store.root).off()
    store.reload_if_changed()
    assert "~" not in client.get("/v1/search", params=request).json()["query_id"]
    (notice,) = client.get("/health/ready").json()["notices"]
    assert notice == "no shopper is assigned to the experiment order: no ranker serves"
    assert client.get("/v1/experiments").json()["faults"] == {"order": "no ranker serves"}
    assert value(client, "shelfwise_notices") == before + 1
    assert value(client, 'shelfwise_unserved_experiment_searches_total{experiment="order"}') >= 1
    client.patch("/v1/experiments/order", json={"enabled": False})
    assert client.get("/health/ready").json()["notices"] == []


def test_exposure_counts_only_recorded_searches_of_shoppers(client: TestClient, store: SearchEngine) -> None:
    filters = "price > 0"
    fair = {"id": "fair", "actions": [{"kind": "exposure", "filters": filters, "at_most": 0.5}]}
    assert client.put("/v1/rules", json={"documents": [fair]}).status_code == 200
    request = {"q": "drill", "size": 5, "session": "s1"}
    client.post("/v1/search", json=request, headers={"Sec-GPC": "1"})
    client.post("/v1/search", json={"q": "drill"})
    client.post("/v1/search", json=request | {"sort": "price"})
    client.post("/v1/search", json=request | {"q": ""})
    (found,) = client.get("/v1/rules").json()["details"]["exposure_goals"]
    assert (found["rule"], found["filters"], found["at_least"], found["at_most"]) == ("fair", filters, None, 0.5)
    assert (found["searches"], found["share"], found["strength"]) == (0, 0, 0)
    client.post("/v1/search", json=request)
    several = {"searches": [{"q": "drill", "session": "s1"}]}
    assert client.post("/v1/multi-search", json=several).status_code == 200
    (found,) = client.get("/v1/rules").json()["details"]["exposure_goals"]
    assert found["searches"] == 2
    assert found["share"] > 0.5
    assert found["strength"] < 0
    client.delete("/v1/rules/fair")
