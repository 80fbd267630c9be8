"""Secured API keys: what they force, when they are valid, and how their parents are stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest
from fastapi.testclient import TestClient

from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from tests.services import add_key

INDEX = "/1/indexes/products"


@pytest.fixture
def client(served: TestClient) -> TestClient:
    return served


@pytest.fixture
def admin(root: Path) -> dict[str, str]:
    return headers(add_key(KeyFile(root / KEYS_FILE), Scope.ADMIN))


@pytest.fixture
def parent(client: TestClient, admin: dict[str, str]) -> str:
    return add(client, admin, secured=True)


def headers(key: str) -> dict[str, str]:
    return {"X-Algolia-API-Key": key, "X-API-Key": key}


def add(client: TestClient, admin: dict[str, str], *, secured: bool) -> str:
    body = {"name": "shop", "scopes": ["search", "events"], "secured": secured}
    key: str = client.post("/v1/keys", json=body, headers=admin).json()["key"]
    return key


def secured(parent: str, **parameters: object) -> str:
    """A key as `generateSecuredApiKey` makes it."""
    signed = urlencode(
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
    )
    digest = hmac.new(parent.encode(), signed.encode(), hashlib.sha256).hexdigest()
    return base64.b64encode((digest + signed).encode()).decode()


def search(client: TestClient, key: str, index: str = "products", **parameters: object) -> httpx2.Response:
    return client.post(f"/1/indexes/{index}/query", json={"hitsPerPage": 50, **parameters}, headers=headers(key))


def brands(answer: httpx2.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {hit.get("brand", "") for hit in answer.json()["hits"]}


def test_filters_of_a_secured_key_apply_to_every_request(client: TestClient, parent: str) -> None:
    whole = search(client, parent).json()["hits"]
    brand, other = sorted({hit["brand"] for hit in whole if hit.get("brand")})[:2]
    hidden = next(hit["objectID"] for hit in whole if hit.get("brand") == other)
    for parameters in ({"filters": f'brand:"{brand}"'}, {"facetFilters": [[f"brand:{brand}"]]}):
        key = secured(parent, **parameters)
        assert brands(search(client, key)) == {brand}
        assert not search(client, key, filters=f'brand:"{other}"').json()["hits"], "both filters apply"
        batch = {"requests": [{"indexName": "products", "facets": ["brand"], "facetFilters": []}]}
        (result,) = client.post("/1/indexes/*/queries", json=batch, headers=headers(key)).json()["results"]
        assert set(result["facets"]["brand"]) == {brand}
        assert client.get(f"{INDEX}/{hidden}", headers=headers(key)).status_code == 404
        asked = {"requests": [{"indexName": "products", "objectID": hidden}]}
        assert client.post("/1/indexes/*/objects", json=asked, headers=headers(key)).json()["results"] == [None]
        click = {"eventType": "click", "eventName": "c", "index": "products", "userToken": "u", "objectIDs": [hidden]}
        assert client.post("/1/events", json={"events": [click]}, headers=headers(key)).status_code == 404
        model = {"requests": [{"indexName": "products", "model": "trending-items", "threshold": 0}]}
        (trending,) = client.post("/1/indexes/*/recommendations", json=model, headers=headers(key)).json()["results"]
        assert {hit["brand"] for hit in trending["hits"]} <= {brand}


def test_other_parameters_replace_those_of_the_search(client: TestClient, parent: str) -> None:
    key = secured(parent, hitsPerPage=3, attributesToRetrieve=["name"], userToken="u1")
    found = search(client, key, hitsPerPage=40, attributesToRetrieve=["*"]).json()
    assert (found["hitsPerPage"], len(found["hits"]), "price" in found["hits"][0]) == (3, 3, False)
    record = client.get(f"{INDEX}/{found['hits'][0]['objectID']}", headers=headers(key)).json()
    assert set(record) == {"objectID", "name"}
    form = client.post(f"{INDEX}/query", json={"params": "hitsPerPage=40"}, headers=headers(key))
    assert form.json()["hitsPerPage"] == 3


def test_a_secured_key_only_searches_in_the_protocol(client: TestClient, parent: str) -> None:
    key = headers(secured(parent))
    assert client.post(f"{INDEX}/query", json={}, headers=key).status_code == 200
    assert client.get("/v1/search?q=drill", headers=key).status_code == 403
    for method, path in (("post", f"{INDEX}/browse"), ("get", f"{INDEX}/settings")):
        assert client.request(method, path, headers=key).status_code == 403, path
    assert client.put(f"{INDEX}/x", json={"name": "x"}, headers=key).status_code == 403


def test_restrictions_of_a_secured_key(client: TestClient, parent: str) -> None:
    now = int(time.time())
    outcomes: dict[int, dict[str, tuple[object, ...]]] = {
        200: {
            "validUntil": (now + 1_000,),
            "restrictIndices": ("products", ["other", "prod*"]),
            "restrictSources": ("127.0.0.0/8", "10.0.0.1,127.0.0.1"),
        },
        400: {"filters": ("brand:",)},
        401: {
            "validUntil": (now - 1, "soon", "nan"),
            "restrictIndices": ("",),
            "restrictSources": ("192.168.1.0/24", "here", ""),
            "restrictMoons": ("1",),
            "filters": ("x" * 5_000,),
        },
        403: {"restrictIndices": ("other",)},
    }
    for status, cases in outcomes.items():
        for name, values in cases.items():
            answers = [search(client, secured(parent, **{name: value})).status_code for value in values]
            assert answers == [status] * len(values), name


def test_a_key_that_its_parent_did_not_sign_is_unknown(client: TestClient, admin: dict[str, str], parent: str) -> None:
    good = secured(parent, filters="price < 100")
    other = add(client, admin, secured=False)
    text = base64.b64decode(good).decode()
    forged = [
        base64.b64encode(text.replace("100", "900").encode()).decode(),
        base64.b64encode((text + "&hitsPerPage=1").encode()).decode(),
        base64.b64encode(("0" * 64 + text[64:]).encode()).decode(),
        secured(parent) + "=",
        secured(other),
        secured(""),
        base64.b64encode(b"\xff" * 80).decode(),
    ]
    assert search(client, good).status_code == 200
    assert [search(client, each).status_code for each in forged] == [401] * len(forged)


def test_children_end_with_their_parent(client: TestClient, admin: dict[str, str], parent: str) -> None:
    key = secured(parent)
    assert search(client, key).status_code == 200
    assert client.delete(f"/v1/keys/{parent.split('_')[1]}", headers=admin).status_code == 200
    assert search(client, key).status_code == 401


def test_only_parents_are_stored_encrypted(client: TestClient, admin: dict[str, str], parent: str, root: Path) -> None:
    add(client, admin, secured=False)
    stored = KeyFile(root / KEYS_FILE).keys()
    assert [each.id for each in stored.values() if each.verifier] == [parent.split("_")[1]]
    secret = root / "keys.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    files = (root / KEYS_FILE).read_text() + secret.read_text()
    assert parent not in files
    assert parent.split("_", 2)[2] not in files
    refused = client.post("/v1/keys", json={"name": "p", "scopes": ["write"], "secured": True}, headers=admin)
    assert (refused.status_code, "search and events only" in refused.json()["error"]["message"]) == (400, True)
    secret.write_bytes(b"damaged")
    again = KeyFile(root / KEYS_FILE)
    assert again.permit(parent, stored[parent.split("_")[1]].created), "the parent itself needs no encryption key"
    assert again.permit(secured(parent), stored[parent.split("_")[1]].created) is None
