"""Capabilities of running services and of a cluster, each with real processes."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from shelfwise.indexer.targets import move
from shelfwise.retrieval.progress import NullProgress
from shelfwise.service.engine.engine import SearchEngine
from tests.clusters import TEXT, removed, settings_for
from tests.machine import within
from tests.servers.server import Server
from tests.services import TLS, Service, service


def ids(address: str, query: str) -> list[str]:
    answer = httpx2.get(f"{address}/v1/search", params={"q": query}, timeout=30, verify=TLS)
    return [hit["product"]["id"] for hit in answer.json()["hits"]]


def patch_price(running: Service, product: str, price: float) -> None:
    headers, address = {"X-API-Key": running.token}, f"{running.address}/v1/products/{product}"
    assert httpx2.patch(address, json={"price": price}, headers=headers, timeout=30, verify=TLS).status_code == 200


def price_of(running: Service, product: str) -> float:
    price: float = running.get(f"/v1/products/{product}").json()["product"]["price"]
    return price


def test_workers(root: Path, tmp_path: Path) -> None:
    with service(root, tmp_path / "log", "--workers", "2") as running:
        assert within(60, lambda: running.log.read_text("utf-8").count('"worker ready"') == 2)
        (found,) = {tuple(ids(running.address, "cordless drill")) for _ in range(6)}
        patch_price(running, found[0], 4_321.25)
        # Each request has a connection of its own, so both workers answer some.
        assert within(30, lambda: all(price_of(running, found[0]) == 4_321.25 for _ in range(6)))


def test_replicas(root: Path, tmp_path: Path) -> None:
    with service(root, tmp_path / "one.log") as one, service(root, tmp_path / "two.log") as two:
        found = ids(one.address, "cordless drill")
        assert found == ids(two.address, "cordless drill")
        patch_price(one, found[0], 4_321.25)
        assert within(30, lambda: price_of(two, found[0]) == 4_321.25)
        assert one.end() == 0
        assert price_of(two, found[0]) == 4_321.25


@pytest.mark.elasticsearch
def test_elasticsearch(root: Path, elasticsearch: Server) -> None:
    """BM25 of the cluster gives the results of the embedded index."""
    with SearchEngine.open(root) as engine:
        embedded = [hit.product.id for hit in engine.search(TEXT, stage="bm25").hits]
    settings = settings_for(elasticsearch)
    with removed(settings.cluster):
        assert move(root, settings.cluster, NullProgress()).published
        with SearchEngine.open(root, settings=settings) as engine:
            page = engine.search(TEXT, stage="bm25")
    assert page.degraded == ()
    assert [hit.product.id for hit in page.hits] == embedded
