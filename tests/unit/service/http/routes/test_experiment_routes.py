"""Experiments over HTTP, from the lot that is drawn for a search to the report on its clicks."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

from fastapi.testclient import TestClient

from rerank.sessions.options import DeriveOptions
from rerank.sessions.refresh import refresh
from service.engine.engine import SearchEngine
from service.events.event_log import DERIVED_FOLDER, EventLog
from service.settings import Settings

SPLIT = {"id": "merging", "variants": [{"name": "now"}, {"name": "rrf", "options": {"merge": "rrf"}}]}
DRAFT = {**SPLIT, "id": "draft", "mode": "interleave"}
SHOPPERS = 30


def test_an_experiment_from_its_lots_to_its_report(client: TestClient, store: SearchEngine) -> None:
    assert client.put("/v1/experiments", json=SPLIT).json() == {"changed": True}
    assert client.put("/v1/experiments", json=SPLIT).json() == {"changed": False}
    seen: Counter[str] = Counter()
    for number in range(SHOPPERS):
        request: dict[str, str | int] = {"q": "cordless drill", "size": 3, "shopper": f"u{number}"}
        found = client.get("/v1/search", params=request).json()
        variant = found["query_id"].split("~")[1]
        seen[variant] += 1
        if variant == "merging.rrf":
            click = {"kind": "click", "product_id": found["hits"][1]["product"]["id"], "shopper": f"u{number}"}
            assert client.post("/v1/events", json={"events": [{**click, "query_id": found["query_id"]}]}).is_success
    made_up = {"kind": "query", "query": "drill", "query_id": "q~merging.rrf~AAAAAAAAAAAA", "shopper": "u99"}
    client.post("/v1/events", json={"events": [made_up]})
    refreshed(store, SHOPPERS + 1)
    report = client.get("/v1/experiments/merging/report").json()
    figures = {each["name"]: each for each in report["analysis"]["variants"]}
    assert {f"merging.{name}": each["units"] for name, each in figures.items()} == dict(seen)
    assert figures["now"]["figures"]["click_through"] == 0
    assert figures["rrf"]["figures"]["click_through"] == 1
    assert report["analysis"]["decisions"][0]["outcome"] == "not yet"
    assert client.post("/v1/experiments/merging/stop").json() == {"changed": True}
    assert len(client.get("/v1/search", params={"q": "drill", "shopper": "u1"}).json()["query_id"]) == 32
    (listed,) = client.get("/v1/experiments").json()["experiments"]
    assert (listed["experiment"], listed["state"]) == (SPLIT, "stopped")


def test_interleaved_pages_go_on_from_each_other(client: TestClient) -> None:
    client.put("/v1/experiments", json=DRAFT)
    request = {"q": "lamp", "size": 5, "session": "s1", "shopper": "u1"}
    pages = [client.post("/v1/search", json={**request, "page": page}).json() for page in (1, 2)]
    shown = [hit["product"]["id"] for page in pages for hit in page["hits"]]
    assert len(set(shown)) == 10
    assert [page["query_id"].split("~")[1][: len("draft:1:")] for page in pages] == ["draft:1:", "draft:6:"]
    private = client.post("/v1/search", json=request, headers={"Sec-GPC": "1"}).json()
    assert "~" not in private["query_id"]
    several = client.post("/v1/multi-search", json={"searches": [request, {"q": "lamp"}]}).json()["results"]
    assert ["~" in each["query_id"] for each in several] == [True, False]
    client.post("/v1/experiments/draft/stop")


def test_what_cannot_be_is_refused_with_its_field(client: TestClient) -> None:
    for body, field in (
        ({**SPLIT, "id": "A b"}, "id"),
        ({**SPLIT, "id": "other", "colour": 1}, "colour"),
        ({**SPLIT, "id": "other", "variants": [{"name": "a"}]}, "variants"),
        ({**SPLIT, "share": 0.5}, "id"),
    ):
        client.put("/v1/experiments", json=SPLIT)
        answer = client.put("/v1/experiments", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_experiment")
        assert answer.json()["error"]["field"] == field
    for path in ("/v1/experiments/nosuch/stop", "/v1/experiments/..%2f/stop"):
        assert client.post(path).status_code in (400, 404, 405)


def refreshed(store: SearchEngine, queries: int) -> None:
    """The tables made of the events, once all searches are written down."""
    until = time.monotonic() + 5
    with EventLog.open(store.root, Settings(backend="embedded")) as log:
        while True:
            days = sorted(log.store.days())
            kinds = [kind for table in log.store.read(days[0], days[-1]) for kind in table["kind"]] if days else []
            if kinds.count("query") >= queries or time.monotonic() > until:
                break
            time.sleep(0.05)
        refresh(log.store, log.folder / DERIVED_FOLDER, None, DeriveOptions(), now=datetime.now(UTC))
