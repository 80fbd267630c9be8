"""Products, events and health over HTTP."""

from __future__ import annotations

import threading

import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.records import Event, Page
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.impressions import ImpressionRecorder


def test_product_is_upserted_patched_found_and_deleted(client: TestClient) -> None:
    drill = {"id": "new/1", "title": "Zorvex drill 9000", "price": 20.0}
    assert client.put("/v1/products/new/1", json=drill).json()["products"] == 1
    assert client.put("/v1/products/new/1", json=drill).json()["products"] == 0
    assert client.patch("/v1/products/new/1", json={"price": 9.99, "attributes.colour": "red"}).status_code == 200
    found = client.get("/v1/search", params={"q": "zorvex"}).json()["hits"][0]["product"]
    assert (found["id"], found["price"], found["attributes"]["colour"]) == ("new/1", 9.99, "red")
    assert client.delete("/v1/products/new/1").json()["products"] == 1
    assert client.delete("/v1/products/new/1").json()["products"] == 0
    assert client.get("/v1/products/new/1").status_code == 404


def test_batch_of_changes_is_atomic(client: TestClient) -> None:
    good = {"put": {"id": "b1", "title": "Blarn saw"}}
    bad = {"patch": {"id": "nosuch", "price": 1}}
    answer = client.post("/v1/products/changes", json={"operations": [good, bad]})
    assert answer.status_code == 404
    assert client.get("/v1/products/b1").status_code == 404
    both = [good, {"patch": {"id": "b1", "price": 3}}]
    assert client.post("/v1/products/changes", json={"operations": [good]}).json()["products"] == 1
    assert client.post("/v1/products/changes", json={"operations": both[1:]}).json()["products"] == 1
    assert client.get("/v1/products/b1").json()["product"]["price"] == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"operations": []}, "operations"),
        ({"operations": [{"put": {"id": "x", "title": "y", "colour": "red"}}]}, "colour"),
        ({"operations": [{"patch": {"id": "x"}}]}, "patch"),
        ({"operations": [{"patch": {"price": 3, "brand": "x"}}]}, "operations"),
        ({"operations": [{"delete": ""}]}, "delete"),
        ({"operations": [{"drop": "x"}]}, "operations"),
        ({"operations": [{"delete": "x"}] * 1_001}, "operations"),
    ],
)
def test_invalid_change_error_names_the_field(client: TestClient, body: object, field: str) -> None:
    answer = client.post("/v1/products/changes", json=body)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["field"]


def test_mismatched_id_and_invalid_value_are_named(client: TestClient, store: SearchEngine) -> None:
    answer = client.put("/v1/products/a", json={"id": "b", "title": "Lamp"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "id")
    product = store.search("drill").hits[0].product.id
    answer = client.patch(f"/v1/products/{product}", json={"price": -1})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "price")
    assert product in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("event", "result"),
    [
        ({"kind": "click", "session": "s"}, "product"),
        ({"kind": "wink", "session": "s"}, "kind"),
        ({"kind": "click", "product_id": "x"}, "shopper"),
    ],
)
def test_invalid_event_is_refused_with_the_reason(client: TestClient, event: dict[str, str], result: str) -> None:
    answer = client.post("/v1/events", json={"events": [event]})
    assert answer.status_code == 400
    assert result in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "99999-01-01T00:00:00Z", 1e30, 10**30, -(10**30)]
)
def test_time_beyond_the_calendar_is_refused(client: TestClient, store: SearchEngine, time: object) -> None:
    product = store.search("drill").hits[0].product.id
    click = {"kind": "click", "product_id": product, "session": "s", "time": time}
    sent = {"eventType": "click", "eventName": "c", "index": "i", "userToken": "u", "objectIDs": [product]}
    requests: list[tuple[str, str, dict[str, object]]] = [
        ("POST", "/v1/events", {"events": [click]}),
        ("POST", "/1/events", {"events": [sent | {"timestamp": time}]}),
        ("PATCH", f"/v1/products/{product}", {"created": time}),
        ("PUT", "/v1/products/late", {"id": "late", "title": "Late", "expires": time}),
        ("POST", f"/1/indexes/p/{product}/partial", {"updated": time}),
        ("POST", "/v1/search", {"filters": f'created > "{time}"'}),
        ("POST", "/1/indexes/p/query", {"filters": f'created > "{time}"'}),
        ("POST", "/v1/search", {"history": [{"product_id": product, "at": time}]}),
    ]
    for method, path, body in requests:
        answer = client.request(method, path, json=body)
        # A filter may compare with it, and the time of a shopper's event is that of its arrival.
        assert answer.status_code in ((200, 400) if "filters" in body or "events" in body else (400,)), answer.text
    assert client.patch(f"/v1/products/{product}", json={"attributes.made": str(time)}).status_code == 200
    assert client.patch(f"/v1/products/{product}", json={"attributes.made": None}).status_code == 200


def test_address_with_a_script_is_refused_at_every_way_in(client: TestClient, store: SearchEngine) -> None:
    product, script = store.search("drill").hits[0].product.id, "javascript:alert(1)"
    whole = {"id": "new", "title": "New", "images": [script]}
    for method, path, body in (
        ("PUT", "/v1/products/new", whole),
        ("PATCH", f"/v1/products/{product}", {"attributes.link": script}),
        ("POST", "/v1/products/changes", {"operations": [{"put": whole}]}),
        ("POST", "/v1/products/changes", {"operations": [{"patch": {"id": product, "images": [script]}}]}),
        ("PUT", "/1/indexes/p/new", {"title": "New", "image": script}),
        ("POST", f"/1/indexes/p/{product}/partial", {"url": script}),
        (
            "POST",
            "/1/indexes/p/batch",
            {"requests": [{"action": "addObject", "body": {"title": "New", "url": script}}]},
        ),
    ):
        answer = client.request(method, path, json=body)
        assert (answer.status_code, "http or https" in answer.text) == (400, True), (path, answer.text)


def test_failed_recording_is_counted_and_reported() -> None:
    tried = threading.Event()

    def full(*_events: Event) -> None:
        tried.set()
        raise StoreError("the disk is full")

    recorder = ImpressionRecorder(full)
    recorder.record_page("q1", "drill", Page((), 0, 1, 20), session="s")
    recorder.close()
    assert tried.is_set()
    assert (recorder.lost, recorder.trouble) == (1, "the disk is full")
