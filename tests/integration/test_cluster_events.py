"""Events in a real cluster: their view in Elasticsearch tools, interruptions, and rights."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.elasticsearch.documents import remove
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.errors import ClusterRefusedError, ClusterUnavailableError
from shelfwise.retrieval.events.elasticsearch import ElasticsearchEvents
from shelfwise.retrieval.events.store import AppendResult
from shelfwise.retrieval.events.stored import StoredEvent
from tests.event_stores import Alias, aliased, at, event
from tests.machine import within
from tests.servers.proxy import Mode, Proxy
from tests.servers.server import Server

pytestmark = pytest.mark.elasticsearch

EVER = 1 << 24
ANNA = "k1~anna"
CLICK = event(
    1, time=at(1, 3_723_004), shopper=ANNA, session="k1~s", query_id="q7", query="cordless drill", product_id="B0042",
    position=3,
)  # fmt: skip
SEARCH = event(2, kind="query", shopper=ANNA, query_id="q7", query="cordless drill", product_id="", results=120)


@pytest.fixture(params=["elasticsearch", pytest.param("elasticsearch_9", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def place(server: Server) -> Iterator[Alias]:
    with aliased(server.url) as made:
        yield made


@pytest.fixture
def store(place: Alias) -> Iterator[ElasticsearchEvents]:
    with closing(place.open()) as opened:
        yield opened


def indexes(server: Server, place: Alias) -> dict[str, Any]:
    alias = place.settings.alias
    answer = server.request("GET", f"/*{alias}*?expand_wildcards=all")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


class TestIndexLayout:
    def test_two_aliases_show_the_events_and_the_searches(
        self, server: Server, place: Alias, store: ElasticsearchEvents
    ) -> None:
        alias = place.settings.alias
        store.append([CLICK, SEARCH, event(3, time=at(1) - 1)])
        (name,) = found = indexes(server, place)
        assert name == f"ubi-{alias}"
        assert set(found[name]["aliases"]) == {f"ubi_events-{alias}", f"ubi_queries-{alias}"}
        assert found[name]["mappings"]["_meta"] == {"made_by": "shelfwise", "schema": 3, "application": alias}
        assert found[name]["mappings"]["dynamic"] == "strict"
        assert found[name]["settings"]["index"]["translog"]["durability"] == "request"
        assert store.count() == 3  # refreshes
        with closing(Cluster(place.settings)) as cluster:
            assert [cluster.count(f"ubi_{kind}-{alias}") for kind in ("events", "queries")] == [2, 1]

    def test_events_and_searches_have_the_fields_of_ubi(
        self, server: Server, place: Alias, store: ElasticsearchEvents
    ) -> None:
        store.append([CLICK, SEARCH])
        alias = place.settings.alias
        clicks, searches = (
            server.request("GET", f"/ubi_{kind}-{alias}/_doc/{each.key.hex()}").json()["_source"]
            for kind, each in (("events", CLICK), ("queries", SEARCH))
        )
        assert clicks.pop("shelfwise")["day"] == searches.pop("shelfwise")["day"] == CLICK.day
        common = {"application": alias, "client_id": ANNA, "query_id": "q7", "user_query": "cordless drill"}
        assert clicks == common | {
            "action_name": "click",
            "session_id": "k1~s",
            "timestamp": "2026-12-01T01:02:03.004+00:00",
            "event_attributes": {"object": {"object_id": "B0042"}, "position": {"ordinal": 3}},
        }
        assert searches == common | {"timestamp": "2026-12-01T00:00:00.000+00:00", "query_attributes": {"results": 120}}


class TestErase:
    @pytest.mark.slow
    def test_erased_event_is_in_no_file_of_the_server(self, server: Server) -> None:
        """Elasticsearch keeps deleted documents until its replicas no longer need the history."""
        purchase = event(1, shopper=ANNA, query="zweeblefrotz", product_id="onlyoncebought")
        with aliased(server.url) as place, closing(ElasticsearchEvents(Cluster(place.settings))) as store:
            store.append([purchase, *(event(n) for n in range(2, 200))])
            assert store.count() == 199
            marks = ("zweeblefrotz", "onlyoncebought", ANNA)
            assert any(_files_with(server, mark) for mark in marks)
            assert store.forget([ANNA]) == 1
            assert not any(_files_with(server, mark) for mark in marks)
            assert store.count() == 198

    def test_interrupted_erasure_is_resumed(self, store: ElasticsearchEvents, monkeypatch: pytest.MonkeyPatch) -> None:
        events = [event(1, shopper=ANNA, session="k1~s"), event(2, session="k1~s", time=at(-5)), event(3)]
        store.append(events)
        calls = itertools.count(1)

        def remove_and_die(cluster: Cluster, index: str, ids: Sequence[str]) -> int:
            if next(calls) in (1, 3):  # the nameless one; then, in the second attempt, the shopper's own
                raise ClusterUnavailableError("gone")
            return remove(cluster, index, ids)

        monkeypatch.setattr("shelfwise.retrieval.events.elasticsearch.remove", remove_and_die)
        for _ in range(2):
            with pytest.raises(ClusterUnavailableError, match="gone"):
                store.forget([ANNA])
        assert store.forget([ANNA]) == 1
        assert store.count() == 1
        assert store.append(events) == AppendResult(2, 1)


def _files_with(server: Server, text: str) -> list[str]:
    files = (path for path in (server.folder / "node-1" / "data").rglob("*") if path.is_file())
    return [str(path) for path in files if text.encode() in _content(path)]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # removed by a merge in the meantime
        return b""


class TestInterruption:
    EVENTS = tuple(event(n, time=at(n % 2), kind="query" if n % 3 else "click") for n in range(2_500))

    @pytest.mark.parametrize(
        ("write", "is_heard"), [(1, False), pytest.param(2, True, marks=pytest.mark.slow), (3, True)]
    )
    def test_resent_events_are_stored_once_after_interruption(
        self, write: int, is_heard: bool, elasticsearch: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection is cut at one of the three writes of an append, before or after the server receives it."""
        with aliased(elasticsearch.url) as place, Proxy(elasticsearch.port) as proxy:
            through = Alias(ClusterSettings((proxy.url,), alias=place.settings.alias))
            with closing(through.open()) as store:
                done, calls = ElasticsearchEvents._create, itertools.count(1)

                def cut(events: ElasticsearchEvents, documents: Sequence[tuple[str, bytes]]) -> list[int]:
                    if next(calls) == write:
                        if is_heard:
                            done(events, documents)
                        proxy.switch(Mode.REFUSE)
                    return done(events, documents)

                with monkeypatch.context() as cutting:
                    cutting.setattr(ElasticsearchEvents, "_create", cut)
                    with pytest.raises(ClusterUnavailableError, match="does not respond"):
                        store.append(self.EVENTS)
                proxy.switch(Mode.FORWARD)
                again = appended_at_last(store, self.EVENTS)
                assert again.added + again.duplicates == store.count() == len(self.EVENTS)
                assert store.append(self.EVENTS) == AppendResult(0, len(self.EVENTS))
                assert pl.concat(store.read(-EVER, EVER)).height == len(self.EVENTS)

    def test_interrupted_read_raises(self, elasticsearch: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shelfwise.retrieval.events.elasticsearch._PAGE", 1)
        with aliased(elasticsearch.url) as place, Proxy(elasticsearch.port) as proxy:
            through = Alias(ClusterSettings((proxy.url,), alias=place.settings.alias))
            with closing(through.open()) as store:
                store.append([CLICK, event(3, time=at(-40))])
                pages = store.read(-EVER, EVER)
                next(pages)
                proxy.switch(Mode.REFUSE)
                with pytest.raises(ClusterUnavailableError, match="does not respond"):
                    next(pages)


def appended_at_last(store: ElasticsearchEvents, events: Sequence[StoredEvent]) -> AppendResult:
    appended: list[AppendResult] = []

    def is_sent() -> bool:
        try:
            appended.append(store.append(events))
        except ClusterUnavailableError:
            return False
        return True

    assert within(60, is_sent)
    return appended[0]


class TestRights:
    @pytest.fixture
    def secured(self, secured_elasticsearch: Server) -> Iterator[Alias]:
        server = secured_elasticsearch
        user = {"username": "owner", "password": server.password, "ca_certificate": server.ca_certificate}
        with aliased(server.url, **user) as place:
            yield place

    @pytest.fixture
    def reader(self, secured: Alias, secured_elasticsearch: Server) -> Alias:
        password = secured_elasticsearch.passwords["reader"]
        return Alias(dataclasses.replace(secured.settings, username="reader", password=password))

    @pytest.mark.slow
    def test_read_only_user_cannot_create_write_or_delete(self, secured: Alias, reader: Alias) -> None:
        refused = r"user \[reader\].*; grant this user the privilege"
        with closing(reader.open()) as reading, closing(secured.open()) as store:
            with pytest.raises(ClusterRefusedError, match=refused):
                reading.append([CLICK])
            assert store.count() == 0
            store.append([CLICK])
            attempts: tuple[Callable[[], object], ...] = (
                lambda: reading.append([SEARCH]),
                lambda: reading.forget([ANNA]),
                lambda: reading.expire(EVER),
            )
            for attempt in attempts:
                with pytest.raises(ClusterRefusedError, match=refused):
                    attempt()
            assert store.count() == 1


class TestForeignIndexes:
    def test_foreign_index_with_the_same_name_is_not_touched(self, place: Alias, store: ElasticsearchEvents) -> None:
        name = f"ubi-{place.settings.alias}"
        with closing(Cluster(place.settings)) as cluster:
            cluster.create(name, {"number_of_replicas": 0}, {})
            try:
                with pytest.raises(ClusterRefusedError, match=f"there is an index {name} that was not created here"):
                    store.append([CLICK])
                assert cluster.count(name) == 0
                with pytest.raises(ClusterRefusedError, match=f"the index {name} is not an event index"):
                    store.expire(EVER)
            finally:
                cluster.delete([name])
        assert store.append([CLICK]) == AppendResult(1, 0)

    def test_foreign_index_behind_the_alias_is_not_emptied(
        self, server: Server, place: Alias, store: ElasticsearchEvents
    ) -> None:
        store.append([CLICK])
        alias, theirs = place.settings.alias, f"{place.settings.alias}-theirs"
        with closing(Cluster(place.settings)) as cluster:
            cluster.create(theirs, {"number_of_replicas": 0}, {"properties": {"client_id": {"type": "keyword"}}})
            try:
                document = {"client_id": ANNA, "shelfwise": {"day": 1}}
                assert server.request("PUT", f"/{theirs}/_doc/1?refresh=true", document).status_code == 201
                assert server.request("PUT", f"/{theirs}/_alias/ubi_events-{alias}").status_code == 200
                assert store.append([event(3)]) == AppendResult(1, 0)
                assert store.forget([ANNA]) == store.expire(EVER) == 1
                assert cluster.count(theirs) == 1
            finally:
                cluster.delete([theirs])

    def test_versions_and_events_of_one_alias_are_separate(self, place: Alias, store: ElasticsearchEvents) -> None:
        store.append([CLICK, SEARCH])
        version = f"{place.settings.alias}-v000001"
        with closing(Cluster(place.settings)) as cluster:
            cluster.create(version, {"number_of_replicas": 0}, {})
            cluster.point_alias(place.settings.alias, version)
            for pattern in (f"{place.settings.alias}-v*", f"{place.settings.alias}-*", place.settings.alias):
                assert [state.name for state in cluster.states(pattern)] == [version]
            store.expire(EVER)
            assert cluster.state(version) is not None
            cluster.delete([version])

    def test_stores_with_a_common_name_prefix_are_separate(self, place: Alias) -> None:
        longer = Alias(dataclasses.replace(place.settings, alias=f"{place.settings.alias}-2026"))
        with closing(place.open()) as store, closing(longer.open()) as other:
            for each in (store, other):
                assert each.append([CLICK, SEARCH]) == AppendResult(2, 0)
            assert store.expire(EVER) == 2
            assert (store.count(), other.count()) == (0, 2)
            assert store.append([CLICK]) == AppendResult(1, 0)
            assert other.forget([ANNA]) == 2
            assert (store.count(), other.count()) == (1, 0)
        with closing(Cluster(longer.settings)) as cluster:
            cluster.delete([f"ubi-{longer.settings.alias}"])

    def test_removed_index_is_recreated(self, server: Server, place: Alias, store: ElasticsearchEvents) -> None:
        store.append([CLICK])
        name = f"ubi-{place.settings.alias}"
        before = indexes(server, place)[name]["mappings"]
        with closing(Cluster(place.settings)) as cluster:
            cluster.delete([name])
        assert store.append([event(3)]) == AppendResult(1, 0)
        assert indexes(server, place)[name]["mappings"] == before
