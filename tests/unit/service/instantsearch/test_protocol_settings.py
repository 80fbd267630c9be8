"""Settings of the protocol: stored as those of the store, and applied to searches."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from shelfwise.service.curation.relevance import Relevance, TypoTolerance
from shelfwise.service.engine.engine import SearchEngine

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
