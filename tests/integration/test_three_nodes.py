"""A cluster of three nodes that loses some of them: while it is filled, and while it is searched and changed."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from indexer.migrate import MoveReport, move
from retrieval.elasticsearch.client import Cluster
from retrieval.elasticsearch.settings import ClusterSettings
from retrieval.errors import ClusterError, ClusterUnavailableError
from retrieval.progress import NullProgress
from retrieval.records import Page, Product
from retrieval.store.versions import Store
from retrieval.updates.journal import Journal
from service.engine.engine import SearchEngine
from tests.clusters import KETTLE, LAMP, TEAPOT, TEXT, finds, ids, is_whole, settings_for
from tests.machine import within
from tests.servers.configuration import Options
from tests.servers.server import Server, start

pytestmark = [pytest.mark.elasticsearch, pytest.mark.slow]

SHARDS = "filter_path=routing_table.indices.*.shards.*.node,routing_table.indices.*.shards.*.primary,nodes.*.name"


@pytest.fixture
def three_nodes(elasticsearch: Server) -> Iterator[Server]:
    """A cluster that a test may harm; the other server shows that this machine can run one."""
    with start(Options(nodes=3)) as server:
        yield server


eventually = partial(within, 60)


def holder(server: Server, index: str) -> str:
    """The name of the node that has an index's only shard, or of the one that leads its copies."""
    state = server.request("GET", f"/_cluster/state/routing_table,nodes/{index}?{SHARDS}").body
    (copies,) = state["routing_table"]["indices"][index]["shards"].values()
    (node,) = (each["node"] for each in copies if each["primary"])
    return str(state["nodes"][node]["name"])


def without(server: Server, name: str) -> Server:
    """Kills a node and returns what is left."""
    server.kill([each.name for each in server.nodes].index(name))
    return dataclasses.replace(server, nodes=tuple(each for each in server.nodes if each.name != name))


class Killer(NullProgress):
    """A progress under whom the node that is being filled dies once, when a third of the products is taken."""

    def __init__(self, server: Server, index: str) -> None:
        self.left = server
        self._index = index
        self._taken = 0

    def advance(self, amount: int) -> None:
        self._taken += amount
        if self._taken >= 200 and len(self.left.nodes) == 3:
            self.left = without(self.left, holder(self.left, self._index))


def moved_in_the_end(index: Path, settings: ClusterSettings, progress: Killer) -> MoveReport:
    """Moves an index; where that fails, the version before serves on, and it can be tried again."""
    before = Store(index).find_serving().manifest
    try:
        return move(index, settings, progress)
    except ClusterError:
        assert Store(index).find_serving().manifest == before
        return move(index, settings, progress)


def test_a_node_that_dies_with_half_an_index_leaves_no_half_an_index(
    demo_index: Path, tmp_path: Path, three_nodes: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.elasticsearch.client._BULK_DOCUMENTS", 50)
    index = Path(shutil.copytree(demo_index, tmp_path / "loaded"))
    settings = settings_for(three_nodes)
    with SearchEngine.open(index, settings=settings) as engine:
        engine.upsert([KETTLE])
        whole = engine.search(TEXT)
        killer = Killer(three_nodes, f"{settings.cluster.alias}-v000002")
        started = time.monotonic()
        report = moved_in_the_end(index, settings.cluster, killer)
        assert time.monotonic() - started < 240  # not the minutes of one retry after another of what is lost
        assert len(killer.left.nodes) == 2
        assert report.published
        assert eventually(lambda: engine.search(TEXT).version == report.version)
        assert eventually(lambda: finds(engine, KETTLE))
        assert ids(engine.search(TEXT)) == ids(whole)
    with closing(Cluster(settings.cluster)) as cluster:
        state = cluster.state(f"{settings.cluster.alias}-{report.version}")
        assert state is not None
        assert state.meta["whole"]
        assert state.aliases == {settings.cluster.alias}
        assert cluster.count(state.name) == report.products + 1
        assert cluster.wait_for_copies(state.name, 60)


def test_searches_and_changes_outlive_a_node(demo_index: Path, tmp_path: Path, three_nodes: Server) -> None:
    index = Path(shutil.copytree(demo_index, tmp_path / "moved"))
    settings = settings_for(three_nodes, deadline=2.0)
    name = f"{settings.cluster.alias}-{move(index, settings.cluster, NullProgress()).version}"
    with closing(Cluster(settings.cluster)) as cluster:
        assert cluster.wait_for_copies(name, 60)
    with SearchEngine.open(index, settings=settings) as live, SearchEngine.open(index, settings=settings) as other:
        live.upsert([KETTLE])
        before = ids(live.search(TEXT))
        with searching(live) as pages:
            left = without(three_nodes, holder(three_nodes, name))
            assert eventually(lambda: is_taken(live, TEAPOT))
            assert eventually(lambda: is_whole(live))
        check_pages(pages, before, ids(live.search(TEXT)))
        for engine in (live, other):
            assert eventually(partial(finds, engine, KETTLE))
            assert eventually(partial(finds, engine, TEAPOT))
        check_without_a_majority(live, left, holder(left, name), index)


def check_pages(pages: list[Page], *whole: list[str]) -> None:
    """Every page is whole, one of those that there are, or says what is missing."""
    for page in pages:
        assert page.degraded in {(), ("bm25",)}
        assert page.hits
        assert page.degraded or ids(page) in whole


def check_without_a_majority(engine: SearchEngine, server: Server, copy: str, index: Path) -> None:
    """Of three nodes the one with the copy is left: it takes no change, and is searched."""
    (name,) = (node.name for node in server.nodes if node.name != copy)
    without(server, name)
    assert eventually(lambda: not is_taken(engine, LAMP))
    changes = Journal(index).last()
    assert not is_taken(engine, LAMP)
    assert Journal(index).last() == changes
    assert eventually(lambda: not engine.search(TEXT).degraded)


@contextmanager
def searching(engine: SearchEngine) -> Iterator[list[Page]]:
    """Four threads search all the while; what they were answered is complete in the end."""
    stop, pages = threading.Event(), list[Page]()

    def search_on() -> None:
        while not stop.wait(0.02):
            pages.append(engine.search(TEXT))

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(search_on) for _ in range(4)]
        try:
            yield pages
        finally:
            stop.set()
    for each in running:
        each.result()


def is_taken(engine: SearchEngine, product: Product) -> bool:
    """Whether a change is acknowledged now; else it is refused as one that may be tried again."""
    try:
        engine.upsert([product])
    except ClusterUnavailableError:
        return False
    return True
