"""Synonyms over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi.testclient import TestClient

from service.app import create_app
from service.curation.synonym_mining import Example, Proposal, write_proposals
from service.curation.synonyms import SynonymKind
from service.engine.engine import SearchEngine
from service.http.auth import KeyFile, Scope
from service.settings import ServiceSettings
from tests.services import made

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)
ZORB = {"id": "zorb", "kind": "one-way", "phrases": ["zorb"], "to": ["drill"], "enabled": True}
EXAMPLE = Example("glorp", "drill", 7, 0.5, 0.6)


def total(client: TestClient, text: str) -> int:
    return int(client.get("/v1/search", params={"q": text, "correct": False}).json()["total"])


def test_a_synonym_is_put_followed_listed_and_taken_back(client: TestClient, store: SearchEngine) -> None:
    drills = store.search("zorb drill", stage="bm25").total
    assert client.get("/v1/synonyms").json() == {"revision": 0, "synonyms": []}
    assert client.put("/v1/synonyms", json={"synonyms": [ZORB]}).json() == {"revision": 1}
    assert store.search("zorb", stage="bm25", correct=False).total == drills
    assert client.get("/v1/synonyms").json() == {"revision": 1, "synonyms": [ZORB]}
    assert client.put("/v1/synonyms", json={"synonyms": [ZORB | {"enabled": False}]}).json() == {"revision": 2}
    assert store.search("zorb", stage="bm25", correct=False).total == 0
    assert client.delete("/v1/synonyms/zorb").json() == {"revision": 3}
    (last, *_) = changes = client.get("/v1/synonyms/history", params={"synonym": "zorb"}).json()["changes"]
    assert [change["revision"] for change in changes] == [3, 2, 1]
    assert (last["before"], last["after"]) == (ZORB | {"enabled": False}, None)


def test_what_cannot_be_taken_is_refused_with_its_field(client: TestClient) -> None:
    for synonym, field in (
        ({"id": "x", "kind": "two-way", "phrases": ["drill", "Drills"]}, "phrases"),
        ({"id": "x", "kind": "one-way", "phrases": ["drill"]}, "to"),
        ({"id": "x", "kind": "sideways", "phrases": ["drill"]}, "synonyms.0.kind"),
        (ZORB | {"words": ["x"]}, "synonyms.0.words"),
    ):
        answer = client.put("/v1/synonyms", json={"synonyms": [synonym]})
        assert answer.status_code == 400
        assert answer.json()["error"]["field"] == field
    answer = client.delete("/v1/synonyms/nowhere")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_synonym")


def test_proposals_are_accepted_and_declined(client: TestClient, store: SearchEngine) -> None:
    payload = [
        Proposal(f"{at:012x}", SynonymKind.ONE_WAY, (word,), ("drill",), 7, 0.5, 0.6, (EXAMPLE,))
        for at, word in enumerate(("glorp", "blimf", "snick"))
    ]
    write_proposals(store.root, payload, MADE)
    listed = client.get("/v1/synonyms/proposals", params={"limit": 2}).json()
    assert (listed["total"], [each["phrases"] for each in listed["proposals"]]) == (3, [["glorp"], ["blimf"]])
    assert listed["proposals"][0]["examples"][0]["to_query"] == "drill"
    kept = client.post(f"/v1/synonyms/proposals/{payload[0].id}/accept").json()
    assert kept["synonym"] == {"id": "glorp-to-drill", "kind": "one-way", "phrases": ["glorp"]} | {
        "to": ["drill"],
        "enabled": True,
    }
    assert store.search("glorp", stage="bm25", correct=False).total > 0
    assert client.post(f"/v1/synonyms/proposals/{payload[1].id}/decline").json() == {"declined": payload[1].id}
    write_proposals(store.root, payload, MADE)
    assert [each["phrases"] for each in client.get("/v1/synonyms/proposals").json()["proposals"]] == [["snick"]]
    assert client.post("/v1/synonyms/proposals/nowhere/accept").status_code == 400
    client.delete("/v1/synonyms/glorp-to-drill")


def test_only_an_administrator_may(store: SearchEngine, keys: KeyFile) -> None:
    searching, ruling = made(keys, Scope.SEARCH), made(keys, Scope.ADMIN)
    with TestClient(create_app(store, ServiceSettings(keys=keys.path))) as calling:
        for key, status in (("", 401), (searching, 403), (ruling, 200)):
            headers = {"X-API-Key": key} if key else {}
            for path in ("/v1/synonyms", "/v1/synonyms/history", "/v1/synonyms/proposals"):
                assert calling.get(path, headers=headers).status_code == status
        revision = calling.put("/v1/synonyms", json={"synonyms": [ZORB]}, headers={"X-API-Key": ruling}).json()
        (change,) = store.synonyms.history(limit=1)
        assert change.revision == revision["revision"]
        assert change.who, "the key's id is written down"
