"""A cluster that is unavailable, slow, refuses requests or loses nodes: searches continue and are marked degraded."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from shelfwise.indexer.targets import MoveReport, move
from shelfwise.retrieval.elasticsearch.client import _REST_SECONDS, Cluster
from shelfwise.retrieval.elasticsearch.cluster_index import ElasticsearchIndex
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.errors import ClusterError, ClusterRefusedError, ClusterUnavailableError, UnknownProductError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Page, Product
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.live import AppliedChanges
from shelfwise.service.engine.request import SearchRequest
from shelfwise.service.engine.search import Search
from shelfwise.service.settings import ElasticsearchSettings, Settings
from tests.clusters import KETTLE, LAMP, TEAPOT, TEXT, finds, ids, is_whole, moved, removed, settings_for
from tests.machine import within
from tests.servers.configuration import Options
from tests.servers.proxy import Mode, Proxy
from tests.servers.server import Server, start

pytestmark = pytest.mark.elasticsearch

PATIENT = 30.0
"""A deadline that a working server meets, even on a busy machine."""
ROOM = 8 * 1024 * 1024
"""Bytes of documents that the small server processes at once; it refuses more with 429."""
EVERYTHING: dict[str, Any] = {"query": {"match_all": {}}, "size": 0}
_BARELY = 500
"""Bytes left free; every document of a product is larger."""


@dataclass(frozen=True, slots=True)
class Served:
    """An index whose words are in the shared server, reached through a proxy."""

    index: Path
    alias: str
    proxy: Proxy

    def opened(self, *, deadline: float = PATIENT) -> SearchEngine:
        reached = ElasticsearchSettings(url=(self.proxy.url,), alias=self.alias, deadline=deadline)
        return SearchEngine.open(self.index, settings=Settings(backend="elasticsearch", elasticsearch=reached))

    def changes(self) -> int:
        return Journal(self.index).last()


@pytest.fixture
def served(demo_index: Path, tmp_path: Path, elasticsearch: Server) -> Iterator[Served]:
    settings = settings_for(elasticsearch)
    with moved(demo_index, tmp_path / "served", settings) as index, Proxy(elasticsearch.port) as proxy:
        yield Served(index, settings.elasticsearch.alias, proxy)


@pytest.fixture(scope="module")
def small_server(elasticsearch: Server) -> Iterator[Server]:
    """A server that a test may overload or make read-only, since no other test uses it."""
    with start(Options(settings={"indexing_pressure.memory.limit": f"{ROOM}b"})) as server:
        # No node may hold this index: writes to it wait, and occupy memory.
        held = {"index.routing.allocation.require._name": "nobody"}
        assert server.request("PUT", "/held?wait_for_active_shards=0", {"settings": held}).status_code == 200
        yield server


@contextmanager
def busy(server: Server, seconds: int) -> Iterator[None]:
    """Fills the small server for some seconds, so that it refuses every document."""

    def wait() -> None:
        body = json.dumps({"index": {}}) + "\n" + json.dumps({"text": "x" * (ROOM - _BARELY)}) + "\n"
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=seconds + 120)) as connection:
            asked = f"/held/_bulk?timeout={seconds}s"
            connection.request("POST", asked, body, {"Content-Type": "application/json"})
            connection.getresponse().read()

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(wait)
        assert eventually(lambda: _pressure(server)["current"]["coordinating_in_bytes"] >= ROOM - _BARELY)
        yield
    waiting.result()


def _pressure(server: Server) -> dict[str, dict[str, int]]:
    (node,) = server.request("GET", "/_nodes/stats/indexing_pressure").json()["nodes"].values()
    memory: dict[str, dict[str, int]] = node["indexing_pressure"]["memory"]
    return memory


@pytest.fixture
def live(served: Served) -> Iterator[SearchEngine]:
    with served.opened() as engine:
        yield engine


eventually = partial(within, 60)


def degraded_searches() -> float:
    return REGISTRY.get_sample_value("shelfwise_degraded_searches_total", {"stage": "bm25"}) or 0.0


def attempts(engine: SearchEngine, product_id: str) -> tuple[Callable[[], AppliedChanges], ...]:
    return (
        lambda: engine.upsert([KETTLE]),
        lambda: engine.patch(product_id, price=12345.5),
        lambda: engine.delete([product_id]),
    )


def vector_order(engine: SearchEngine) -> list[str]:
    """The merged order of an engine without its keyword index."""
    snapshot = engine.snapshot.without_cluster
    with ThreadPoolExecutor(2) as threads:
        request = SearchRequest(TEXT, stage="merged")
        return ids(Search(snapshot, Stages(snapshot, threads), request, ("bm25",)).page())


class TestUnavailable:
    def test_vectors_alone_answer_and_degraded_pages_are_counted(
        self, served: Served, live: SearchEngine, engine: SearchEngine
    ) -> None:
        whole, by_vectors = live.search(TEXT, stage="merged"), vector_order(engine)
        product = live.snapshot.products[7]
        similar = live.similar(product.id, size=5, filters="price < 60")
        served.proxy.switch(Mode.REFUSE)
        before = degraded_searches()
        pages = [live.search(TEXT, stage="merged") for _ in range(5)]
        assert degraded_searches() - before == 5
        assert not whole.degraded
        assert set(whole.hits[0].stages) == {"bm25", "dense", "merged"}
        for page in pages:
            assert page.degraded == ("bm25",)
            assert ids(page) == by_vectors
            assert all(set(hit.stages) == {"dense", "merged"} for hit in page.hits)
        assert any("searches use vectors alone" in notice and served.proxy.url in notice for notice in live.notices)
        page = live.similar(product.id, size=5, filters="price < 60")
        assert (page.degraded, ids(page)) == (("bm25",), ids(similar))
        page = live.search(TEXT, size=1_000, filters="price < 60", facets=["price"], sort="-price")
        prices = [hit.product.price or 0 for hit in page.hits]
        assert page.total == len(prices) > 10
        assert prices == sorted(prices, reverse=True)
        assert (page.facets["price"].maximum, page.facets["price"].minimum) == (prices[0], prices[-1])
        served.proxy.switch(Mode.FORWARD)
        assert eventually(lambda: is_whole(live))
        before = degraded_searches()
        assert ids(live.search(TEXT, stage="merged")) == ids(whole)
        assert degraded_searches() == before


class TestSlow:
    DEADLINE = 2.0

    def test_change_fails_after_the_deadline_and_engine_opens(self, served: Served) -> None:
        with served.opened(deadline=self.DEADLINE) as engine:
            product = engine.snapshot.products[7]
            served.proxy.switch(Mode.SILENT)
            for change in attempts(engine, product.id):
                started = time.monotonic()
                with pytest.raises(ClusterUnavailableError):
                    change()
                assert time.monotonic() - started < 5 * self.DEADLINE
            assert served.changes() == 0
        started = time.monotonic()
        with served.opened(deadline=self.DEADLINE) as engine:
            assert engine.search(TEXT).degraded == ("bm25",)
            assert time.monotonic() - started < 10 * self.DEADLINE
            served.proxy.switch(Mode.FORWARD)
            assert eventually(lambda: is_whole(engine))

    def test_one_search_at_a_time_probes_the_cluster(self, elasticsearch: Server) -> None:
        with Proxy(elasticsearch.port) as proxy:
            settings = ClusterSettings((proxy.url,), deadline=PATIENT)
            with closing(Cluster(settings)) as cluster, ThreadPoolExecutor(1) as thread:
                proxy.switch(Mode.REFUSE)
                for _ in range(3):
                    with pytest.raises(ClusterUnavailableError, match="does not respond"):
                        cluster.search("none", [EVERYTHING])
                proxy.switch(Mode.SILENT)
                time.sleep(_REST_SECONDS + 0.5)
                waiting = thread.submit(cluster.search, "none", [EVERYTHING])
                time.sleep(1)
                with pytest.raises(ClusterUnavailableError, match="requests to it are paused"):
                    cluster.search("none", [EVERYTHING])
                assert not waiting.done()
                proxy.switch(Mode.REFUSE)
                with pytest.raises(ClusterUnavailableError, match="does not respond"):
                    waiting.result()


class TestChangesWhileUnavailable:
    def test_changes_are_refused_and_leave_nothing(self, served: Served, live: SearchEngine) -> None:
        product = live.snapshot.products[7]
        served.proxy.switch(Mode.REFUSE)
        for change in attempts(live, product.id):
            with pytest.raises(ClusterUnavailableError, match=f"Elasticsearch at {served.proxy.url}"):
                change()
        assert served.changes() == 0
        served.proxy.switch(Mode.FORWARD)
        with served.opened() as again:
            for each in (live, again):
                assert eventually(lambda each=each: is_whole(each))  # type: ignore[misc]
                assert each.product(product.id) == product
                assert each.search("", filters="price = 12345.5").total == 0
                found = each.search("zweeble", stage="bm25")
                assert (found.total, found.degraded) == (0, ())
                with pytest.raises(UnknownProductError):
                    each.product(KETTLE.id)

    @pytest.mark.parametrize("stays", [True, False], ids=["same engine", "next engine"])
    def test_journaled_change_is_found_after_the_cluster_returns(
        self, stays: bool, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        check = ElasticsearchIndex.check_changeable

        def check_and_die(index: ElasticsearchIndex) -> None:
            check(index)
            served.proxy.switch(Mode.REFUSE)

        engine = served.opened()
        with monkeypatch.context() as dying, closing(engine):
            dying.setattr(ElasticsearchIndex, "check_changeable", check_and_die)
            assert engine.upsert([KETTLE]).sequence == 1
            assert served.changes() == 1
            assert any("live changes are not loaded" in notice for notice in engine.notices)
            assert engine.search(TEXT).degraded == ("bm25",)
            if stays:
                served.proxy.switch(Mode.FORWARD)
                assert eventually(lambda: finds(engine, KETTLE) and is_whole(engine))
                assert engine.product(KETTLE.id) == KETTLE
        served.proxy.switch(Mode.FORWARD)
        with served.opened() as again:
            assert eventually(lambda: finds(again, KETTLE) and is_whole(again))
            assert again.product(KETTLE.id) == KETTLE


class TestReadOnly:
    BLOCKS = (
        ("index.blocks.write", "the index or the cluster is read-only: lift its block"),
        ("index.blocks.read_only_allow_delete", "its disk is nearly full, .*: free some space on it"),
    )

    @pytest.mark.parametrize(("block", "cure"), BLOCKS)
    def test_change_error_says_what_to_do_and_searches_work(
        self, block: str, cure: str, served: Served, live: SearchEngine, elasticsearch: Server
    ) -> None:
        product = live.snapshot.products[7]
        whole = live.search(TEXT)
        settings = f"/{served.alias}/_settings"
        assert elasticsearch.request("PUT", settings, {block: True}).status_code == 200
        for _ in range(4):
            for change in attempts(live, product.id):
                with pytest.raises(ClusterRefusedError, match=cure):
                    change()
            page = live.search(TEXT)
            assert not page.degraded
            assert ids(page) == ids(whole)
        assert served.changes() == 0
        assert elasticsearch.request("PUT", settings, {block: None}).status_code == 200
        assert live.upsert([KETTLE]).sequence == 1
        assert finds(live, KETTLE)


@pytest.mark.slow
class TestOverload:
    def test_bulk_load_backs_off_until_there_is_room(self, root: Path, small_server: Server) -> None:
        settings = settings_for(small_server)
        with removed(settings.cluster):
            before = _pressure(small_server)["total"]["coordinating_rejections"]
            with busy(small_server, seconds=4):
                report = move(root, settings.cluster, NullProgress())
            assert _pressure(small_server)["total"]["coordinating_rejections"] > before
            with closing(Cluster(settings.cluster)) as cluster:
                assert cluster.count(f"{settings.cluster.alias}-{report.version}") == report.products == 600

    def test_writes_that_are_rejected_do_not_stop_searches(self, small_server: Server) -> None:
        settings = settings_for(small_server).cluster
        document = ("0", 1, json.dumps({"title": "kettle " * 200}).encode())
        with removed(settings), closing(Cluster(settings)) as cluster:
            index = f"{settings.alias}-v000001"
            cluster.create(index, {"number_of_replicas": 0}, {})
            with busy(small_server, seconds=12):
                for _ in range(4):
                    with pytest.raises(ClusterUnavailableError, match="cannot answer now \\(429\\)"):
                        cluster.write(index, [document])
                assert cluster.search(index, [EVERYTHING])[0]["hits"]["total"]["value"] == 0
            cluster.write(index, [document])
            assert cluster.search(index, [EVERYTHING])[0]["hits"]["total"]["value"] == 1


def test_index_with_lost_shard_is_reloaded(
    demo_index: Path, tmp_path: Path, elasticsearch: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, create = Cluster.count, Cluster.create
    made: list[str] = []
    counted: list[str] = []

    def create_and_count(cluster: Cluster, index: str, *kind: Mapping[str, Any]) -> None:
        made.append(index)
        create(cluster, index, *kind)

    def lose_once(cluster: Cluster, index: str) -> int:
        counted.append(index)
        if len(counted) == 2:
            raise ClusterUnavailableError("all shards failed")
        return count(cluster, index)

    monkeypatch.setattr(Cluster, "create", create_and_count)
    monkeypatch.setattr(Cluster, "count", lose_once)
    settings = settings_for(elasticsearch)
    with (
        moved(demo_index, tmp_path / "moved", settings) as index,
        SearchEngine.open(index, settings=settings) as engine,
    ):
        assert len(counted) == 4
        assert made.count(counted[0]) == 3  # once to check that it is possible
        assert is_whole(engine)


SHARDS = "filter_path=routing_table.indices.*.shards.*.node,routing_table.indices.*.shards.*.primary,nodes.*.name"


@pytest.fixture
def three_nodes(elasticsearch: Server) -> Iterator[Server]:
    """A cluster that a test may damage; the fixture `elasticsearch` ensures that servers can run here."""
    with start(Options(nodes=3)) as server:
        yield server


def holder(server: Server, index: str) -> str:
    """The name of the node with the primary shard of an index of one shard."""
    state = server.request("GET", f"/_cluster/state/routing_table,nodes/{index}?{SHARDS}").json()
    (copies,) = state["routing_table"]["indices"][index]["shards"].values()
    (node,) = (each["node"] for each in copies if each["primary"])
    return str(state["nodes"][node]["name"])


def without(server: Server, name: str) -> Server:
    server.kill([each.name for each in server.nodes].index(name))
    return dataclasses.replace(server, nodes=tuple(each for each in server.nodes if each.name != name))


class Killer(NullProgress):
    """A progress that kills the node that is being filled once, after a third of the products."""

    def __init__(self, server: Server, index: str) -> None:
        self.left = server
        self._index = index
        self._loaded = 0

    def advance(self, amount: int) -> None:
        self._loaded += amount
        if self._loaded >= 200 and len(self.left.nodes) == 3:
            self.left = without(self.left, holder(self.left, self._index))


def moved_in_the_end(index: Path, settings: ClusterSettings, progress: Killer) -> MoveReport:
    """Moves an index; if that fails, checks that the previous version still serves, and retries."""
    before = Store(index).find_serving().manifest
    try:
        return move(index, settings, progress)
    except ClusterError:
        assert Store(index).find_serving().manifest == before
        return move(index, settings, progress)


@pytest.mark.slow
def test_node_killed_during_load_leaves_no_partial_index(
    root: Path, three_nodes: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.retrieval.elasticsearch.client._BULK_DOCUMENTS", 50)
    settings = settings_for(three_nodes)
    with SearchEngine.open(root, settings=settings) as engine:
        engine.upsert([KETTLE])
        whole = engine.search(TEXT)
        killer = Killer(three_nodes, f"{settings.cluster.alias}-v000002")
        started = time.monotonic()
        report = moved_in_the_end(root, settings.cluster, killer)
        assert time.monotonic() - started < 240  # less than the minutes of successive retries
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


@pytest.mark.slow
def test_searches_and_changes_survive_a_node_failure(root: Path, three_nodes: Server) -> None:
    settings = settings_for(three_nodes, deadline=2.0)
    name = f"{settings.cluster.alias}-{move(root, settings.cluster, NullProgress()).version}"
    with closing(Cluster(settings.cluster)) as cluster:
        assert cluster.wait_for_copies(name, 60)
    with SearchEngine.open(root, settings=settings) as live, SearchEngine.open(root, settings=settings) as other:
        live.upsert([KETTLE])
        before = ids(live.search(TEXT))
        with searching(live) as pages:
            left = without(three_nodes, holder(three_nodes, name))
            assert eventually(lambda: is_accepted(live, TEAPOT))
            assert eventually(lambda: is_whole(live))
        check_pages(pages, before, ids(live.search(TEXT)))
        for engine in (live, other):
            assert eventually(partial(finds, engine, KETTLE))
            assert eventually(partial(finds, engine, TEAPOT))
        check_without_a_majority(live, left, holder(left, name), root)


def check_pages(pages: list[Page], *whole: list[str]) -> None:
    for page in pages:
        assert page.degraded in {(), ("bm25",)}
        assert page.hits
        assert page.degraded or ids(page) in whole


def check_without_a_majority(engine: SearchEngine, server: Server, copy: str, index: Path) -> None:
    (name,) = (node.name for node in server.nodes if node.name != copy)
    without(server, name)
    assert eventually(lambda: not is_accepted(engine, LAMP))
    changes = Journal(index).last()
    assert not is_accepted(engine, LAMP)
    assert Journal(index).last() == changes
    assert eventually(lambda: not engine.search(TEXT).degraded)


@contextmanager
def searching(engine: SearchEngine) -> Iterator[list[Page]]:
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


def is_accepted(engine: SearchEngine, product: Product) -> bool:
    try:
        engine.upsert([product])
    except ClusterUnavailableError:
        return False
    return True
