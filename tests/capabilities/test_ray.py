"""Rebuilds on a real Ray cluster of two nodes, each of several processes, started once for this module."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shelfwise.indexer.embedding
import shelfwise.indexer.pipeline
import shelfwise.indexer.ray_workers
from shelfwise.indexer.build import RebuildOptions, RebuildReport, rebuild
from shelfwise.indexer.ray_workers import RayWorkers, Shard
from shelfwise.indexer.workers import Workers
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.errors import RowError, StoreDamagedError, WorkerError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import read_seal
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.engine import SearchEngine
from tests.catalogs import write_feed
from tests.clusters import ids, is_whole, removed, settings_for
from tests.conftest import ENCODER
from tests.servers.server import Server

pytestmark = pytest.mark.slow

BATCHES = [[number] for number in range(12)]
PRODUCTS = [Product(f"p{place:03}", f"cordless drill {place} volt") for place in range(180)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster whose first node has no processors for workers."""
    shelfwise.indexer.ray_workers._import_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def workers(nodes: Any, tmp_path: Path) -> Iterator[Workers]:  # noqa: ANN401
    with RayWorkers(nodes.address, None, tmp_path / "shards") as pool:
        yield pool


@dataclass(frozen=True)
class Counted:
    """Counts the runs of each batch in a folder. The process kills itself at batch 7, the first `kills` times."""

    folder: Path
    kills: int = 0

    def __call__(self, batch: Sequence[int]) -> int:
        (number,) = batch
        runs = len(list(self.folder.glob(f"{number}-*")))
        (self.folder / f"{number}-{runs}").touch()
        if number == 7 and runs < self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number

    def runs(self) -> dict[int, int]:
        return {number: len(list(self.folder.glob(f"{number}-*"))) for (number,) in BATCHES}


@dataclass(frozen=True)
class BrokenSource:
    def __iter__(self) -> Iterator[list[int]]:
        yield from BATCHES
        raise RowError("the source", "breaks off")


def test_results_are_in_order_and_errors_keep_their_type(workers: Workers, tmp_path: Path) -> None:
    work, found = Counted(tmp_path), list[int]()
    with pytest.raises(RowError, match="the source: breaks off"):
        found.extend(workers.map_sources(work, [BATCHES, BATCHES[:3], BrokenSource()]))
    assert found == [2 * number for number in (*range(12), *range(3), *range(12))]
    with pytest.raises(ZeroDivisionError):
        list(workers.map(lambda batch: 1 // batch[0], BATCHES))


def test_killed_worker_costs_only_its_batches(workers: Workers, tmp_path: Path) -> None:
    work = Counted(tmp_path, kills=1)
    assert list(workers.map(work, BATCHES)) == [2 * number for (number,) in BATCHES]
    runs = work.runs()
    assert runs[7] == 2
    # Batches that were sent to the killed worker may have run there or not.
    assert sum(runs.values()) <= len(BATCHES) + 4


def test_worker_that_is_always_killed_is_an_error(workers: Workers, tmp_path: Path) -> None:
    work = Counted(tmp_path, kills=1_000)
    with pytest.raises(WorkerError, match=r"ended 4 times at one batch of Counted; nothing was published"):
        list(workers.map(work, BATCHES))
    assert work.runs()[7] == shelfwise.indexer.ray_workers.TRIES


class Shop:
    """Indexes of one feed, built on the cluster and without it."""

    def __init__(self, folder: Path, cache: Path, address: str) -> None:
        self.folder = folder
        self.cache = cache
        self.address = address
        self.feeds = [str(write_feed(folder / f"{part}.jsonl", PRODUCTS[part::2])) for part in (0, 1)]

    def rebuild(
        self, name: str, ray: str = "", progress: NullProgress | None = None, cluster: ClusterSettings | None = None
    ) -> RebuildReport:
        options = RebuildOptions(
            tuple(self.feeds),
            self.cache,
            encoder=ENCODER,
            runtime="onnx-int8",
            workers=1 if not ray else None,
            ray=ray,
            cluster=cluster,
        )
        return rebuild(self.folder / name, options, progress)

    def fingerprints(self, name: str) -> tuple[str, dict[str, str]]:
        """The fingerprints of the catalog and of all files except those with random names or times."""
        store = Store(self.folder / name)
        manifest, _ = store.serving()
        changing = ("manifest.json", "keyword/", "quality.", "inspection/facts.json")
        return manifest.catalog, {
            path: entry.xxh3
            for path, entry in read_seal(store.version_folder(manifest.version)).items()
            if "keyword/lines" in path or not any(each in path for each in changing)
        }


@pytest.fixture
def shop(nodes: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:  # noqa: ANN401
    for module, name, size in ((shelfwise.indexer.pipeline, "ROWS", 20), (shelfwise.indexer.pipeline, "PRODUCTS", 40)):
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr(shelfwise.indexer.embedding, "CHUNK", 4)
    return Shop(tmp_path, cache, nodes.address)


class ActingProgress(NullProgress):
    """Calls `action` when the first chunk is encoded."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.phase = ""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        self.phase = phase

    def advance(self, amount: int) -> None:
        if self.phase == "encode":
            self.phase = ""
            self.action()


def kill_worker(node: Any) -> None:  # noqa: ANN401
    """Kills one worker process of a node, a child of its raylet."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = [
        pid for task in Path(f"/proc/{raylet}/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    workers = [int(pid) for pid in children if b"ray::MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)


def test_ray(shop: Shop, nodes: Any) -> None:  # noqa: ANN401
    (node,) = nodes.worker_nodes
    local = shop.rebuild("local")
    remote = shop.rebuild("remote", shop.address, ActingProgress(lambda: kill_worker(node)))
    assert shop.fingerprints("remote") == shop.fingerprints("local")
    assert (remote.read, remote.encoded, remote.cleaned) == (local.read, local.encoded, local.cleaned)
    again = shop.rebuild("remote", shop.address)
    assert not again.published


@pytest.mark.elasticsearch
def test_shards_are_loaded_into_elasticsearch(shop: Shop, elasticsearch: Server) -> None:
    settings = settings_for(elasticsearch)
    with removed(settings.cluster):
        assert shop.rebuild("remote", shop.address, cluster=settings.cluster).published
        shop.rebuild("local")
        (catalog, local), (remote_catalog, remote) = shop.fingerprints("local"), shop.fingerprints("remote")
        assert remote_catalog == catalog
        # The facts of an inspection contain its time.
        assert [path for path in remote if "facts" not in path and remote[path] != local.get(path)] == []
        with (
            SearchEngine.open(shop.folder / "local") as embedded,
            SearchEngine.open(shop.folder / "remote", settings=settings) as clustered,
        ):
            for query in ("cordless drill", "drill 17 volt", "p003"):
                assert is_whole(clustered)
                assert ids(clustered.search(query)) == ids(embedded.search(query))


def test_lost_shard_is_an_error_and_encoded_texts_are_reused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Shard.read
    chunks: list[Path] = []

    def lose_fourth(shard: Shard) -> object:
        content = read(shard)
        if isinstance(content, tuple) and isinstance(content[0], np.ndarray):
            chunks.append(shard.path)
            if len(chunks) == 4:
                shard.path.unlink()
                return read(shard)
        return content

    monkeypatch.setattr(Shard, "read", lose_fourth)
    with pytest.raises(StoreDamagedError, match=r"shard .*result-.* cannot be read .* nothing was published"):
        shop.rebuild("remote", shop.address)
    assert not (shop.folder / "remote" / "CURRENT").exists()
    assert shop.rebuild("remote").encoded == len(PRODUCTS) - 3 * shelfwise.indexer.embedding.CHUNK


def test_cluster_without_a_machine_is_an_error_and_what_serves_stays(
    shop: Shop,
    nodes: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop.rebuild("local")
    serving = shop.fingerprints("local")
    (node,) = nodes.worker_nodes
    write_feed(Path(shop.feeds[0]), (replace(each, title=f"{each.title} red") for each in PRODUCTS[::2]))
    monkeypatch.setattr(shelfwise.indexer.ray_workers, "LOST_AFTER", 90.0)
    with pytest.raises(WorkerError, match=r"are lost .* run the command again"):
        shop.rebuild("local", shop.address, ActingProgress(lambda: nodes.remove_node(node)))
    assert shop.fingerprints("local") == serving
    report = shop.rebuild("local")
    assert report.published
    assert 0 < report.encoded < len(PRODUCTS) // 2
