"""Who is answered: keys and their scopes, addresses, limits, and the one machine that needs none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.engine.engine import SearchEngine
from service.http.auth import KeyFile, Scope, narrow_key
from service.settings import ServiceSettings
from tests.services import made


@pytest.fixture
def guarded(store: SearchEngine, keys: KeyFile) -> Iterator[TestClient]:
    """A caller from elsewhere."""
    settings = ServiceSettings(keys=keys.path, requests_per_minute_key=50, requests_per_minute_address=100)
    with TestClient(create_app(store, settings), "http://search.example", client=("203.0.113.7", 50_000)) as calling:
        yield calling


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_a_key_nobody_else_is_served(guarded: TestClient) -> None:
    answer = guarded.get("/v1/search")
    assert answer.status_code == 401
    assert "shelfwise keys create" in answer.json()["error"]["message"]


def test_without_a_key_a_page_of_elsewhere_cannot_use_this_machine(store: SearchEngine, tmp_path: Path) -> None:
    app = create_app(store, ServiceSettings(keys=tmp_path / "none.json"))
    with TestClient(app, "http://evil.example", client=("127.0.0.1", 50_000)) as calling:
        assert calling.get("/v1/search").status_code == 401
        for name in ("localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"):
            assert calling.get("/v1/search", headers={"Host": name}).status_code == 200


def test_a_key_is_taken_from_either_header(guarded: TestClient, keys: KeyFile) -> None:
    key = made(keys, Scope.SEARCH)
    assert guarded.get("/v1/search", headers=bearer(key)).status_code == 200
    assert guarded.get("/v1/search", headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("key", ["", "wrong", "sw_000000000000_" + "A" * 43, "sws_e30.AAAA", "\u00e9" * 10])
def test_a_wrong_key_is_refused(guarded: TestClient, keys: KeyFile, key: str) -> None:
    made(keys, Scope.ADMIN)
    answer = guarded.get("/v1/search", headers={b"X-API-Key": key.encode()})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in ("no_key", "bad_key")


def test_a_key_does_what_its_scopes_say(guarded: TestClient, keys: KeyFile) -> None:
    key = made(keys, Scope.SEARCH)
    for method, path, body in (
        ("POST", "/v1/products/changes", {"operations": [{"delete": "x"}]}),
        ("POST", "/v1/events", {"events": [{"kind": "click", "product_id": "x", "session": "s"}]}),
        ("GET", "/metrics", None),
    ):
        answer = guarded.request(method, path, json=body, headers=bearer(key))
        assert answer.status_code == 403
        assert "it has search" in answer.json()["error"]["message"]


def test_a_narrowed_key_sees_its_part_of_the_store(guarded: TestClient, keys: KeyFile, store: SearchEngine) -> None:
    everything = store.search("", facets=["brand"], size=200)
    brand = str(everything.facets["brand"].counts[0].value)
    key = narrow_key(made(keys, Scope.SEARCH), filters=f'brand = "{brand}"')
    found = guarded.get("/v1/search", params={"facets": "brand"}, headers=bearer(key)).json()
    assert {each["value"] for each in found["facets"]["brand"]["counts"]} == {brand}
    tried = guarded.get("/v1/search", params={"filters": "price >= 0 OR price < 0"}, headers=bearer(key)).json()
    assert tried["total"] <= found["total"]
    hidden = next(hit.product.id for hit in everything.hits if hit.product.brand != brand)
    for path in (f"/v1/products/{hidden}", f"/v1/products/{hidden}/similar"):
        assert guarded.get(path, headers=bearer(key)).status_code == 404


def test_a_key_that_asks_too_often_is_told_when_to_come_back(guarded: TestClient, keys: KeyFile) -> None:
    key = made(keys, Scope.SEARCH)
    answers = [guarded.get("/v1/search", params={"size": 0}, headers=bearer(key)) for _ in range(51)]
    assert [each.status_code for each in answers[:50]] == [200] * 50
    assert answers[50].status_code == 429
    assert 1 <= int(answers[50].headers["Retry-After"]) <= 60


def test_pages_of_other_origins_need_a_setting(store: SearchEngine, keys: KeyFile) -> None:
    key = made(keys, Scope.SEARCH)
    wanted = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}
    for origins, allowed in (((), None), (("https://shop.example",), "https://shop.example")):
        app = create_app(store, ServiceSettings(keys=keys.path, cors_origins=origins))
        with TestClient(app, "http://search.example") as calling:
            answer = calling.get("/v1/search", headers={**wanted, **bearer(key)})
            assert answer.headers.get("access-control-allow-origin") == allowed
