"""What a process does before it serves, so that nothing stops all of its threads later."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from service.app import prevent_pauses


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations of the garbage collections that run during a test."""
    before, seen = gc.get_threshold(), list[int]()

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)


def test_many_changed_products_start_no_collection_of_old_objects(collections: list[int]) -> None:
    """The event loop stood for two seconds while 18,000 objects were changed: collections looked at all products."""
    prevent_pauses(FastAPI())
    collections.clear()
    changed: list[dict[str, dict[str, str]]] = [{"attributes": {}, "identifiers": {}} for _ in range(100_000)]
    assert len(changed) == 100_000
    assert 2 not in collections
    assert collections.count(1) > 5, "young objects are collected, each time few of them"


@pytest.mark.usefixtures("collections")
def test_routes_are_built_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their building took the event loop of the whole service half a second, at the first request of each router."""
    app, router = FastAPI(), APIRouter()

    @router.get("/small")
    async def small() -> str:
        return "here"

    app.include_router(router)
    prevent_pauses(app)
    monkeypatch.setattr("fastapi.routing._IncludedRouter._build_effective_context", None)
    assert TestClient(app).get("/small").json() == "here"
