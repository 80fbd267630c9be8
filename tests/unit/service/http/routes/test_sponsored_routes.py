"""Routes of sponsored campaigns: labelled hits in searches, charged clicks, and logs for advertisers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shelfwise.service.app import create_app
from shelfwise.service.curation.switches import SwitchedPart
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.settings import ServiceSettings, Settings, SponsoredSettings
from tests.services import add_key, local_client

QUERY = "cordless drill"
CAMPAIGNS = "/v1/campaigns"


@pytest.fixture
def engine(root: Path) -> Iterator[SearchEngine]:
    settings = Settings(backend="embedded", sponsored=SponsoredSettings(places=2))
    with SearchEngine.open(root, settings=settings) as opened:
        opened.switches.put(SwitchedPart.SPONSORED, on=True)
        yield opened


@pytest.fixture
def calling(engine: SearchEngine) -> Iterator[TestClient]:
    with local_client(create_app(engine, ServiceSettings(deadline=300))) as client:
        yield client


def products_of(client: TestClient) -> list[str]:
    return [hit["product"]["id"] for hit in search(client)["hits"]]


def search(client: TestClient, **values: object) -> dict[str, Any]:
    found: dict[str, Any] = client.post("/v1/search", json={"q": QUERY, **values}).json()
    return found


def put(client: TestClient, *campaigns: dict[str, object]) -> None:
    assert client.put(CAMPAIGNS, json={"documents": list(campaigns)}).status_code == 200


def test_sponsored_hits_are_switched_on_and_off_while_the_service_runs(root: Path) -> None:
    with (
        SearchEngine.open(root, settings=Settings(backend="embedded")) as opened,
        local_client(create_app(opened, ServiceSettings(deadline=300))) as client,
    ):
        put(client, {"advertiser": "acme", "products": products_of(client)[:1], "bid": 0.5})
        assert search(client)["sponsored"] == []
        for on in (True, False):
            client.put("/v1/switches/sponsored", json={"on": on})
            assert len(search(client)["sponsored"]) == on
            assert client.get(CAMPAIGNS).json()["details"]["enabled"] is on


def test_several_searches_have_their_own(calling: TestClient) -> None:
    put(calling, {"id": "one", "advertiser": "acme", "products": products_of(calling)[:3], "bid": 0.5})
    searches = [{"q": QUERY, "fields": "title"}, {"q": "garden hose"}]
    one, other = calling.post("/v1/multi-search", json={"searches": searches}).json()["results"]
    assert (len(one["sponsored"]), other["sponsored"]) == (1, [])
    assert set(one["sponsored"][0]["product"]) == {"id", "title"}
    assert search(calling)["sponsored"]
    assert search(calling, prefix=True)["sponsored"] == []


def test_an_advertisers_key_reads_only_its_own_log(calling: TestClient, root: Path) -> None:
    one, two = products_of(calling)[:2]
    put(
        calling,
        {"id": "one", "advertiser": "acme", "products": [one], "bid": 0.5},
        {"id": "two", "advertiser": "test", "products": [two], "bid": 0.5},
    )
    hits = search(calling)["sponsored"]
    events = [
        {"kind": "click", "product_id": hit["product"]["id"], "query_id": hit["query_id"], "shopper": "ann"}
        for hit in hits
    ]
    calling.post("/v1/events", json={"events": events})
    keys = KeyFile(root / KEYS_FILE)
    # The keys' name is "test".
    scopes = (Scope.ADVERTISER, Scope.ADMIN, Scope.SEARCH)
    own, admin, other = [{"X-API-Key": add_key(keys, scope)} for scope in scopes]
    log = f"{CAMPAIGNS}/log"
    assert [each["advertiser"] for each in calling.get(log, headers=own).json()["entries"]] == ["test"]
    assert len(calling.get(log, headers=admin).json()["entries"]) == 2
    assert calling.get(log, headers=own, params={"advertiser": "acme"}).status_code == 403
    assert calling.get(log, headers=own, params={"campaign": "one"}).json()["entries"] == []
    days = calling.get(f"{CAMPAIGNS}/report", headers=own).json()["days"]
    assert [(each["campaign"], each["charged"]) for each in days] == [("two", 1)]
    for path in (CAMPAIGNS, f"{CAMPAIGNS}/history", "/v1/search?q=drill"):
        assert calling.get(path, headers=own).status_code == 403
    assert calling.get(log, headers=other).status_code == 403


def test_a_private_search_has_them_and_its_clicks_are_not_charged(calling: TestClient) -> None:
    put(calling, {"id": "one", "advertiser": "acme", "products": products_of(calling)[:1], "bid": 0.5})
    private = {"Sec-GPC": "1"}
    (hit,) = calling.post("/v1/search", json={"q": QUERY}, headers=private).json()["sponsored"]
    event = {"kind": "click", "product_id": hit["product"]["id"], "query_id": hit["query_id"], "shopper": "ann"}
    assert calling.post("/v1/events", json={"events": [event]}, headers=private).status_code == 200
    assert [each["reason"] for each in calling.get(f"{CAMPAIGNS}/log").json()["entries"]] == ["anonymous"]


def test_the_protocol_has_labelled_offers_apart_from_hits_and_charges_clicks(
    calling: TestClient, engine: SearchEngine
) -> None:
    one = products_of(calling)[0]
    asked = {"indexName": "products", "query": QUERY, "clickAnalytics": True, "userToken": "ann", "hitsPerPage": 5}

    def answer(**values: object) -> dict[str, Any]:
        found = calling.post("/1/indexes/*/queries", json={"requests": [asked | values]}).json()
        result: dict[str, Any] = found["results"][0]
        return result

    plain = answer()
    put(calling, {"id": "one", "advertiser": "acme", "products": [one], "bid": 0.5})
    found = answer()
    (offer,) = found["sponsored"]
    mark = offer["_sponsored"]
    assert (offer["objectID"], mark["label"], mark["advertiser"], mark["place"]) == (one, "Sponsored", "acme", 1)
    assert mark["queryID"].startswith(found["queryID"])
    changing = {"queryID", "sponsored", "processingTimeMS"}
    assert {name: found[name] for name in found if name not in changing} == {
        name: plain[name] for name in plain if name not in changing
    }
    for values in ({"clickAnalytics": False}, {"page": 1}, {"query": ""}, {"offset": 0, "length": 5}):
        assert "sponsored" not in answer(**values)
    click = {"eventType": "click", "eventName": "Ad", "index": "products", "userToken": "ann", "objectIDs": [one]}
    events = {"events": [click | {"queryID": mark["queryID"], "positions": [1]}]}
    assert calling.post("/1/events", json=events).status_code == 200
    assert [entry.reason for entry in engine.campaigns.ledger.entries("acme")] == ["charged"]


def test_similar_products_have_labelled_offers_where_they_are_requested(
    calling: TestClient, engine: SearchEngine
) -> None:
    product = products_of(calling)[0]
    near = [hit.product.id for hit in engine.similar(product, size=9).hits]
    put(calling, {"id": "near", "advertiser": "acme", "products": near, "bid": 0.5})
    path = f"/v1/products/{product}/similar"
    assert calling.get(path).json()["sponsored"] == []
    (offer,) = calling.get(path, params={"sponsored": True}).json()["sponsored"]
    assert (offer["label"], offer["advertiser"], offer["product"]["id"] in near) == ("Sponsored", "acme", True)
    asked = {"indexName": "products", "model": "related-products", "objectID": product, "maxRecommendations": 9}
    wanted = asked | {"queryParameters": {"clickAnalytics": True}}
    plain, found = calling.post("/1/indexes/*/recommendations", json={"requests": [asked, wanted]}).json()["results"]
    assert found["hits"] == plain["hits"]
    assert "sponsored" not in plain
    (record,) = found["sponsored"]
    assert (record["objectID"], record["_sponsored"]["campaign"]) == (offer["product"]["id"], "near")
    click = {"kind": "click", "product_id": record["objectID"], "shopper": "ann", "event_id": "s1"}
    sealed = record["_sponsored"]["queryID"]
    assert calling.post("/v1/events", json={"events": [click | {"query_id": sealed}]}).status_code == 200
    assert [entry.reason for entry in engine.campaigns.ledger.entries("acme")] == ["charged"]
