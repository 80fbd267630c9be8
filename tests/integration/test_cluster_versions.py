"""Versions of an index in a real cluster: rebuild, failure, move, rollback, pruning, concurrent changes."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import itertools
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from shelfwise.indexer.build import RebuildOptions, RebuildReport, rebuild
from shelfwise.indexer.targets import MoveReport, move, reencode
from shelfwise.retrieval.elasticsearch.client import Cluster, Document
from shelfwise.retrieval.elasticsearch.cluster_versions import index_name
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.errors import ClusterError, ClusterRefusedError, StoreDamagedError
from shelfwise.retrieval.index.keyword import Selection
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.service.cli.main import app
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import row_of
from shelfwise.service.settings import Settings
from tests.clusters import KETTLE, LADLE, removed, settings_for
from tests.conftest import ENCODER
from tests.machine import within
from tests.servers.server import Server
from tests.unit.indexer.conftest import Shop as BuiltShop

pytestmark = pytest.mark.elasticsearch

COUNT = 60
QUERIES = ("wireless headphones", "garden", "black", "cotton shirt")
V1, V2, V3 = "v000001", "v000002", "v000003"


class Shop(BuiltShop):
    """An index directory, its settings, and its state in the cluster."""

    def __init__(self, root: Path, server: Server, settings: Settings, cache: Path) -> None:
        super().__init__(root, cache)
        self.server = server
        self.settings = settings

    @property
    def alias(self) -> str:
        return self.settings.elasticsearch.alias

    def set(self, **options: object) -> None:
        """Changes settings of the cluster."""
        changed = self.settings.elasticsearch.model_copy(update=options)
        self.settings = self.settings.model_copy(update={"elasticsearch": changed})

    def publish(self, products: Sequence[Product], *, keep: int = 3, embedded: bool = False) -> RebuildReport:
        self.root.parent.mkdir(exist_ok=True)
        return self.rebuild(products, keep=keep, force=True, cluster=None if embedded else self.settings.cluster)

    def move(self, *, embedded: bool = False, keep: int = 3) -> MoveReport:
        cluster = None if embedded else self.settings.cluster
        return move(self.root, cluster, NullProgress(), keep=keep)

    def open(self) -> SearchEngine:
        return SearchEngine.open(self.root, settings=self.settings)

    def index(self, version: str) -> str:
        return f"{self.alias}-{version}"

    def indexes(self) -> list[str]:
        return [state.name for state in self.states_of(f"{self.alias}-*")]

    def named(self) -> list[str]:
        return [state.name for state in self.states_of(self.alias)]

    def meta(self, name: str) -> dict[str, Any]:
        return dict(self.states_of(name)[0].meta)

    def states_of(self, pattern: str) -> list[Any]:
        with contextlib.closing(Cluster(self.settings.cluster)) as cluster:
            return cluster.states(pattern)

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 (JSON)
        answer = self.server.request(method, path, body)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def built(demo: DemoFiles, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    with gzip.open(demo.products) as lines:
        (folder / "feed.jsonl").write_bytes(b"".join(itertools.islice(lines, COUNT)))
    BuiltShop(folder / "index", cache).rebuild(folder / "feed.jsonl", force=True)
    return folder / "index"


@pytest.fixture(scope="module")
def products(built: Path) -> list[Product]:
    store = ProductStore(Store(built).version_folder(V1))
    return [store[row] for row in range(len(store))]


@pytest.fixture
def shop(built: Path, tmp_path: Path, elasticsearch: Server, cache: Path) -> Iterator[Shop]:
    settings = settings_for(elasticsearch)
    shutil.copytree(built, tmp_path / "index")
    with removed(settings.cluster):
        yield Shop(tmp_path / "index", elasticsearch, settings, cache)


@pytest.fixture
def empty(tmp_path: Path, elasticsearch: Server, cache: Path) -> Iterator[Shop]:
    settings = settings_for(elasticsearch)
    with removed(settings.cluster):
        yield Shop(tmp_path / "empty" / "index", elasticsearch, settings, cache)


@pytest.fixture
def served(shop: Shop) -> Shop:
    """The small index, its second version in the cluster, the first on this machine."""
    shop.move()
    return shop


Run = Callable[[Shop, str], str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(shop: Shop, line: str) -> str:
        done = CliRunner(env=environment(shop)).invoke(app, shlex.split(line))
        if isinstance(done.exception, Exception):
            raise done.exception
        return done.stdout

    return run


def environment(shop: Shop) -> dict[str, str]:
    given = shop.settings.elasticsearch
    return {
        "SHELFWISE_ELASTICSEARCH__URL": shop.server.url,
        "SHELFWISE_ELASTICSEARCH__ALIAS": shop.alias,
        "SHELFWISE_ELASTICSEARCH__DEADLINE": str(given.deadline),
    }


def priced(products: Iterable[Product], price: float) -> list[Product]:
    first, *others = products
    return [dataclasses.replace(first, price=price), *others]


def everything(engine: SearchEngine) -> dict[str, Product]:
    return {hit.product.id: hit.product for hit in engine.search("", size=1_000).hits}


def ids(engine: SearchEngine, text: str, stage: str = "merged", filters: str = "") -> list[str]:
    page = engine.search(text, size=1_000, stage=stage, filters=filters)
    assert not page.degraded, engine.notices
    return [hit.product.id for hit in page.hits]


eventually = partial(within, 30)


class Killed(BaseException):
    """Simulates a kill: nothing cleans up after it."""


def killed_while_loading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes loads of an index stop halfway, until the returned function is called."""
    load = Cluster.load

    def ends(self: Cluster, index: str, documents: Iterable[Document]) -> Iterator[int]:
        yield from load(self, index, itertools.islice(documents, COUNT // 2))
        raise Killed

    monkeypatch.setattr(Cluster, "load", ends)
    return lambda: monkeypatch.setattr(Cluster, "load", load)


@contextlib.contextmanager
def watched(look: Callable[[], object]) -> Iterator[list[object]]:
    seen: list[object] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            seen.append(look())

    with ThreadPoolExecutor(1) as executor:
        watching = executor.submit(watch)
        try:
            yield seen
        finally:
            stop.set()
            watching.result()


class TestRebuild:
    def test_bulk_load_settings_are_reset_and_replicas_follow_settings(self, shop: Shop) -> None:
        kinds: tuple[tuple[str, dict[str, int]], ...] = ((V2, {}), (V3, {"replicas": 0, "shards": 2}))
        for version, more in kinds:
            shop.set(**more)
            shop.publish(priced(shop.products, len(version) + len(more)))
            index = shop.ask("GET", f"/{shop.index(version)}/_settings")[shop.index(version)]["settings"]["index"]
            assert "refresh_interval" not in index
            assert "translog" not in index
            assert index["number_of_shards"] == str(more.get("shards", 1))
            assert index.get("auto_expand_replicas") == (None if more else "0-1")
        assert index["number_of_replicas"] == "0"

    def test_unchanged_rebuild_publishes_nothing_and_alias_moves_atomically(
        self, empty: Shop, products: list[Product]
    ) -> None:
        report = empty.publish(products)
        assert (report.version, report.published, report.products) == (V1, True, COUNT)
        assert empty.meta(empty.index(V1))["whole"] is True
        with empty.open() as engine:
            assert engine.notices == ()
            assert set(ids(engine, "")) == {product.id for product in products}
        again = empty.publish(products)
        assert (again.version, again.published) == (V1, False)
        assert empty.indexes() == [empty.index(V1)]
        with watched(lambda: tuple(empty.named())) as seen:
            later = empty.publish(priced(products, 1.25))
        assert (later.version, later.published) == (V2, True)
        assert set(seen) <= {(empty.index(V1),), (empty.index(V2),)}
        assert empty.named() == [empty.index(V2)]
        assert empty.indexes() == [empty.index(V1), empty.index(V2)]

    def test_only_versions_beyond_the_limit_are_removed(self, served: Shop, products: list[Product]) -> None:
        others = [f"other-{served.alias}-1", f"{served.alias}-vault", f"{served.alias}-v1"]
        with removed(dataclasses.replace(served.settings.cluster, alias=f"other-{served.alias}")):
            for name in others:
                served.ask("PUT", f"/{name}/_doc/1", {"title": "not ours"})
            assert served.publish(priced(products, 1.25), keep=2).version == V3
            assert served.store.versions() == [V2, V3]
            assert set(served.indexes()) == {*others[1:], served.index(V2), served.index(V3)}
            served.publish(priced(products, 2.25), keep=1)
            assert set(served.indexes()) == {*others[1:], served.index("v000004")}
            for name in others:
                assert served.ask("GET", f"/{name}/_doc/1")["_source"] == {"title": "not ours"}

    def test_new_alias_replaces_the_old_one_and_its_versions(self, served: Shop, products: list[Product]) -> None:
        before = served.alias
        served.set(alias=f"{before}-b")
        served.publish(products, keep=2)
        assert served.named() == [served.index(V3)]
        assert [state.name for state in served.states_of(before)] == [f"{before}-{V2}"]
        served.publish(priced(products, 1.25), keep=1)
        assert [state.name for state in served.states_of(f"{before}*")] == [served.index("v000004")]


class TestRefused:
    @staticmethod
    def refused(shop: Shop) -> str:
        before = shop.indexes()
        held = shop.store.versions()
        options = RebuildOptions(("no-such-feed.jsonl",), shop.cache, encoder=ENCODER, cluster=shop.settings.cluster)
        with pytest.raises(ClusterRefusedError) as caught:
            rebuild(shop.root, options)
        assert shop.store.versions() == held
        assert shop.indexes() == before
        assert "elasticsearch.alias" in str(caught.value)
        return str(caught.value)

    def test_alias_of_another_store_is_refused(self, served: Shop, empty: Shop) -> None:
        empty.settings = served.settings
        result = self.refused(empty)
        assert f"the alias {served.alias} names {served.index(V2)}, which does not belong to {empty.root}" in result
        assert served.named() == [served.index(V2)]

    def test_index_with_the_alias_name_is_refused(self, empty: Shop) -> None:
        empty.ask("PUT", f"/{empty.alias}")
        try:
            assert f"there is an index {empty.alias}, which does not belong to {empty.root}" in self.refused(empty)
        finally:
            empty.ask("DELETE", f"/{empty.alias}")

    @pytest.mark.parametrize("version", [V1, V3])
    def test_foreign_index_with_our_name_is_refused(self, empty: Shop, version: str) -> None:
        empty.ask("PUT", f"/{empty.index(version)}/_doc/1", {"title": "not ours"})
        assert f"there is an index {empty.index(version)}, which does not belong to" in self.refused(empty)
        assert empty.ask("GET", f"/{empty.index(version)}/_doc/1")["_source"] == {"title": "not ours"}


def is_deleted(shop: Shop, name: str) -> None:
    shop.ask("DELETE", f"/{name}")


def is_half_loaded(shop: Shop, name: str) -> None:
    with contextlib.closing(Cluster(shop.settings.cluster)) as cluster:
        cluster.write(name, [(str(row), 1, None) for row in range(COUNT // 2, COUNT)])
    shop.ask("PUT", f"/{name}/_mapping", {"_meta": {**shop.meta(name), "whole": False}})


def is_older(shop: Shop, name: str) -> None:
    shop.ask("PUT", f"/{name}/_mapping", {"_meta": {**shop.meta(name), "schema": 0}})


def make_foreign(shop: Shop, name: str) -> None:
    shop.ask("PUT", f"/{name}/_mapping", {"_meta": {**shop.meta(name), "products": 7}})


class TestLostIndex:
    @pytest.mark.parametrize(
        ("lose", "message"),
        [
            (is_deleted, "the cluster has no index {name}"),
            (is_half_loaded, "index {name} is a different one: whole is False, not True"),
            (is_older, "index {name} is a different one: schema is 0, not 2"),
            (make_foreign, f"index {{name}} is a different one: products is 7, not {COUNT}"),
        ],
    )
    def test_lost_index_error_names_the_restore_command(
        self, served: Shop, run: Run, lose: Callable[[Shop, str], None], message: str
    ) -> None:
        name = served.index(V2)
        with served.open() as engine:
            before = [ids(engine, query) for query in QUERIES]
        lose(served, name)
        with pytest.raises(StoreDamagedError, match=message.format(name=re.escape(name))) as caught:
            served.open()
        command = re.search(r"shelfwise (rebuild .*)$", str(caught.value))
        assert command, caught.value
        run(served, command[1])
        assert served.store.versions() == [V1, V2]
        assert served.named() == [served.index(V2)]
        assert not served.move().restored
        with served.open() as engine:
            assert engine.notices == ()
            assert [ids(engine, query) for query in QUERIES] == before

    def test_engine_with_lost_index_refuses_changes_and_creates_no_index(
        self, served: Shop, products: list[Product]
    ) -> None:
        with served.open() as engine:
            is_deleted(served, served.index(V2))
            with pytest.raises((ClusterError, StoreDamagedError), match=served.index(V2)):
                engine.patch(products[0].id, price=1.25)
            assert Journal(served.root).last() == 0
            assert served.indexes() == []
            page = engine.search(QUERIES[0])
            assert page.degraded == ("bm25",)
            assert page.hits

    def test_restored_index_has_its_live_changes(self, served: Shop, products: list[Product]) -> None:
        with served.open() as engine:
            engine.patch(products[0].id, price=1.25)
            engine.upsert([KETTLE])
            engine.delete([products[1].id])
            is_deleted(served, served.index(V2))
            assert served.move().restored
            expected = {product.id for product in products[2:]} | {products[0].id, KETTLE.id}
            assert eventually(lambda: {hit.product.id for hit in engine.search("", size=1_000).hits} == expected)
            assert eventually(lambda: ids(engine, "", filters="price = 1.25") == [products[0].id])
            assert ids(engine, "zweeble", "bm25") == [KETTLE.id]


class TestPointer:
    def test_opening_an_engine_corrects_the_alias(
        self, served: Shop, products: list[Product], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ends(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Cluster, "point_alias", ends)
            served.publish(priced(products, 1.25))
        assert served.store.current() == V3
        wrongs: tuple[tuple[list[str], Callable[[], object]], ...] = (
            ([served.index(V2)], lambda: None),  # the state after a crash between the publish and the alias
            (
                [served.index(V2), served.index(V3)],
                lambda: served.ask("PUT", f"/{served.index(V2)}/_alias/{served.alias}"),
            ),
            ([], lambda: served.ask("DELETE", f"/{served.index(V3)}/_alias/{served.alias}")),
        )
        for named, harm in wrongs:
            harm()
            assert served.named() == named
            with served.open() as engine:
                assert (engine.manifest.version, engine.notices) == (V3, ())
                assert ids(engine, "", filters="price = 1.25") == [products[0].id]
            assert served.named() == [served.index(V3)]


class TestKilledLoad:
    def test_previous_version_serves_after_a_killed_load(
        self, served: Shop, products: list[Product], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with served.open() as engine:
            spared = killed_while_loading(monkeypatch)
            with pytest.raises(Killed):
                served.publish(priced(products, 1.25))
            assert served.store.current() == V2
            assert served.named() == [served.index(V2)]
            assert served.meta(served.index(V3))["whole"] is False
            assert set(ids(engine, "")) == {product.id for product in products}
            spared()
            assert served.publish(priced(products, 2.25), keep=1).version == V3
            assert served.indexes() == served.named() == [served.index(V3)]
            # Until it reloads, its own index may be missing, since only one version is kept.
            assert eventually(lambda: engine.manifest.version == V3)
            assert ids(engine, "", filters="price = 2.25") == [products[0].id]

    def test_previous_version_serves_after_a_killed_move(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        spared = killed_while_loading(monkeypatch)
        with pytest.raises(Killed):
            shop.move()
        assert shop.store.versions() == [V1]
        with SearchEngine.open(shop.root) as engine:
            assert len(ids(engine, "")) == COUNT
        spared()
        assert shop.move().published
        assert shop.indexes() == shop.named() == [shop.index(V2)]


def changed_before(engine: SearchEngine, products: list[Product]) -> None:
    engine.upsert([KETTLE])
    engine.delete([products[3].id])
    engine.patch(products[5].id, price=1.25)


def changed_after(engine: SearchEngine, products: list[Product]) -> None:
    engine.upsert([LADLE])
    engine.delete([products[4].id])
    engine.patch(products[6].id, price=2.25)
    engine.patch(KETTLE.id, price=3.25)


def answers(engine: SearchEngine) -> list[object]:
    """Results that do not depend on word statistics, which differ after live changes."""
    found: list[object] = [everything(engine)]
    for query in (*QUERIES, "zweeble", "quorble"):
        page = engine.search(query, size=1_000, facets=["brand", "price"])
        assert not page.degraded
        found += [sorted(hit.product.id for hit in page.hits), page.total, page.facets, ids(engine, query, "dense")]
    return [*found, *(sorted(ids(engine, "", filters=f"price = {price}")) for price in (1.25, 2.25, 3.25, 7, 49))]


class TestMoving:
    def test_moving_to_the_cluster_and_back_keeps_results(self, shop: Shop) -> None:
        orders = []
        for embedded in (None, False, True):
            if embedded is not None:
                assert shop.move(embedded=embedded).published
            with shop.open() as engine:
                orders.append([ids(engine, query, stage) for query in QUERIES for stage in ("bm25", "dense", "merged")])
            if embedded is False:
                assert shop.indexes() == [shop.index(V2)]
                assert shop.ask("GET", f"/{shop.index(V2)}/_count")["count"] == COUNT
        assert orders[0] == orders[1] == orders[2]
        assert shop.store.current() == V3

    @pytest.mark.parametrize("embedded", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_pending_updates_survive_a_rebuild_after_a_move(
        self, shop: Shop, built: Path, products: list[Product], tmp_path: Path, embedded: bool
    ) -> None:
        feed = priced(products, 5.5)
        feed[6] = dataclasses.replace(feed[6], price=6.5)
        folder = tmp_path / "twin"
        twin = Shop(Path(shutil.copytree(built, folder / "index")), shop.server, shop.settings, shop.cache)
        with twin.open() as engine:
            changed_before(engine, products)
            changed_after(engine, products)
        with shop.open() as engine:
            changed_before(engine, products)
        shop.move()
        with shop.open() as engine:
            changed_after(engine, products)
        shop.move(embedded=embedded)
        live = twin.publish(feed, embedded=True).live
        assert shop.publish(feed, embedded=embedded).live == live > 0
        with twin.open() as one, shop.open() as other:
            assert answers(one) == answers(other)
            assert everything(other)[products[5].id].price == 1.25
            assert everything(other)[products[6].id].price == 6.5


def test_other_encoder_reencodes_a_cluster_index(served: Shop, cache: Path) -> None:
    encoder = open_encoder(ENCODER, "onnx-fp32", cache)
    with served.open() as engine:
        engine.upsert([KETTLE])
        report = reencode(served.root, encoder, ENCODER, NullProgress(), cluster=served.settings.cluster)
        assert (report.version, report.published) == (V3, True)
    with served.open() as engine:
        assert engine.manifest.cluster is not None
        assert engine.manifest.encoder == encoder.identity
        assert ids(engine, QUERIES[0], "dense")
        assert ids(engine, "zweeble", "bm25") == [KETTLE.id]


class TestCommands:
    def test_rollback_refills_a_lost_index_and_keeps_the_newer_one(
        self, served: Shop, products: list[Product], run: Run
    ) -> None:
        with served.open() as engine:
            before = [ids(engine, query) for query in QUERIES]
            served.publish(priced(products, 1.25))
            assert eventually(lambda: engine.manifest.version == V3)
            is_deleted(served, served.index(V2))
            run(served, f"index rollback {served.root} {V2}")
            assert served.named() == [served.index(V2)]
            assert eventually(lambda: engine.manifest.version == V2)
            assert [ids(engine, query) for query in QUERIES] == before
            assert engine.notices == ()
        run(served, f"index rollback {served.root} {V3}")
        assert served.named() == [served.index(V3)]
        assert served.indexes() == [served.index(V2), served.index(V3)]

    def test_prune_removes_indexes_of_removed_versions(self, served: Shop, products: list[Product], run: Run) -> None:
        served.publish(priced(products, 1.25))
        held = served.indexes()
        run(served, f"index prune {served.root} --keep 1 --dry-run")
        assert served.indexes() == held
        run(served, f"index prune {served.root} --keep 1")
        assert served.store.versions() == [V3]
        assert served.indexes() == [index_name(served.store.manifest(V3))]
        assert served.named() == [served.index(V3)]


WORKER = """
import random, sys
from shelfwise.retrieval.records import Product
from shelfwise.service.engine.engine import SearchEngine
root, *ids = sys.argv[1:]
draw = random.Random(7)
with SearchEngine.open(root) as engine:
    print("open", flush=True)
    sys.stdin.readline()
    for turn in range(25):
        engine.patch(draw.choice(ids), price=float(draw.randrange(1, 9)))
        if turn % 5 == 0:
            engine.upsert([Product(f"process-{turn}", f"plonker {turn}", price=turn + 0.5)])
"""


class TestManyEngines:
    def test_older_engine_does_not_find_deleted_products(self, served: Shop, products: list[Product]) -> None:
        everywhere = Selection((), everything=True)
        with served.open() as engine:
            row = row_of(engine.snapshot, products[1].id)
            engine.delete([products[1].id])
            older = engine.snapshot.keyword
            engine.upsert([products[1]])
            assert row not in older.select(everywhere)
            assert row in engine.snapshot.keyword.select(everywhere)
            assert len(ids(engine, "")) == COUNT

    @pytest.mark.slow
    def test_concurrent_changes_converge(self, served: Shop, products: list[Product]) -> None:
        changed = [product.id for product in products[:8]]

        def work(number: int, engine: SearchEngine) -> None:
            draw = random.Random(number)
            for turn in range(15):
                engine.patch(draw.choice(changed), price=float(draw.randrange(1, 9)))
                if turn % 5 == 0:
                    engine.upsert([Product(f"thread-{number}-{turn}", f"plonker {number}", price=number + 0.25)])
                    engine.delete([f"thread-{number}-{turn - 5}"])

        command = [sys.executable, "-c", WORKER, str(served.root), *changed]
        with (
            subprocess.Popen(  # noqa: S603
                command,
                env={**os.environ, **environment(served), "PYTHONPATH": str(Path(__file__).parents[2])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as process,
            served.open() as one,
            served.open() as other,
            ThreadPoolExecutor(4) as executor,
        ):
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            works = [executor.submit(work, number, (one, other)[number % 2]) for number in range(4)]
            process.communicate("go\n", timeout=120)
            for each in works:
                each.result()
            assert process.returncode == 0
            assert eventually(lambda: everything(one) == everything(other))
            self.check_agreement(served, one, other)

    @staticmethod
    def check_agreement(shop: Shop, one: SearchEngine, other: SearchEngine) -> None:
        found = everything(one)
        added = sorted(key for key in found if key.startswith(("thread-", "process-")))
        assert len(added) == 4 + 5
        assert [row_of(one.snapshot, key) for key in found] == [row_of(other.snapshot, key) for key in found]
        assert len({row_of(one.snapshot, key) for key in found}) == len(found)
        for price in {product.price for product in found.values() if product.price is not None}:
            wanted = {key for key, product in found.items() if product.price == price}
            for engine in (one, other):
                assert set(ids(engine, "", filters=f"price = {price}")) == wanted
        search = {"size": 1_000, "_source": ["product.id", "product.price", "row"], "query": {"match_all": {}}}
        hits = shop.ask("POST", f"/{shop.index(V2)}/_search", search)["hits"]["hits"]
        there = {hit["_source"]["product"]["id"]: hit["_source"] for hit in hits}
        assert {key: source["product"].get("price") for key, source in there.items()} == {
            key: product.price for key, product in found.items()
        }
        assert {key: source["row"] for key, source in there.items()} == {
            key: row_of(one.snapshot, key) for key in found
        }
        with shop.open() as later:
            assert everything(later) == found


@pytest.fixture
def made(cluster: Cluster) -> Iterator[tuple[str, list[str]]]:
    """An unused alias, and indexes that it can refer to."""
    alias = f"{cluster.settings.alias}-{uuid4().hex}"
    names = [f"{alias}-{number:02}" for number in range(12)]
    for name in names:
        cluster.create(name, {"number_of_replicas": 0}, {})
    yield alias, names
    cluster.delete(names)


def test_concurrent_alias_moves_end_with_one_index(cluster: Cluster, made: tuple[str, list[str]]) -> None:
    """Regression: one call failed because the index from which the alias was to be removed did not have it any more."""
    alias, names = made
    with ThreadPoolExecutor(4) as executor:
        for _ in range(10):
            list(executor.map(cluster.point_alias, [alias] * 4, names))
            assert len(cluster.states(alias)) >= 1
    cluster.point_alias(alias, names[0])
    assert [state.name for state in cluster.states(alias)] == [names[0]]
