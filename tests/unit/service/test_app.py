"""The application: workers, its OpenAPI document, and what it imports."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from fastapi.testclient import TestClient

from shelfwise.service.app import create_app, prevent_pauses
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings
from shelfwise.service.worker_group import SharedCounts, WorkerGroup, group_folder
from tests.services import local_client


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations of the garbage collections during a test."""
    before, seen = gc.get_threshold(), list[int]()

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)


def test_many_changed_products_start_no_collection_of_old_objects(collections: list[int]) -> None:
    """Regression: 18,000 changed objects stopped the event loop for two seconds: collections scanned all products."""
    prevent_pauses()
    collections.clear()
    changed: list[dict[str, dict[str, str]]] = [{"attributes": {}, "identifiers": {}} for _ in range(100_000)]
    assert len(changed) == 100_000
    assert 2 not in collections
    assert collections.count(1) > 5, "young objects are collected, each time few of them"


def test_no_request_builds_routes(store: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: building routes blocked the event loop for half a second at each router's first request."""
    monkeypatch.setattr("fastapi.routing._populate_api_route_state", None)
    with local_client(create_app(store, ServiceSettings())) as client:
        assert client.get("/v1/indexes").status_code == 200


@pytest.fixture
def groups(tmp_path: Path) -> list[WorkerGroup]:
    return [WorkerGroup(number, 3, tmp_path) for number in range(3)]


def test_counts_are_those_of_all_workers(groups: list[WorkerGroup]) -> None:
    counts = [SharedCounts(each, "counts", 1 << 12) for each in groups]
    for number, each in enumerate(counts):
        each.add("a", 10**number)
        each.add(f"own {number}", 1)
    assert {each.total("a") for each in counts} == {1 + 10 + 100}
    assert counts[0].total("own 2") == 1
    assert counts[0].total("nosuch") == 0
    counts[1].clear()
    assert counts[2].total("a") == 1 + 100


def test_a_worker_that_still_counts_an_earlier_period_adds_nothing(groups: list[WorkerGroup]) -> None:
    one, two, _ = (SharedCounts(each, "counts", 64) for each in groups)
    one.add("a", 5, period=7)
    two.add("a", 3, period=9)  # stored in the same half of the cells
    assert [two.total("a", period) for period in (7, 8, 9)] == [5, 0, 3]


def test_counts_are_never_too_low(groups: list[WorkerGroup]) -> None:
    counts = SharedCounts(groups[0], "counts", 8)
    for number in range(100):
        counts.add(str(number), number)
    assert all(counts.total(str(number)) >= number for number in range(100))


def test_a_restarted_worker_continues_its_counts(groups: list[WorkerGroup], tmp_path: Path) -> None:
    SharedCounts(groups[1], "counts", 64).add("a", 5)
    again = SharedCounts(WorkerGroup(1, 3, tmp_path), "counts", 64)
    again.add("a", 2)
    assert again.total("a") == 7


def test_a_value_shared_by_a_worker_is_read_by_others_until_it_is_withdrawn(groups: list[WorkerGroup]) -> None:
    one, two, three = groups
    one.publish("news", b"1")
    two.publish("news", b"2")
    one.publish("news", b"3")
    assert three.published("news") == {0: b"3", 1: b"2"}
    assert one.of_others("news") == [b"2"]
    three.withdraw("news", 1)
    three.withdraw("news", 2)
    assert one.of_others("news") == []


def test_the_folder_of_a_group_is_private_and_goes_with_it() -> None:
    with group_folder(2) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        WorkerGroup(0, 2, folder).publish("news", b"1")
    assert not folder.exists()


def test_every_schema_is_described(client: TestClient) -> None:
    """Regression: responses of the InstantSearch protocol had no schema."""
    document = client.get("/v1/openapi.json").json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            success = next(each for status, each in operation["responses"].items() if status.startswith("2"))
            assert success["content"], path
            assert all(media["schema"] for media in success["content"].values()), path
    jsonschema.Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})


def test_service_imports_no_training_packages() -> None:
    program = "import sys, shelfwise.service.app; sys.exit(not {'scipy.stats', 'sklearn'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)
