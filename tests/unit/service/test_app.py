"""Preparations of a process before it serves, so that nothing stops all of its threads later."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from shelfwise.service.app import create_app, prevent_pauses
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings
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
