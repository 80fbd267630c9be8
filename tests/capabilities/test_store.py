"""Capabilities of the service behind a web store, on one demo store."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.refresh import refresh
from shelfwise.retrieval.errors import QueryError
from shelfwise.retrieval.records import EventKind, ReasonKind
from shelfwise.service.app import create_app
from shelfwise.service.curation.rules import Exposure, Match, Rule, When
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import DERIVED_FOLDER, EventLog
from shelfwise.service.http.auth import KEYS_FILE, KeyFile
from shelfwise.service.settings import ServiceSettings, Settings
from tests.capabilities.conftest import SECRET
from tests.machine import within
from tests.services import events_of_query, local_client, recorded_events


def test_web_store(client: TestClient, store: SearchEngine) -> None:
    page = store.search("cordless drill", size=5, facets=["brand"], ranges=["price:0,50"])
    parameters = {"q": "cordless drill", "size": "5", "facets": "brand", "ranges": "price:0,50"}
    found = client.get("/v1/search", params=parameters).json()
    assert [hit["product"]["id"] for hit in found["hits"]] == [hit.product.id for hit in page.hits]
    assert (found["total"], found["page"], found["size"], found["version"]) == (page.total, 1, 5, page.version)
    assert found["facets"]["brand"]["counts"][0]["count"] == page.facets["brand"].counts[0].count
    assert len(found["query_id"]) == 48
    assert "<html" in client.get("/").text


def test_instantsearch(client: TestClient, store: SearchEngine) -> None:
    query = {"indexName": "products", "query": "steel", "clickAnalytics": True, "userToken": "anonymous-1", "page": 1}
    plain = {"Content-Type": "text/plain"}
    answer = client.post("/1/indexes/*/queries", content=json.dumps({"requests": [query]}), headers=plain)
    (found,) = answer.json()["results"]
    product = found["hits"][2]["objectID"]
    click = {
        "eventType": "click",
        "eventName": "Clicked",
        "index": "products",
        "userToken": "anonymous-1",
        "queryID": found["queryID"],
        "objectIDs": [product],
        "positions": [23],
        "timestamp": int(time.time() * 1_000),
    }
    for _ in range(2):  # a repeated beacon counts once
        answer = client.post("/1/events", content=json.dumps({"events": [click]}), headers=plain)
        assert (answer.status_code, answer.json()) == (200, {"status": 200, "message": "OK"})
    events = events_of_query(store.root, found["queryID"], wanted=len(found["hits"]) + 2)
    shown = {event["product_id"]: event["position"] for event in events if event["kind"] == EventKind.IMPRESSION}
    clicks = [event for event in events if event["kind"] == EventKind.CLICK]
    assert shown == {hit["objectID"]: place for place, hit in enumerate(found["hits"], 21)}
    assert [(event["product_id"], event["position"]) for event in clicks] == [(product, None)]
    assert [event["query"] for event in events if event["kind"] == EventKind.QUERY] == ["steel"]
    assert len({event["shopper"] for event in events}) == 1


def test_answers(client: TestClient, store: SearchEngine) -> None:
    product = store.search("cordless drill", filters="attributes.voltage_v > 0").hits[0].product
    body = {"q": "What voltage is it?", "product_id": product.id, "shopper": "ann"}
    found = client.post("/v1/answer", json=body).json()
    (quote,) = found["quotes"]
    assert (found["status"], quote["field"], quote["product_id"]) == ("answered", "attributes.voltage_v", product.id)
    (event,) = events_of_query(store.root, found["query_id"])
    assert (event["query"], event["product_id"]) == ("What voltage is it?", product.id)
    following = client.post("/v1/answer", json={"q": "Is it vegan?", "about": found["about"]}).json()
    assert (following["status"], following["about"]) == ("not_said", found["about"])
    assert client.post("/v1/answer", json={"q": "cordless drill"}).json()["status"] == "no_question"


def test_reasons(store: SearchEngine) -> None:
    plain, page = store.search("cordless drill"), store.search("cordless drill", reasons="auto")
    assert [hit.product.id for hit in page.hits] == [hit.product.id for hit in plain.hits]
    assert not any(hit.reasons for hit in plain.hits)
    assert any(hit.reasons for hit in page.hits)
    assert all(bool(hit.reasons) == bool(hit.reason_line) for hit in page.hits)
    with pytest.raises(QueryError, match="reasons is 'de', it can be auto, en, zh"):
        store.search("cordless drill", reasons="de")


def test_rules(client: TestClient, store: SearchEngine) -> None:
    first = store.search("drill").hits[0]
    hidden = first.product.id
    hide = {"kind": "hide", "products": [hidden]}
    rule = {"id": "no-drill", "when": {"query": "drill", "match": "exact"}, "actions": [hide]}
    seen = client.post("/v1/rules/preview", json={"q": "drill", "put": [rule]}).json()
    assert [(each["product"], each["product_type"]) for each in seen["lost"]] == [(hidden, first.product_type)]
    assert seen["total_after"] == seen["total_before"] - 1
    assert client.get("/v1/search", params={"q": "drill"}).json()["hits"][0]["product"]["id"] == hidden
    revision = client.put("/v1/rules", json={"documents": [rule]}).json()["revision"]
    found = client.get("/v1/search", params={"q": "drill", "size": 200}).json()
    assert hidden not in {hit["product"]["id"] for hit in found["hits"]}
    assert found["rules"] == ["no-drill"]
    assert client.patch("/v1/rules/no-drill", json={"enabled": False}).json()["revision"] == revision + 1
    assert client.get("/v1/search", params={"q": "drill"}).json()["hits"][0]["product"]["id"] == hidden
    assert client.post("/v1/rules/restore", json={"revision": revision}).json()["revision"] == revision + 2
    assert client.delete("/v1/rules/no-drill").json()["revision"] == revision + 3
    changes = client.get("/v1/rules/history").json()["changes"]
    assert [change["revision"] for change in changes[:4]] == [revision + 3, revision + 2, revision + 1, revision]
    assert (changes[0]["before"]["id"], changes[0]["after"]) == ("no-drill", None)


def test_exposure(store: SearchEngine) -> None:
    plain = store.search("drill", size=20, rules=False)
    brand = next(hit.product.brand for hit in reversed(plain.hits) if hit.product.brand != plain.hits[0].product.brand)
    store.rules.put([Rule("fair", (Exposure(f"brand = '{brand}'", at_least=0.9),), When("drill", Match.CONTAINS))])
    for _ in range(5):
        store.rules.exposure.count(store.search("drill", size=20))
    (now,) = store.rules.exposure_goals()
    assert (now.searches, now.strength > 1, 0 < now.share < 0.9) == (5, True, True)
    page = store.search("drill", size=20, reasons="en")
    assert page.hits[0].product.brand == brand
    assert (page.hits[0].rule, page.hits[0].reasons[-1].kind) == ("fair", ReasonKind.BOOSTED)
    assert "moved up by the store" in page.hits[0].reason_line.lower()
    store.rules.delete(["fair"])
    assert store.search("drill", size=20).rules == ()


def test_experiments(client: TestClient, store: SearchEngine) -> None:
    split = {"id": "merging", "variants": [{"name": "now"}, {"name": "rrf", "options": {"merge": "rrf"}}]}
    shoppers, seen = 30, {"merging.now": 0, "merging.rrf": 0}
    assert client.put("/v1/experiments", json={"documents": [split]}).json() == {"revision": 1}
    for number in range(shoppers):
        client._transport.client = (f"192.0.2.{number}", 50_000)  # type: ignore[attr-defined]
        request: dict[str, str | int] = {"q": "cordless drill", "size": 3, "shopper": f"u{number}"}
        found = client.get("/v1/search", params=request).json()
        variant = found["query_id"].split("~")[1]
        seen[variant] += 1
        if variant == "merging.rrf":
            click = {"kind": "click", "product_id": found["hits"][1]["product"]["id"], "shopper": f"u{number}"}
            assert client.post("/v1/events", json={"events": [{**click, "query_id": found["query_id"]}]}).is_success
    client._transport.client = ("127.0.0.1", 50_000)  # type: ignore[attr-defined]
    kinds = ["query", "cordless drill"]
    assert within(
        60, lambda: sum([row["kind"], row["query"]] == kinds for row in recorded_events(store.root)) >= shoppers
    )
    with EventLog.open(store.root, Settings(backend="embedded")) as log:
        refresh(log.store, log.folder / DERIVED_FOLDER, None, DeriveOptions(), now=datetime.now(UTC))
    report = client.get("/v1/experiments/merging/report").json()
    figures = {each["name"]: each for each in report["analysis"]["variants"]}
    assert {f"merging.{name}": each["units"] for name, each in figures.items()} == seen
    assert figures["now"]["figures"]["click_through"] == 0
    assert figures["rrf"]["figures"]["click_through"] == 1
    assert report["analysis"]["decisions"][0]["outcome"] == "not yet"
    assert client.patch("/v1/experiments/merging", json={"enabled": False}).json() == {"revision": 2}
    assert "~" not in client.get("/v1/search", params={"q": "drill", "shopper": "u1"}).json()["query_id"]
    found = client.get("/v1/experiments").json()
    (listed,) = found["documents"]
    assert (listed, found["details"]["states"]) == ({**listed, **split}, {"merging": {"state": "ended"}})


def test_sponsored_placement(client: TestClient) -> None:
    plain = client.post("/v1/search", json={"q": "cordless drill"}).json()
    assert plain["sponsored"] == []
    product = plain["hits"][0]["product"]["id"]
    campaign = {"id": "one", "advertiser": "acme", "products": [product], "bid": 0.5, "daily_budget": 20}
    assert client.put("/v1/campaigns", json={"documents": [campaign]}).status_code == 200
    found = client.post("/v1/search", json={"q": "cordless drill"}).json()
    (hit,) = found["sponsored"]
    assert (hit["label"], hit["place"], hit["advertiser"], found["hits"]) == ("Sponsored", 1, "acme", plain["hits"])
    click = {"kind": "click", "product_id": product, "query_id": hit["query_id"], "shopper": "ann", "position": 1}
    for event_id in ("e1", "e1", "e2"):
        assert client.post("/v1/events", json={"events": [{**click, "event_id": event_id}]}).status_code == 200
    entries = client.get("/v1/campaigns/log").json()["entries"]
    assert [(each["campaign"], each["reason"]) for each in entries] == [("one", "charged"), ("one", "repeated")]
    assert 0.05 <= entries[0]["amount"] <= 0.5
    listed = client.get("/v1/campaigns").json()["details"]["states"]["one"]
    assert listed["spent"] == listed["spent_today"] == entries[0]["amount"]
    days = client.get("/v1/campaigns/report", params={"campaign": "one"}).json()["days"]
    assert [(each["shown"], each["clicks"], each["charged"]) for each in days] == [(1, 2, 1)]
    assert client.delete("/v1/campaigns/one").status_code == 200


def test_monitoring(client: TestClient, store: SearchEngine) -> None:
    client.get("/v1/search", params={"q": "drill"})
    result = client.get("/metrics").text
    (serving,) = [line for line in result.splitlines() if line.startswith("shelfwise_serving_info{")]
    assert f'ranker="{store.ranker}"' in serving
    assert f'version="{store.manifest.version}"' in serving
    assert 'shelfwise_http_requests_total{method="GET",route="/v1/search",status="200"}' in result
    assert "shelfwise_stage_duration_seconds_bucket" in result


def test_keys(store: SearchEngine, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / KEYS_FILE)
    with local_client(create_app(store, ServiceSettings(keys=keys.path))) as client:
        assert client.get("/v1/keys").json() == []
        first = client.post("/v1/keys", json={"name": "me", "scopes": ["admin"]}).json()
        assert client.get("/v1/keys", headers={"Cookie": ""}).status_code == 401
        client.headers["X-API-Key"] = first["key"]
        body = {"name": "web", "scopes": ["search"], "filters": "price < 100", "expires": "2100-01-01T00:00:00Z"}
        web = client.post("/v1/keys", json=body).json()
        found = client.get("/v1/keys")
        facts = [(each["name"], each["current"], each["of_page"]) for each in found.json()]
        assert facts == [("me", True, False), ("store page", False, True), ("web", False, False)]
        assert found.json()[2] == {name: value for name, value in web.items() if name != "key"}
        assert all(each not in found.text for each in (first["key"], "sha256", "public"))
        assert client.get("/v1/search", headers={"X-API-Key": web["key"]}).status_code == 200
        assert client.get("/v1/keys", headers={"X-API-Key": web["key"]}).status_code == 403
        assert client.delete(f"/v1/keys/{first['id']}").status_code == 409  # no key could create another one
        assert client.delete(f"/v1/keys/{web['id']}").json()["name"] == "web"
        assert client.get("/v1/search", headers={"X-API-Key": web["key"]}).status_code == 401
        assert client.delete(f"/v1/keys/{web['id']}").status_code == 404


def test_forgetting(client: TestClient, store: SearchEngine) -> None:
    product = client.get("/v1/search").json()["hits"][0]["product"]["id"]
    click = {"kind": "click", "product_id": product, "shopper": "anna@example.com"}
    assert client.post("/v1/events", json={"events": [click, {**click, "shopper": "bert"}]}).json()["stored"] == 2
    accepted = client.post("/v1/tasks", json={"kind": "forget", "shopper": "anna@example.com"})
    assert accepted.status_code == 202
    place = accepted.headers["Location"]
    assert within(400, lambda: client.get(place).json()["state"] in ("done", "failed"))
    finished = client.get(place).json()
    assert finished["state"] == "done", finished
    assert (finished["result"]["events"], finished["result"]["remaining_events"], finished["arguments"]) == (1, 0, {})
    assert client.post(f"{place}/cancel").status_code == 409  # an erasure cannot be cancelled
    for path in store.root.rglob("*"):
        assert not path.is_file() or b"anna@example.com" not in path.read_bytes()


def test_webhooks(client: TestClient, store: SearchEngine) -> None:
    def send(topic: str, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        signature = base64.b64encode(hmac.digest(SECRET.encode(), body, hashlib.sha256)).decode()
        headers = {"X-Shopify-Topic": topic, "X-Shopify-Hmac-Sha256": signature}
        answer = client.post("/v1/webhooks/shopify", content=body, headers=headers)
        assert answer.json()["products"] == 1, answer.text
        assert store.live.wait_for(answer.json()["sequence"], 60)

    variant = {"id": 7, "price": "19.99", "sku": "shirt-s", "option1": "Small"}
    options = [{"name": "Size", "position": 1, "values": ["Small"]}]
    shirt = {"id": 5, "handle": "shirt", "title": "Quokka Shirt", "status": "active", "vendor": "Acme"}
    shirt |= {
        "published_at": "2021-12-31T19:00:00-05:00",
        "updated_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    send("products/create", {**shirt, "variants": [variant], "options": options})
    product = client.get("/v1/products/shirt").json()["product"]
    assert (product["title"], product["brand"], product["price"]) == ("Quokka Shirt", "Acme", 19.99)
    assert product["identifiers"]["sku"] == ["shirt-s"]
    send("products/delete", {"id": 5})
    assert client.get("/v1/products/shirt").status_code == 404
    unsigned = client.post("/v1/webhooks/shopify", json=shirt, headers={"X-Shopify-Topic": "products/create"})
    assert unsigned.status_code == 401
