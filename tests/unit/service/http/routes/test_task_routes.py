"""Long work over HTTP: accepted with an id, done beside the searches, and told."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from service.settings import ServiceSettings, Settings

LOCAL = "http://localhost"


@pytest.fixture
def own(demo_index: Path, tmp_path: Path) -> Iterator[TestClient]:
    """A store of the test's own."""
    root = Path(shutil.copytree(demo_index, tmp_path / "store"))
    (tmp_path / "feeds").mkdir()
    with (
        SearchEngine.open(root, settings=Settings(backend="embedded")) as engine,
        TestClient(
            create_app(engine, ServiceSettings(feeds=tmp_path / "feeds")), LOCAL, client=("127.0.0.1", 50_000)
        ) as calling,
    ):
        yield calling


def ended(client: TestClient, place: str, seconds: float = 400) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        finished: dict[str, Any] = client.get(place).json()
        if finished["state"] in ("done", "failed"):
            return finished
        time.sleep(0.1)
    raise AssertionError(finished)


def test_a_rebuild_is_accepted_and_its_version_taken_up(own: TestClient, demo: DemoFiles, tmp_path: Path) -> None:
    feed = Path(shutil.copy(demo.products, tmp_path / "feeds")).name
    product = own.get("/v1/search").json()["hits"][0]["product"]["id"]
    assert own.patch(f"/v1/products/{product}", json={"price": 1.25}).status_code == 200
    accepted = own.post("/v1/rebuild", json={"feeds": [feed]})
    assert accepted.status_code == 202
    finished = ended(own, accepted.headers["Location"])
    assert (finished["state"], finished["error"]) == ("done", "")
    until = time.monotonic() + 10
    while own.get("/health/ready").json()["version"] != finished["result"]["version"] and time.monotonic() < until:
        time.sleep(0.05)
    assert own.get("/health/ready").json()["version"] == finished["result"]["version"] != "v000001"
    assert own.get(f"/v1/products/{product}").json()["product"]["price"] == 1.25
    assert own.get("/v1/tasks").json()[0]["id"] == finished["id"]


def test_what_cannot_be_rebuilt_from_is_refused_before_it_is_accepted(own: TestClient) -> None:
    for feeds in (["nosuch.csv"], ["../store/keys.json"], [], ["/etc/passwd"]):
        answer = own.post("/v1/rebuild", json={"feeds": feeds})
        assert answer.status_code == 400
        assert "feeds" in answer.json()["error"]["message"]
    assert own.get("/v1/tasks").json() == []
    assert own.get("/v1/tasks/nosuch").status_code == 404


def test_a_shopper_is_forgotten_and_named_nowhere(own: TestClient, tmp_path: Path) -> None:
    product = own.get("/v1/search").json()["hits"][0]["product"]["id"]
    click = {"kind": "click", "product_id": product, "shopper": "anna@example.com"}
    assert own.post("/v1/events", json={"events": [click, {**click, "shopper": "bert"}]}).json()["stored"] == 2
    accepted = own.post("/v1/events/forget", json={"shopper": "anna@example.com"})
    assert accepted.status_code == 202
    finished = ended(own, accepted.headers["Location"])
    assert finished["state"] == "done", finished
    assert (finished["result"]["events"], finished["result"]["remaining_events"], finished["arguments"]) == (
        1,
        0,
        {},
    )
    for path in (tmp_path / "store").rglob("*"):
        assert not path.is_file() or b"anna@example.com" not in path.read_bytes()
