"""Settings, hooks and fixtures of all tests."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, settings

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.encoders import onnx, tokenizer, weights
from shelfwise.retrieval.encoders.folder import folder_fingerprint
from shelfwise.retrieval.records import Product
from shelfwise.service.demo import DemoFiles, write_demo_store
from shelfwise.service.engine import served_models
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.reranking import Reranker
from shelfwise.service.settings import RankerSettings
from tests.catalogs import write_feed
from tests.machine import build_once
from tests.servers.configuration import Options
from tests.servers.distribution import VERSION_9
from tests.servers.server import Server
from tests.servers.shared import SharedServers
from tests.servers.skips import get_or_skip

# Examples are the same on every machine, so failures in CI can be reproduced.
for profile, examples in {"shelfwise": 12, "thorough": 100}.items():
    settings.register_profile(
        profile,
        deadline=None,
        derandomize=True,
        max_examples=examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
settings.load_profile("shelfwise")

T = TypeVar("T")

_LARGE = 500_000
"""Minimum size in bytes of the files of a real encoder."""


def cached_by_file(open_file: Callable[..., T]) -> Callable[..., T]:
    """Caches opened large files per process: hundreds of tests open an engine with the same encoder."""
    opened: dict[object, T] = {}

    def open_or_share(path: Path, *more: object) -> T:
        found = [each.stat() for each in (path, path.with_name(onnx.WEIGHTS_FILE)) if path.is_file() and each.is_file()]
        if sum(each.st_size for each in found) < _LARGE:
            return open_file(path, *more)
        key = (*((each.st_size, each.st_mtime_ns) for each in found), *more)
        if key not in opened:
            opened[key] = open_file(path, *more)
        return opened[key]

    return open_or_share


def cached_by_key(make: Callable[[T], str], key: Callable[[T], object]) -> Callable[[T], str]:
    """Caches the texts that `make` returns by their key, per process."""
    made: dict[object, str] = {}

    def make_or_share(value: T) -> str:
        known = key(value)
        if known not in made:
            made[known] = make(value)
        return made[known]

    return make_or_share


def folder_key(folder: Path) -> object:
    """A cache key that changes with the files of a folder."""
    return frozenset((path, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))


_PATCHES = pytest.MonkeyPatch()
_PATCHES.setattr(weights, "folder_fingerprint", cached_by_key(folder_fingerprint, folder_key))
_PATCHES.setattr(onnx, "open_session", cached_by_file(onnx.open_session))
_PATCHES.setattr(tokenizer, "open_tokenizer", cached_by_file(tokenizer.open_tokenizer))
# Written data survives a kill of the process, and no test simulates a power failure.
_PATCHES.setattr(os, "fsync", lambda _descriptor: None)
# A busy machine sometimes misses the default deadline of a ranker; deadlines set by a test stay.
_DEADLINE = RankerSettings().deadline
_PATCHES.setattr(
    served_models, "Reranker", lambda ranker, deadline: Reranker(ranker, 60 if deadline == _DEADLINE else deadline)
)

# No test connects to a model hub, even if pytest is called without make.
os.environ["HF_HUB_OFFLINE"] = "1"

ENCODER = "all-MiniLM-L6-v2"

SERVERS = pytest.StashKey[SharedServers]()


class Worker(Protocol):
    """A worker of pytest-xdist in the process that starts it; pytest-xdist has no type annotations."""

    config: pytest.Config
    workerinput: dict[str, object]


def pytest_configure(config: pytest.Config) -> None:
    """The main process owns the servers of the run; workers of pytest-xdist get their folder."""
    worker_input = getattr(config, "workerinput", None)
    if worker_input is None:
        config.stash[SERVERS] = SharedServers(Path(tempfile.mkdtemp(prefix="shelfwise-servers-")), os.getpid())
    else:
        config.stash[SERVERS] = SharedServers(Path(worker_input["servers_folder"]), worker_input["servers_owner"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Worker) -> None:
    servers = node.config.stash[SERVERS]
    node.workerinput |= {"servers_folder": str(servers.folder), "servers_owner": servers.owner}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exempts the imported modules from garbage collection, and makes collections rare."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    if "torch" in sys.modules:
        import torch

        from shelfwise.retrieval.encoders import torch as torch_encoder
        from tests.exports import projected_once, traced_once, traces_folder

        assert session.config.cache is not None
        traces = traces_folder(Path(session.config.cache.mkdir("shelfwise")))
        _PATCHES.setattr(torch.onnx, "export", traced_once(torch.onnx.export, traces))
        _PATCHES.setattr(torch_encoder, "token_projection", projected_once(torch_encoder.token_projection, traces))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, as many tests wait for a server or a browser."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_unconfigure(config: pytest.Config) -> None:
    gc.unfreeze()
    servers = config.stash.get(SERVERS, None)
    if servers is not None and servers.owner == os.getpid():
        servers.stop()
        shutil.rmtree(servers.folder)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Trains on one thread, as threads wait for each other in small networks, and without the garbage collection before
    each part, which frees GPU memory and takes longer than the part."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr("accelerate.utils.memory.clear_device_cache", lambda **_: None)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cache(pytestconfig: pytest.Config) -> Path:
    """The folder of exported encoders, reused by later runs: an export takes longer than most tests."""
    cache = pytestconfig.cache
    assert cache is not None
    return Path(cache.mkdir("shelfwise"))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """A demo store of 600 products."""

    def build(folder: Path) -> None:
        written = write_demo_store(folder, products=600, sessions=0)
        (folder / "files.json").write_bytes(msgspec.json.encode(written, enc_hook=str))

    folder = build_once(tmp_path_factory, "demo", build)
    return msgspec.json.decode(
        (folder / "files.json").read_bytes(), type=DemoFiles, dec_hook=lambda kind, text: kind(text)
    )


@pytest.fixture(scope="session")
def demo_index(demo: DemoFiles, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo store's index, read-only: a test that changes it makes a copy."""
    options = RebuildOptions((str(demo.products),), cache, encoder=ENCODER, synonyms=demo.synonyms)
    built = build_once(tmp_path_factory, "demo-index", lambda folder: rebuild(folder / "index", options))
    # A copy, as services write events and metrics into the folder of an index.
    return Path(shutil.copytree(built / "index", tmp_path_factory.mktemp("index") / "index"))


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    """A copy of the demo index that a test may change."""
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture(scope="session")
def engine(demo_index: Path) -> Iterator[SearchEngine]:
    """An engine of the demo store."""
    with SearchEngine.open(demo_index) as opened:
        yield opened


@pytest.fixture(scope="session")
def build_index(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds an index of products with options of a rebuild."""

    def build(products: Iterable[Product], **options: Any) -> Path:  # noqa: ANN401 - those of RebuildOptions
        folder = tmp_path_factory.mktemp("built")
        feed = write_feed(folder / "products.jsonl", products)
        rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER, **options))
        return folder / "index"

    return build


@pytest.fixture
def without_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the shipped ranker, as for an encoder without one."""
    monkeypatch.setattr("shelfwise.rerank.ranker.spec.shipped_ranker", lambda _encoding: None)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> SharedServers:
    """The servers that all processes of this run share; each test gives its indexes unique names."""
    return pytestconfig.stash[SERVERS]


@pytest.fixture(scope="session")
def elasticsearch(servers: SharedServers) -> Server:
    """Elasticsearch 8 without security."""
    return get_or_skip(servers, "elasticsearch", Options())


@pytest.fixture(scope="session")
def elasticsearch_9(servers: SharedServers) -> Server:
    """Elasticsearch 9 without security; skipped if Java 21 is missing."""
    return get_or_skip(servers, "elasticsearch-9", Options(version=VERSION_9))


@pytest.fixture(scope="session")
def secured_elasticsearch(servers: SharedServers) -> Server:
    """Elasticsearch 8 with TLS and passwords: `owner` has all rights, `reader` may only search."""
    return get_or_skip(servers, "secured-elasticsearch", Options(secured=True))


@pytest.fixture(scope="session")
def cluster(elasticsearch: Server) -> Iterator[Cluster]:
    """A client of the shared server with an unused alias."""
    settings = ClusterSettings((elasticsearch.url,), alias=f"test-{uuid4().hex[:12]}", deadline=20.0)
    with contextlib.closing(Cluster(settings)) as opened:
        yield opened
