"""A service over a directory of indexes: selection by path, keys for some of them, added and removed indexes."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from shelfwise.retrieval.errors import StoreError, StoreMissingError
from shelfwise.retrieval.store.manifest import CURRENT
from shelfwise.service.app import create_app
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.http.indexes import AliasFile, IndexRegistry
from shelfwise.service.settings import ServiceSettings
from tests.services import add_key, local_client, narrowed, recorded_events

_OTHERS = ("/health/", "/docs", "/v1/openapi.json", "/v1/webhooks/")
"""Paths that need no key, or a signature."""
_PAGES = ("/", "/admin", "/assets/logo", "/assets/look.css", "/assets/store.json", "/assets/{name}", "/favicon.ico")
_VALUES = {"index": "shop-b", "task_id": "0", "number": "0", "product_id:path": "x", "object_id:path": "x"}


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
    """The headers of a key for all indexes."""
    return sent(add_key(keys, Scope.ADMIN))


@pytest.fixture(scope="module")
def of_a(keys: KeyFile) -> dict[str, str]:
    """The headers of a key with all rights for one index."""
    return sent(add_key(keys, Scope.ADMIN, indexes=("*-a",)))


def sent(key: str) -> dict[str, str]:
    """The headers of a key for both interfaces."""
    return {"X-API-Key": key, "X-Algolia-API-Key": key}


def refresh(client: TestClient) -> None:
    client.app.state.indexes.refresh()  # type: ignore[attr-defined]


def test_a_task_is_of_its_index(client: TestClient, whole: dict[str, str]) -> None:
    added = client.post("/v1/indexes/shop-a/tasks", json={"kind": "refresh"}, headers=whole)
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
    assert client.get("/v1/indexes/shop-c/search", headers={"Cookie": ""}).status_code == 401


def test_a_change_of_an_index_that_is_deleted_meanwhile_answers_404(
    client: TestClient, stores: Path, whole: dict[str, str]
) -> None:
    shutil.copytree(stores / "shop-a", stores / ".copy").rename(stores / "shop-d")
    refresh(client)
    registry: IndexRegistry[Any] = client.app.state.indexes  # type: ignore[attr-defined]
    with pytest.raises(StoreMissingError, match="shop-d was deleted"), registry.use("shop-d"):
        # The engine still writes there, so that a removal file by file may meet a new file.
        (stores / "shop-d").rename(stores.parent / "deleted")
        raise StoreError("a file cannot be opened")
    answer = client.delete("/1/indexes/shop-d/d000001", headers=whole)
    assert answer.status_code == 404, answer.text


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
        assert engine.live.wait_for(answer.json()["taskID"][name], 60)
        assert client.get(f"/1/indexes/{name}/new-{name}", headers=whole).status_code == 200
        assert client.get(f"/1/indexes/{name}/new-{other}", headers=whole).status_code == 404


def test_an_event_is_recorded_in_the_index_that_it_names(
    client: TestClient, stores: Path, whole: dict[str, str]
) -> None:
    event = {"eventType": "click", "eventName": "hit", "userToken": "u1", "objectIDs": ["new-shop-a"]}
    for name, status in (("shop-a", 200), ("shop-c", 404)):
        answer = client.post("/1/events", json={"events": [{**event, "index": name}]}, headers=whole)
        assert answer.status_code == status
    clicks = [
        [each["product_id"] for each in recorded_events(stores / name) if each["kind"] == "click"]
        for name in ("shop-a", "shop-b")
    ]
    assert clicks == [["new-shop-a"], []]


def requests_of_another_index(app: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - TestClient's app is any
    """Each route of an application as a request about the index shop-b."""
    for route in (each for each in app.routes if isinstance(each, APIRoute)):
        path = route.path
        if path.startswith(_OTHERS) or path in (*_PAGES, "/v1/indexes"):
            continue
        filled = path.replace("{kind:documents}", "rules")
        for parameter in route.param_convertors:
            value = _VALUES.get(parameter, "x" if "task" not in path or path.startswith("/v1") else "0")
            filled = filled.replace(f"{{{parameter}}}", value).replace(f"{{{parameter}:path}}", value)
        if filled.startswith("/v1/"):
            filled = filled.replace("/v1/", "/v1/indexes/shop-b/")
        elif filled.startswith("/assets/"):
            filled = f"/stores/shop-b{filled}"
        yield from ((method, filled) for method in route.methods or ())


def test_a_key_of_one_index_reaches_no_route_of_another(client: TestClient, of_a: dict[str, str]) -> None:
    """Every route is tried, so that a new one without a check fails here."""
    body = {
        "requests": [{"indexName": "shop-b", "action": "clear", "objectID": "x", "model": "trending-items"}],
        "events": [{"index": "shop-b", "eventType": "view", "objectIDs": ["x"]}],
    }
    tried = list(requests_of_another_index(client.app))
    answers = {(method, path): client.request(method, path, json=body, headers=of_a) for method, path in tried}
    assert len(tried) > 70
    assert not [(tried, each.status_code) for tried, each in answers.items() if each.status_code not in (403, 404)]
    named = [key for key, each in answers.items() if each.status_code == 404]
    rest = sorted(path for _, path in named)
    assert rest == ["/1/task/0"]
    assert "shop-b" not in client.get("/v1/indexes", headers=of_a).text


def test_a_narrowed_key_narrows_further_only(client: TestClient, keys: KeyFile) -> None:
    parent = add_key(keys, Scope.SEARCH, indexes=("shop-*",))
    for patterns, statuses in (((), [200, 200, 403]), (("*-b", "other"), [403, 200, 403])):
        headers = {"X-API-Key": narrowed(parent, indexes=patterns)}
        paths = [f"/v1/indexes/{name}/search" for name in ("shop-a", "shop-b", "other")]
        assert [client.get(path, headers=headers).status_code for path in paths] == statuses


def test_pages_show_and_link_the_stores_that_shoppers_may_see(stores: Path, keys: KeyFile) -> None:
    page_key = add_key(keys, Scope.SEARCH, indexes=("shop-a",))
    for settings, links in ((ServiceSettings(), 4), (ServiceSettings(keys=keys.path, page_key=page_key), 2)):
        with local_client(create_app(stores, settings)) as calling:
            statuses = [calling.get(f"/stores/shop-{name}/assets/store.json").status_code for name in "ab"]
            assert statuses == [200, 200 if links == 4 else 404]
            found = calling.get("/")
            assert found.headers["content-type"].startswith("text/html")
            paths = re.findall('href="(/stores/[^"]+)"', found.text)
            assert paths[:2] == ["/stores/shop-a/", "/stores/shop-a/admin"]
            assert len(paths) == links
            assert all("Stores" not in calling.get(path).text for path in paths)


def test_an_index_that_cannot_be_opened_does_not_affect_others(
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
    shutil.copytree(demo_index, stores / ".copying").rename(stores / "shop-c")
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


def test_an_alias_is_swapped_while_searches_run(client: TestClient, stores: Path, whole: dict[str, str]) -> None:
    def swap(name: str) -> int:
        return client.put("/v1/aliases/shop", json={"index": name}, headers=whole).status_code

    assert swap("shop-a") == 200
    statuses: list[int] = []
    searching = threading.Thread(
        target=lambda: statuses.extend(
            client.get("/v1/indexes/shop/search", params={"size": 1}, headers=whole).status_code for _ in range(30)
        )
    )
    searching.start()
    swaps = [swap(f"shop-{'ab'[turn % 2]}") for turn in range(20)]
    searching.join()
    assert {*statuses, *swaps} == {200}
    assert AliasFile(stores).all() == {"shop": "shop-b"}
    listed = client.get("/v1/indexes", headers=whole).json()
    assert [each["aliases"] for each in listed] == [[], ["shop"]]
    found = client.post("/1/indexes/shop_price_asc/query", json={"hitsPerPage": 1}, headers=whole)
    assert found.json()["index"] == "shop_price_asc"
    assert client.delete("/v1/aliases/shop", headers=whole).json() == {"index": "shop-b"}
    assert client.get("/v1/indexes/shop/search", headers=whole).status_code == 404


def test_an_alias_that_cannot_be_set_is_refused(
    client: TestClient, whole: dict[str, str], of_a: dict[str, str]
) -> None:
    tried = (("shop-a", "shop-b", 400), ("shop", "shop-c", 400), ("..", "shop-a", 404), ("-x", "shop-a", 400))
    for alias, index, status in tried:
        answer = client.put(f"/v1/aliases/{alias}", json={"index": index}, headers=whole)
        assert answer.status_code == status, answer.text
    assert client.put("/v1/aliases/my-a", json={"index": "shop-a"}, headers=of_a).status_code == 200
    for alias, index in (("shop", "shop-a"), ("my-a", "shop-b")):
        assert client.put(f"/v1/aliases/{alias}", json={"index": index}, headers=of_a).status_code == 403
    assert client.get("/v1/indexes/my-a/search", headers=of_a).status_code == 200
    assert client.get("/v1/aliases", headers=of_a).json() == {"my-a": "shop-a"}
    client.delete("/v1/aliases/my-a", headers=of_a)


def test_a_write_to_an_index_that_does_not_exist_makes_one(
    client: TestClient, stores: Path, keys: KeyFile, whole: dict[str, str]
) -> None:
    writer = sent(add_key(keys, Scope.SEARCH, Scope.WRITE, indexes=("new-*", "articles")))
    body = {"objectID": "a1", "name": "How to choose a cordless drill", "kind": "guide"}
    refused = {
        "shop-c": 403,  # belongs to another key
        "new-ü": 400,
        "new-shop_price_desc": 404,  # a view
        "new-articles": 200,
    }
    for name, status in refused.items():
        answer = client.post(f"/1/indexes/{name}", json=body, headers=writer)
        assert answer.status_code == status, (name, answer.text)
    reader = sent(add_key(keys, Scope.SEARCH))
    assert client.post("/1/indexes/new-b", json=body, headers=reader).status_code in (403, 404)
    task = answer.json()["taskID"]
    indexes = client.app.state.indexes  # type: ignore[attr-defined]
    with indexes.use("new-articles") as context, indexes.use("shop-a") as other:
        assert context.engine.live.wait_for(task, 60)
        assert context.engine.snapshot.encoder is other.engine.snapshot.encoder
    assert client.get(f"/1/indexes/new-articles/task/{task}", headers=writer).json()["status"] == "published"
    found = client.post("/1/indexes/new-articles/query", json={"query": "drill"}, headers=writer).json()
    assert [each["objectID"] for each in found["hits"]] == ["a1"]
    requests = [{"action": "addObject", "indexName": "articles", "body": body}]
    assert client.post("/1/indexes/*/batch", json={"requests": requests}, headers=writer).status_code == 200
    assert sorted(indexes.names) == ["articles", "new-articles", "shop-a", "shop-b"]
    for name in ("articles", "new-articles"):
        shutil.rmtree(stores / name)
    refresh(client)


def test_the_first_write_to_a_new_index_only_renames_the_spare(
    demo_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it took longer than the two seconds that clients wait."""
    shutil.copytree(demo_index, tmp_path / "shop")
    with local_client(create_app(tmp_path, ServiceSettings(keys=tmp_path / KEYS_FILE))) as calling:
        (spare,) = tmp_path.glob(".*.spare")
        inode, weights = spare.stat().st_ino, next((spare / "encoders").rglob("model.weights"))
        assert weights.stat().st_nlink == 2, "the encoder is shared"
        made: list[Path] = []
        monkeypatch.setattr("shelfwise.indexer.build.create_index", lambda path, *_: made.append(path))
        key = sent(add_key(calling.app.state.shared.keys, Scope.ADMIN))  # type: ignore[attr-defined]
        assert calling.post("/1/indexes/fresh", json={"name": "Drill"}, headers=key).status_code == 200
        assert (tmp_path / "fresh").stat().st_ino == inode
        calling.app.state.indexes.close()  # type: ignore[attr-defined]
        assert [each.suffix for each in made] == [".spare"], "the next one is made afterwards"


def test_no_more_indexes_are_made_than_the_setting_allows(stores: Path, keys: KeyFile, whole: dict[str, str]) -> None:
    for most, status in ((2, 400), (0, 404)):
        with local_client(create_app(stores, ServiceSettings(keys=keys.path, indexes=most))) as calling:
            assert calling.post("/1/indexes/more", json={"name": "x"}, headers=whole).status_code == status
