"""Settings and ranking of an index by the protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shelfwise.service.curation.relevance import Relevance, TypoTolerance
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.telemetry import WITHOUT_EFFECT

INDEX = "/1/indexes/products"


def test_settings_are_relevance_settings(client: TestClient, store: SearchEngine) -> None:
    sent = {
        "customRanking": ["desc(rating)", "asc(price)"],
        "typoTolerance": "strict",
        "unretrievableAttributes": ["image"],
    }
    answer = client.put(f"{INDEX}/settings", json=sent).json()
    assert "strict is applied as true" in answer["message"]
    assert store.relevance.get() == Relevance(hidden=("images",)), "a customRanking adds nothing to scores"
    store.relevance.put([Relevance(typo_tolerance=TypoTolerance.OFFER)])
    settings = client.get(f"{INDEX}/settings").json()
    assert (settings["customRanking"], settings["typoTolerance"], settings["unretrievableAttributes"]) == (
        ["desc(rating)", "asc(price)"],
        False,
        None,
    )
    client.put(f"{INDEX}/settings", json={"customRanking": None})
    client.put(f"{INDEX}/settings", json={"searchableAttributes": ["brand", "unordered(name), color", "nosuch"]})
    fields = store.relevance.get().fields
    assert (fields.brand, fields.title, fields.category, fields.description) == (5, 3, 0, 0)
    assert {name for name, weight in fields.attributes.items() if weight} == {"color"}
    assert store.relevance.get().typo_tolerance is TypoTolerance.OFFER, "what is left out stays"
    store.relevance.restore(0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"customRanking": ["rating"]}, "customRanking: 'rating' must be like desc(rating)"),
        ({"typoTolerance": "maybe"}, "typoTolerance is 'maybe'"),
        ({"distinct": "yes"}, "distinct is 'yes'"),
        ({"disableTypoToleranceOnWords": ["two words"]}, "never_corrected"),
    ],
)
def test_setting_of_a_wrong_value_changes_nothing(
    client: TestClient, store: SearchEngine, settings: dict[str, Any], named: str
) -> None:
    before = client.get(f"{INDEX}/settings").json()
    refused = client.put(f"{INDEX}/settings", json={"hitsPerPage": 3, **settings})
    assert (refused.status_code, named in refused.json()["message"]) == (400, True), refused.text
    assert client.get(f"{INDEX}/settings").json() == before


def test_attributes_for_faceting_are_the_facets_of_a_star(client: TestClient) -> None:
    sent = {"attributesForFaceting": ["filterOnly(price)", "searchable(brand)", "rating"], "maxValuesPerFacet": 2}
    assert client.put(f"{INDEX}/settings", json=sent).status_code == 200
    facets = client.post(f"{INDEX}/query", json={"facets": ["*"]}).json()["facets"]
    assert (list(facets), len(facets["brand"])) == (["brand", "rating"], 2)
    reset = {"attributesForFaceting": None, "maxValuesPerFacet": None}
    assert client.put(f"{INDEX}/settings", json=reset).status_code == 200
    assert len(client.post(f"{INDEX}/query", json={"facets": ["*"]}).json()["facets"]) > 4


DOCUMENT = Path(__file__).parents[4] / "docs/instantsearch.md"
Hits = list[dict[str, Any]]


@pytest.fixture
def ranking_client(served: TestClient) -> TestClient:
    served.put(f"{INDEX}/settings", json={"hitsPerPage": 100})
    return served


def set_up(ranking_client: TestClient, index: str = "products", /, **settings: object) -> str:
    answer = ranking_client.put(f"/1/indexes/{index}/settings", json=settings)
    assert answer.status_code == 200, answer.text
    return str(answer.json().get("message", ""))


def hits(ranking_client: TestClient, query: str, index: str = "products", **parameters: object) -> Hits:
    found: Hits = ranking_client.post(f"/1/indexes/{index}/query", json={"query": query, **parameters}).json()["hits"]
    return found


def test_custom_ranking_orders_the_products_of_a_type_and_moves_no_other_before_them(
    ranking_client: TestClient,
) -> None:
    """Regression: with desc(rating_count), `kettle` showed cups above kettles."""
    plain = hits(ranking_client, "kettle")
    kettles = {each["objectID"] for each in plain if "Kettle" in each["name"]}
    assert len(kettles) > 3
    for order, sign in (("asc", 1), ("desc", -1)):
        set_up(ranking_client, customRanking=[f"{order}(price)"])
        ranked = hits(ranking_client, "kettle")
        assert {each["objectID"] for each in ranked} == {each["objectID"] for each in plain}
        first = ranked[: len(kettles)]
        assert {each["objectID"] for each in first} == kettles
        prices = [sign * each["price"] for each in first]
        assert prices == sorted(prices)


def test_a_product_with_a_value_of_the_query_stays_before_those_without(ranking_client: TestClient) -> None:
    plain = hits(ranking_client, "cordless drill 18V", getRankingInfo=True)
    set_up(ranking_client, customRanking=["desc(price)"])
    ranked = hits(ranking_client, "cordless drill 18V", getRankingInfo=True)
    assert [each["objectID"] for each in plain] != [each["objectID"] for each in ranked]
    scores = [each["_rankingInfo"]["score"] for each in ranked]
    assert scores == sorted(scores, reverse=True)
    for score in set(scores):
        prices = [each["price"] for each, own in zip(ranked, scores, strict=True) if own == score and "price" in each]
        assert prices == sorted(prices, reverse=True)


def test_an_attribute_that_no_product_has_yet_is_named_and_has_no_effect(ranking_client: TestClient) -> None:
    plain = [each["objectID"] for each in hits(ranking_client, "drill")]
    message = set_up(ranking_client, customRanking=["desc(fame)"])
    assert "desc(fame) has no effect until products have a number 'fame'" in message
    assert [each["objectID"] for each in hits(ranking_client, "drill")] == plain


def test_a_replica_shows_writes_to_its_primary_in_its_own_order(ranking_client: TestClient) -> None:
    set_up(ranking_client, customRanking=["desc(rating_count)"], replicas=["cheap", "virtual(dear)"])
    set_up(ranking_client, "cheap", ranking=["asc(price)", "typo", "custom"], hitsPerPage=50)
    assert "relevancyStrictness" in set_up(
        ranking_client, "dear", customRanking=["desc(price)"], relevancyStrictness=50
    )
    kettle = {"objectID": "k", "name": "Enamel kettle", "price": 0.01, "rating_count": 1}
    task = ranking_client.put(f"{INDEX}/k", json=kettle).json()["taskID"]
    assert ranking_client.get(f"/1/indexes/cheap/task/{task}").json()["status"] == "published"
    cheap, dear = (hits(ranking_client, "kettle", each) for each in ("cheap", "dear"))
    assert (cheap[0]["objectID"], dear[-1]["objectID"]) == ("k", "k")
    assert hits(ranking_client, "kettle")[0]["objectID"] != "k"
    batch = [{"indexName": each, "query": "kettle"} for each in ("products", "cheap", "products_price_desc")]
    results = ranking_client.post("/1/indexes/*/queries", json={"requests": batch}).json()["results"]
    assert [each["hits"][0]["objectID"] == "k" for each in results] == [False, True, False]
    assert [each["hitsPerPage"] for each in results] == [100, 50, 100]
    settings = ranking_client.get("/1/indexes/cheap/settings").json()
    assert (settings["primary"], settings["customRanking"]) == ("products", ["desc(rating_count)"])
    assert ranking_client.get(f"{INDEX}/settings").json()["replicas"] == ["cheap", "virtual(dear)"]


def test_settings_are_forwarded_to_replicas_on_request(ranking_client: TestClient) -> None:
    set_up(ranking_client, replicas=["cheap"])
    set_up(ranking_client, hitsPerPage=7)
    assert ranking_client.get("/1/indexes/cheap/settings").json()["hitsPerPage"] == 100
    ranking_client.put(f"{INDEX}/settings?forwardToReplicas=true", json={"hitsPerPage": 8, "typoTolerance": False})
    assert ranking_client.get("/1/indexes/cheap/settings").json()["hitsPerPage"] == 8


def test_a_replica_is_not_written_to_directly(ranking_client: TestClient) -> None:
    set_up(ranking_client, replicas=["cheap"])
    body = {"objectID": "x", "name": "Kettle"}
    batch = {"requests": [{"action": "addObject", "body": body}]}
    for method, path, sent in (("PUT", "x", body), ("POST", "batch", batch)):
        refused = ranking_client.request(method, f"/1/indexes/cheap/{path}", json=sent)
        assert (refused.status_code, "'products'" in refused.json()["message"]) == (403, True)
    assert ranking_client.post("/1/indexes/cheap/clear").status_code == 403
    assert "not applied to a replica" in set_up(ranking_client, "cheap", replicas=["more"])
    set_up(ranking_client, replicas=[])
    assert ranking_client.get("/1/indexes/cheap/settings").status_code == 404


def test_every_parameter_without_effect_is_documented() -> None:
    section = DOCUMENT.read_text("utf-8").partition("### Parameters without an effect")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == WITHOUT_EFFECT


def test_parameters_without_effect_are_named_in_every_response(ranking_client: TestClient) -> None:
    for name in sorted(WITHOUT_EFFECT):
        sent = {"indexName": "products", name: 1}
        facet = sent | {"type": "facet", "facet": "brand"}
        answers = ranking_client.post("/1/indexes/*/queries", json={"requests": [sent, facet]}).json()["results"]
        assert [each["ignoredParameters"] for each in answers] == [[name]] * 2
    assert ranking_client.post(f"{INDEX}/browse", json={"synonyms": False}).json()["ignoredParameters"] == ["synonyms"]
    body = {"indexName": "products", "model": "trending-items", "threshold": 0}
    parameters = {"queryParameters": {"ignorePlurals": True}, "fallbackParameters": {"facetFilters": []}}
    answer = ranking_client.post("/1/indexes/*/recommendations", json={"requests": [body | parameters]}).json()
    assert answer["results"][0]["ignoredParameters"] == ["fallbackParameters", "ignorePlurals"]
