"""A service over a directory of indexes: choosing by path, keys for some of them, indexes that come and go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from retrieval.store.manifest import CURRENT
from service.app import create_app
from service.http.auth import KEYS_FILE, KeyFile, Scope, narrow_key
from service.settings import ServiceSettings
from tests.services import local_client, made, recorded_events

_OTHERS = ("/health/", "/docs", "/v1/openapi.json", "/v1/webhooks/")
"""Paths that need no key, or a signature."""
_PAGES = ("/", "/admin", "/assets/logo", "/assets/look.css", "/assets/{name}", "/favicon.ico")
_LISTS = ("/v1/indexes", "/1/indexes")
_VALUES = {"index": "shop-b", "task_id": "0", "product_id:path": "x", "object_id:path": "x"}


@pytest.fixture(scope="module")
def stores(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two copies of the demo store."""
    root = tmp_path_factory.mktemp("stores")
    for name in ("shop-a", "shop-b"):
        shutil.copytree(demo_index, root / name)
    return root


@pytest.fixture(scope="module")
def client(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = ServiceSettings(keys=tmp_path_factory.mktemp("keys") / KEYS_FILE)
    with local_client(create_app(stores, settings)) as calling:
        yield calling


@pytest.fixture(scope="module")
def keys(client: TestClient) -> KeyFile:
    found: KeyFile = client.app.state.shared.keys  # type: ignore[attr-defined]  # TestClient's app is any application
    return found


@pytest.fixture(scope="module")
def whole(keys: KeyFile) -> dict[str, str]:
    """A key for all indexes."""
    return sent(made(keys, Scope.ADMIN))


@pytest.fixture(scope="module")
def of_a(keys: KeyFile) -> dict[str, str]:
    """A key that may do everything with one of them."""
    return sent(made(keys, Scope.ADMIN, indexes=("*-a",)))


def sent(key: str) -> dict[str, str]:
    """A key as both interfaces have it."""
    return {"X-API-Key": key, "X-Algolia-API-Key": key}


def refresh(client: TestClient) -> None:
    client.app.state.indexes.refresh()  # type: ignore[attr-defined]


def test_an_index_is_chosen_by_the_path(client: TestClient, whole: dict[str, str]) -> None:
    found = client.get("/v1/indexes/shop-a/search", params={"q": "drill", "size": 2}, headers=whole).json()
    product = found["hits"][0]["product"]["id"]
    changed = client.patch(f"/v1/indexes/shop-a/products/{product}", json={"price": 1.5}, headers=whole)
    assert changed.status_code == 200
    paths = [f"/v1/indexes/{name}/products/{product}" for name in ("shop-a", "shop-b")]
    one, other = (client.get(path, headers=whole).json()["product"]["price"] for path in paths)
    assert one == 1.5 != other


def test_a_task_is_of_its_index(client: TestClient, whole: dict[str, str]) -> None:
    added = client.post("/v1/indexes/shop-a/events/refresh", headers=whole)
    assert added.headers["Location"] == f"/v1/indexes/shop-a/tasks/{added.json()['id']}"
    assert client.post(f"{added.headers['Location']}/cancel", headers=whole).status_code in (200, 409)
    elsewhere = client.get(added.headers["Location"].replace("shop-a", "shop-b"), headers=whole)
    assert elsewhere.status_code == 404


def test_without_a_name_the_error_names_the_indexes_of_the_key(
    client: TestClient, whole: dict[str, str], of_a: dict[str, str]
) -> None:
    for headers, named in ((whole, "shop-a, shop-b"), (of_a, "shop-a")):
        answer = client.get("/v1/search", headers=headers)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].endswith(f"there is {named}")
    assert client.get("/v1/indexes/shop-c/search").status_code == 401


def test_the_default_index_answers_requests_that_name_none(stores: Path) -> None:
    with local_client(create_app(stores, ServiceSettings(default_index="shop-b"))) as calling:
        assert calling.get("/v1/search", params={"size": 1}).status_code == 200
        one, other = calling.app.state.indexes.opened  # type: ignore[attr-defined]
        assert one.engine.snapshot.encoder is other.engine.snapshot.encoder
        facts = calling.get("/stores/shop-a/assets/store.json")
        assert facts.json()["facets"]
        assert calling.get("/stores/shop-a/").headers["content-type"].startswith("text/html")


def test_searches_of_several_indexes(client: TestClient, whole: dict[str, str], of_a: dict[str, str]) -> None:
    searches = [{"index": "shop-a", "q": "drill", "size": 1}, {"index": "shop-b", "q": "saw", "size": 1}]
    found = client.post("/v1/multi-search", json={"searches": searches}, headers=whole).json()["results"]
    assert [each["query"] for each in found] == ["drill", "saw"]
    refused = client.post("/v1/multi-search", json={"searches": searches}, headers=of_a)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "other_index"


def test_the_protocol_finds_an_index_by_name_and_by_its_views(client: TestClient, whole: dict[str, str]) -> None:
    names = ("shop-a", "shop-a_price_desc", "shop-b_query_suggestions")
    requests = [{"indexName": name, "query": "dri", "hitsPerPage": 2} for name in names]
    found = client.post("/1/indexes/*/queries", json={"requests": requests}, headers=whole).json()["results"]
    assert [each["index"] for each in found] == list(names)
    prices = [hit["price"] for hit in found[1]["hits"]]
    assert prices == sorted(prices, reverse=True)
    listed = client.get("/1/indexes", headers=whole).json()["items"]
    assert [each["name"] for each in listed] == ["shop-a", "shop-b"]
    missing = client.post("/1/indexes/shop-c/query", json={}, headers=whole)
    assert (missing.status_code, missing.json()["message"]) == (
        404,
        "there is no index 'shop-c'; there is shop-a, shop-b",
    )


def test_writes_of_a_batch_go_to_their_indexes(client: TestClient, whole: dict[str, str]) -> None:
    requests = [
        {"action": "addObject", "indexName": name, "body": {"objectID": f"new-{name}", "name": "Anvil"}}
        for name in ("shop-a", "shop-b")
    ]
    answer = client.post("/1/indexes/*/batch", json={"requests": requests}, headers=whole)
    assert answer.json()["taskID"].keys() == {"shop-a", "shop-b"}
    for name, other in (("shop-a", "shop-b"), ("shop-b", "shop-a")):
        engine = client.app.state.indexes.opened[name == "shop-b"].engine  # type: ignore[attr-defined]
        assert engine.wait_for(answer.json()["taskID"][name] // 2, 60)
        assert client.get(f"/1/indexes/{name}/new-{name}", headers=whole).status_code == 200
        assert client.get(f"/1/indexes/{name}/new-{other}", headers=whole).status_code == 404


def test_an_event_is_recorded_in_the_index_that_it_names(
    client: TestClient, stores: Path, whole: dict[str, str]
) -> None:
    event = {"eventType": "click", "eventName": "hit", "userToken": "u1", "objectIDs": ["new-shop-a"]}
    for name, status in (("shop-a", 200), ("shop-c", 404)):
        answer = client.post("/1/events", json={"events": [{**event, "index": name}]}, headers=whole)
        assert answer.status_code == status
    assert [len(recorded_events(stores / name)) for name in ("shop-a", "shop-b")] == [1, 0]


def requests_of_another_index(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Each route of an application as a request about the index shop-b."""
    routers = [each.original_router for each in app.routes if hasattr(each, "original_router")]
    for route in (each for router in routers for each in router.routes if isinstance(each, APIRoute)):
        path = route.path
        if path.startswith(_OTHERS) or path in (*_PAGES, *_LISTS):
            continue
        filled = path
        for parameter in route.param_convertors:
            value = _VALUES.get(parameter, "x" if "task" not in path or path.startswith("/v1") else "0")
            filled = filled.replace(f"{{{parameter}}}", value).replace(f"{{{parameter}:path}}", value)
        if filled.startswith("/v1/"):
            filled = filled.replace("/v1/", "/v1/indexes/shop-b/")
        elif filled.startswith("/assets/"):
            filled = f"/stores/shop-b{filled}"
        yield from ((method, filled) for method in route.methods)


def test_a_key_of_one_index_reaches_no_route_of_another(client: TestClient, of_a: dict[str, str]) -> None:
    """Every route is tried, so that a new one that forgets to check fails here."""
    body = {
        "requests": [{"indexName": "shop-b", "action": "clear", "objectID": "x", "model": "trending-items"}],
        "events": [{"index": "shop-b", "eventType": "view", "objectIDs": ["x"]}],
    }
    tried = list(requests_of_another_index(client.app))  # type: ignore[arg-type]
    answers = {(method, path): client.request(method, path, json=body, headers=of_a) for method, path in tried}
    assert len(tried) > 80
    assert not [(tried, each.status_code) for tried, each in answers.items() if each.status_code not in (403, 404)]
    named = [key for key, each in answers.items() if each.status_code == 404]
    assert sorted(path for _, path in named) == ["/1/task/0", "/stores/shop-b/assets/store.json"]
    for path in _LISTS:
        assert "shop-b" not in client.get(path, headers=of_a).text


def test_a_narrowed_key_narrows_further_only(client: TestClient, keys: KeyFile) -> None:
    parent = made(keys, Scope.SEARCH, indexes=("shop-*",))
    for patterns, statuses in (((), [200, 200, 403]), (("*-b", "other"), [403, 200, 403])):
        headers = {"X-API-Key": narrow_key(parent, indexes=patterns)}
        paths = [f"/v1/indexes/{name}/search" for name in ("shop-a", "shop-b", "other")]
        assert [client.get(path, headers=headers).status_code for path in paths] == statuses


def test_the_page_shows_a_store_only_for_its_key(stores: Path, keys: KeyFile) -> None:
    page_key = made(keys, Scope.SEARCH, indexes=("shop-a",))
    app = create_app(stores, ServiceSettings(keys=keys.path, page_key=page_key))
    with local_client(app) as calling:
        statuses = [calling.get(f"/stores/{name}/assets/store.json").status_code for name in ("shop-a", "shop-b")]
    assert statuses == [200, 404]


def test_an_index_that_cannot_be_opened_is_unavailable_alone(
    client: TestClient, stores: Path, whole: dict[str, str], of_a: dict[str, str]
) -> None:
    (stores / "broken").mkdir()
    (stores / "broken" / CURRENT).write_text("damaged")
    refresh(client)
    assert client.get("/v1/indexes/broken/search", headers=whole).status_code == 503
    assert client.get("/v1/indexes/broken/search", headers=of_a).status_code == 403
    assert client.get("/v1/indexes/shop-a/search", headers=whole).status_code == 200
    assert any(each.startswith("broken: it cannot be opened") for each in client.get("/health/ready").json()["notices"])
    shutil.rmtree(stores / "broken")
    refresh(client)
    assert client.get("/v1/indexes/broken/search", headers=whole).status_code == 404


def test_an_index_comes_and_goes_while_requests_are_in_progress(
    client: TestClient, stores: Path, demo_index: Path, whole: dict[str, str]
) -> None:
    path = "/v1/indexes/shop-c/search"
    shutil.copytree(demo_index, stores / "shop-c")
    refresh(client)
    assert client.get(path, headers=whole).status_code == 200
    registry = client.app.state.indexes  # type: ignore[attr-defined]
    with registry.use("shop-c") as context:
        shutil.rmtree(stores / "shop-c")
        refresh(client)
        assert client.get(path, headers=whole).status_code == 404
        assert context.engine.search("drill", size=1).hits
    refresh(client)
    with pytest.raises(Exception, match="closed"):
        context.engine.search("drill")


def test_metrics_have_the_name_of_the_index(client: TestClient, whole: dict[str, str], of_a: dict[str, str]) -> None:
    text = client.get("/metrics", headers=whole).text
    assert 'shelfwise_index_products{index="shop-a"}' in text
    assert "shelfwise_serving_info{encoder=" in text
    assert client.get("/metrics", headers=of_a).status_code == 403
    health = client.get("/health/ready").json()
    assert (health["indexes"], health["version"]) == (2, "")
