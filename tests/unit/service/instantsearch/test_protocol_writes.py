"""Writes of the protocol: records converted to products and back, atomic batches, and rights of keys."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.errors import ChangeError, QueryError
from shelfwise.retrieval.records import Availability, Place, Product, Variant
from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.instantsearch.objects import Write, WritePlan, parse_writes, record_product
from shelfwise.service.instantsearch.response import product_record
from shelfwise.service.settings import ServiceSettings, Settings
from tests.machine import within
from tests.services import add_key, local_client, narrowed

INDEX = "/1/indexes/products"
KETTLE = {"objectID": "kettle", "name": "Enamel kettle", "brand": "Torvald", "price": 49.0, "cost": 20.0}
FULL = Product(
    "full",
    "Cordless drill",
    "With two gears.",
    "Bosch",
    ("Tools", "Drills"),
    99.5,
    "EUR",
    Availability.IN_STOCK,
    4.5,
    12,
    ("https://shop.example/1.jpg", "https://shop.example/2.jpg"),
    {"ean": ("0095205603217",)},
    {"url": "https://shop.example/full", "volts": 18.0, "new": True, "colours": ("red", "blue"), "size.width": 3.0},
    datetime(2026, 1, 2, tzinfo=UTC),
    datetime(2026, 1, 3, tzinfo=UTC),
    "en",
    (Variant("full-1", {"Size": "XL"}, 99.5, Availability.PREORDER, {"sku": ("s1",)}, "https://shop.example/3.jpg"),),
    datetime(2030, 1, 2, tzinfo=UTC),
    (Place(52.52, 13.405), Place(-18.142, 178.442)),
)


def test_record_of_a_product_becomes_the_same_product(store: SearchEngine) -> None:
    products = [store.snapshot.products[row] for row in range(0, 600, 7)]
    for product in (FULL, *products):
        created, updated, expires = map(_to_second, (product.created, product.updated, product.expires))
        whole = replace(product, created=created, updated=updated, expires=expires)
        record = json.loads(json.dumps(product_record(whole)))
        assert record_product(product.id, record) == whole


def _to_second(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(microsecond=0)


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({}, "name is missing"),
        ({"name": "A", "title": "B"}, "name and title are the same field"),
        ({"name": "A", "offers": [{"price": 1}]}, "offers[0] is an object"),
        ({"name": "A", "sizes": [[1]]}, "sizes[0] is a list"),
        ({"name": "A", "_secret": 1}, "_secret"),
        ({"name": "A", "categories": 5}, "categories must be a list"),
        ({"name": "A", "identifiers": ["x"]}, "identifiers must be an object"),
        ({"name": "A", "created": 1e300}, "created is 1e+300"),
        ({"name": "A", "variants": [{"objectID": "1", "colour": "red"}]}, "a variant has no 'colour'"),
        ({"name": "A", "variants": ["x"]}, "variants must be a list of objects"),
        ({"name": "A", "a": {"b": {"c": {"d": {"e": {"f": {}}}}}}}, "nested 5 deep"),
    ],
)
def test_record_that_is_no_product_is_refused_by_name(record: dict[str, Any], named: str) -> None:
    with pytest.raises(ChangeError) as refused:
        record_product("p1", record)
    assert "p1" in str(refused.value)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("record", "path"),
    [
        ({"categories": ["Tools", "Drills"]}, ("Tools", "Drills")),
        ({"categories": "Tools > Drills"}, ("Tools", "Drills")),
        ({"categories": ["Tools", "Tools > Drills"]}, ("Tools", "Drills")),
        ({"category": "Tools", "categories": ["Sale"]}, ("Sale",)),
        (
            {"hierarchicalCategories": {"lvl0": "Tools", "lvl1": ["Tools > Drills", "Sale > Drills"]}},
            ("Tools", "Drills"),
        ),
        ({"categories": {}}, ()),
        ({"categories": []}, ()),
        ({"hierarchicalCategories": {"lvl0": []}}, ()),
    ],
)
def test_categories_of_every_form_become_a_path(record: dict[str, Any], path: tuple[str, ...]) -> None:
    assert record_product("p1", {"name": "A", **record}).category == path


def test_attributes_keep_their_kinds() -> None:
    record = {"name": "A", "big": 10**20, "list": [1, True, "x", 10**400], "none": None, "blank": "", "_tags": ["a"]}
    attributes = record_product("p1", record).attributes
    assert attributes == {"big": str(10**20), "list": ("1", "true", "x", str(10**400)), "tags": ("a",)}


def plan(products: dict[str, Product], *writes: Write) -> dict[str, Product | None]:
    made_plan = WritePlan(products.get, lambda: products)
    made_plan.add_all(writes)
    return made_plan.outcome


def test_each_write_sees_the_results_of_earlier_writes() -> None:
    add = Write("addObject", "a", {"name": "A", "stock": 1})
    more = Write("partialUpdateObjectNoCreate", "a", {"stock": {"_operation": "Increment", "value": 2}})
    (product,) = plan({}, add, more, more).values()
    assert product is not None
    assert product.attributes["stock"] == 1 + 2 + 2
    assert plan({}, add, Write("deleteObject", "a"), more) == {"a": None}
    assert plan({"b": Product("b", "B")}, add, Write("clear")) == {"a": None, "b": None}


def test_update_of_an_object_replaces_it_whole() -> None:
    known = Product("a", "A", attributes={"size.width": 1.0, "size.label": "S", "sizes": "many", "size_cm": 1.0})
    (product,) = plan({"a": known}, Write("partialUpdateObject", "a", {"size": {"label": "M"}})).values()
    assert product is not None
    assert dict(product.attributes) == {"size.label": "M", "sizes": "many", "size_cm": 1.0}
    (product,) = plan({"a": known}, Write("partialUpdateObject", "a", {"size": None})).values()
    assert product is not None
    assert dict(product.attributes) == {"sizes": "many", "size_cm": 1.0}


@pytest.mark.parametrize(
    "operation",
    [
        {"_operation": "Paint", "value": 1},
        {"_operation": "Add", "value": {}},
        {"_operation": "Increment", "value": 10**400},
    ],
)
def test_operation_that_cannot_be_done_is_refused_by_name(operation: dict[str, Any]) -> None:
    with pytest.raises(ChangeError, match="stock"):
        plan({"a": Product("a", "A")}, Write("partialUpdateObject", "a", {"stock": operation}))


@pytest.mark.parametrize(
    ("requests", "named"),
    [
        ([{"action": "addObject"}], "requests[0].body must be an object"),
        ([{"action": "addObject", "body": {"objectID": 1.5}}], "objectID is missing"),
        ([{"action": "clear"}] * 1_001, "at most 1000"),
        ("x", "requests must be a list"),
    ],
)
def test_batch_that_cannot_be_read_is_refused_by_place(requests: object, named: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse_writes({"requests": requests})
    assert named in str(refused.value)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes writes wait until searches show them, even on a slow machine."""
    monkeypatch.setattr("shelfwise.service.http.context._SHOWN_SECONDS", 60.0)


def test_batch_is_one_durable_change(served: TestClient, live: SearchEngine, root: Path) -> None:
    requests = [{"action": "addObject", "body": {"objectID": f"n{at}", "name": f"Lamp {at}"}} for at in range(30)]
    size = (root / "live.log").stat().st_size if (root / "live.log").exists() else 0
    task = served.post(f"{INDEX}/batch", json={"requests": requests}).json()["taskID"]
    assert served.get(f"{INDEX}/task/{task}").json()["status"] == "published"
    assert (root / "live.log").stat().st_size > size
    requests.append({"action": "addObject", "body": {"objectID": "bad"}})
    before = live.live.last_sequence
    assert served.post(f"{INDEX}/batch", json={"requests": requests[-2:]}).status_code == 400
    assert live.live.last_sequence == before
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as other:
        assert other.product("n29").title == "Lamp 29"


def test_write_does_not_wait_for_the_encoder(
    served: TestClient, live: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients time out after two seconds, in which a batch of new products may not be encoded."""
    monkeypatch.setattr("shelfwise.service.http.context._SHOWN_SECONDS", 0.0)
    lamps = [{"action": "addObject", "body": {"objectID": f"n{at}", "name": "Lamp", "stock": at}} for at in range(3)]
    one_more = {
        "action": "partialUpdateObject",
        "body": {"objectID": "n1", "stock": {"_operation": "Increment", "value": 5}},
    }
    with live.live._swap:  # held by the thread that encodes
        tasks = [
            served.post(f"{INDEX}/batch", json={"requests": each}).json()["taskID"] for each in (lamps, [one_more])
        ]
        assert served.get(f"{INDEX}/task/{tasks[0]}").json() == {"status": "notPublished", "pendingTask": True}
        assert served.get(f"{INDEX}/n1").status_code == 404
        # Later writes see the pending record.
        tasks.append(served.delete(f"{INDEX}/n0").json()["taskID"])
        assert tasks == sorted(set(tasks))
        assert served.delete(f"{INDEX}/n0").json()["taskID"] == tasks[-1], "nothing more to do than the deletion before"
    assert within(60, lambda: served.get(f"{INDEX}/task/{tasks[-1]}").json()["status"] == "published")
    assert served.get(f"{INDEX}/n0").status_code == 404
    assert served.get(f"{INDEX}/n1").json()["stock"] == 1 + 5
    with live.live._swap:
        served.post(f"{INDEX}/n3/partial", json={"name": "Lamp", "stock": 3})
        cleared = served.post(f"{INDEX}/clear").json()["taskID"]
    assert within(60, lambda: served.get(f"{INDEX}/task/{cleared}").json()["status"] == "published")
    assert live.ids().total == 0, "the product that was not shown yet is gone, too"


def test_increments_of_several_clients_all_count(served: TestClient, live: SearchEngine) -> None:
    live.upsert([Product("p", "Lamp")])

    def count(_: int) -> None:
        change = {"sold": {"_operation": "Increment", "value": 1}}
        assert served.post(f"{INDEX}/p/partial", json=change).status_code == 200

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(12)))
    assert live.product("p").attributes["sold"] == 12


def test_tasks_settings_and_name_are_shared_by_replicas(served: TestClient, root: Path) -> None:
    task = served.post(INDEX, json=KETTLE).json()["taskID"]
    served.put(f"{INDEX}/settings", json={"hitsPerPage": 3, "attributesForFaceting": ["brand"]})
    with (
        SearchEngine.open(root, settings=Settings(backend="embedded")) as other,
        local_client(create_app(other, ServiceSettings())) as replica,
    ):
        assert within(60, lambda: replica.get(f"{INDEX}/task/{task}").json()["status"] == "published")
        assert replica.get(f"{INDEX}/settings").json()["hitsPerPage"] == 3
        assert len(replica.post(f"{INDEX}/query", json={"query": ""}).json()["hits"]) == 3
        assert replica.post("/1/indexes/articles", json=KETTLE).status_code == 404


def test_browsing_is_not_disturbed_by_writes(served: TestClient, live: SearchEngine) -> None:
    """Each record that is not changed is returned once, whatever is added and deleted meanwhile."""
    there = list(live.ids().rest)
    seen: list[str] = []
    cursor: dict[str, Any] = {"hitsPerPage": 200}
    while True:
        part = served.post(f"{INDEX}/browse", json=cursor).json()
        seen += [hit["objectID"] for hit in part["hits"]]
        if "cursor" not in part:
            break
        cursor = {"cursor": part["cursor"]}
        live.upsert([Product("a-first", "Lamp"), Product(f"d000250{len(seen)}", "Lamp"), Product("zz-last", "Lamp")])
        live.delete([there[1]])
    assert [each for each in seen if each in there] == there
    assert seen == sorted(set(seen))
    assert "zz-last" in seen


@pytest.fixture
def dealer(live: SearchEngine, root: Path) -> tuple[TestClient, dict[str, str], str]:
    """A client, a key narrowed to a brand, and the brand."""
    brand = live.search("", size=1).hits[0].product.brand
    key = add_key(KeyFile(root / KEYS_FILE), Scope.ADMIN)
    add_key(KeyFile(root / KEYS_FILE), Scope.SEARCH)
    client = local_client(create_app(live, ServiceSettings()))
    return client, {"x-algolia-api-key": narrowed(key, filters=f'brand = "{brand}"')}, brand


def test_narrowed_key_writes_only_within_its_filter(
    dealer: tuple[TestClient, dict[str, str], str], live: SearchEngine
) -> None:
    client, key, brand = dealer
    rival = next(each for each in live.ids(filters=f'brand != "{brand}"').rest)
    others = live.ids(filters=f'brand != "{brand}"').total
    with client:
        assert client.post(INDEX, json={**KETTLE, "brand": brand}, headers=key).status_code == 200
        assert client.post(INDEX, json={**KETTLE, "brand": "Other"}, headers=key).status_code == 403
        assert client.post(f"{INDEX}/{rival}/partial", json={"price": 1, "name": "X"}, headers=key).status_code == 403
        assert client.post(
            f"{INDEX}/{rival}/partial?createIfNotExists=false", json={"price": 1}, headers=key
        ).is_success
        assert client.delete(f"{INDEX}/{rival}", headers=key).status_code == 404
        assert client.post(f"{INDEX}/deleteByQuery", json={"filters": f"objectID:{rival}"}, headers=key).is_success
        for method in ("GET", "PUT"):
            assert client.request(method, f"{INDEX}/settings", json={}, headers=key).status_code == 403
        assert client.post(f"{INDEX}/clear", headers=key).status_code == 200
    assert live.product(rival).price != 1
    assert live.ids().total == others


def test_hidden_fields_are_sent_only_to_administrators(live: SearchEngine, root: Path) -> None:
    live.upsert([record_product("kettle", KETTLE)])
    keys = KeyFile(root / KEYS_FILE)
    admin, page = ({"X-API-Key": add_key(keys, scope)} for scope in (Scope.ADMIN, Scope.SEARCH))
    with local_client(create_app(live, ServiceSettings())) as client:
        key = {"x-algolia-api-key": admin["X-API-Key"]}
        hidden = {"unretrievableAttributes": ["cost", "brand"]}
        assert client.put(f"{INDEX}/settings", json=hidden, headers=key).status_code == 200
        own = ("/v1/search?q=enamel+kettle", "/v1/products/kettle", "/v1/products/kettle?fields=title,brand,cost")
        for path in (*own, f"{INDEX}/kettle"):
            headers = ({"x-algolia-api-key": each["X-API-Key"], **each} for each in (admin, page))
            seen, unseen = (client.get(path, headers=each).text for each in headers)
            assert "Torvald" in seen, path
            assert "kettle" in unseen.lower()
            assert "Torvald" not in unseen, path
        # Neither request names the facet in a parameter.
        shopper = {"x-algolia-api-key": page["X-API-Key"]}
        trending = {"model": "trending-facets", "facetName": "brand", "queryParameters": {"filters": "brand:Torvald"}}
        offered = client.post(
            f"{INDEX}/query", json={"query": "enamel kettle", "facets": ["*"]}, headers=shopper
        ).json()
        proposed = client.post("/1/indexes/*/recommendations", json={"requests": [trending]}, headers=shopper).json()
        facts = client.get("/assets/store.json").json()
        assert not {"brand", "cost"} & offered["facets"].keys()
        assert "price" in offered["facets"]
        assert proposed["results"][0]["hits"] == []
        assert ("brand" in facts["facets"], "price" in facts["facets"]) == (False, True)
        typed = {"q": live.search("drill").hits[0].product.title[:30]}
        suggested = (client.get("/v1/suggest", params=typed, headers=each).json()["products"] for each in (admin, page))
        assert [bool(each[0]["product"]["brand"]) for each in suggested] == [True, False]
        refused = client.put(f"{INDEX}/settings", json={"unretrievableAttributes": ["name"]}, headers=key)
        assert (refused.status_code, "title" in refused.json()["message"]) == (400, True)


def test_unknown_paths_are_errors_of_the_protocol_and_no_redirects(client: TestClient) -> None:
    """Regression: `saveObject` was redirected to a path with a slash, and ended in "Unreachable hosts"."""
    for method, path in (("POST", "/1/indexes/"), ("GET", "/1/clusters"), ("DELETE", INDEX), ("PUT", "/1/keys")):
        answer = client.request(method, path, follow_redirects=False)
        assert answer.status_code in (404, 405), (method, path)
        assert answer.json() == {
            "message": f"{method} {path} is not a route of this service",
            "status": answer.status_code,
        }
    for method, path in (("PUT", "rules/r"), ("DELETE", "rules/r"), ("POST", "rules/r/partial"), ("GET", "synonyms/s")):
        answer = client.request(method, f"{INDEX}/{path}", json={"name": "no object"})
        assert (answer.status_code, "/v1/rules" in answer.json()["message"]) == (404, True)
