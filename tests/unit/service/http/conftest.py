"""The HTTP application over a copy of the demo store, called as a client calls it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.engine.engine import SearchEngine
from service.http.app import create_app
from service.http.auth import KEYS_FILE, KeyFile
from service.settings import ServiceSettings, Settings

LOCAL = "http://localhost"


@pytest.fixture(scope="module")
def store(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    """A copy that tests of one file may change."""
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("http") / "store"))
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as engine:
        yield engine


@pytest.fixture(scope="module")
def client(store: SearchEngine) -> Iterator[TestClient]:
    """A caller on the same machine, where there is no key."""
    with TestClient(
        create_app(store, ServiceSettings()), LOCAL, client=("127.0.0.1", 50_000), raise_server_exceptions=False
    ) as calling:
        yield calling


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """A file of keys without any."""
    return KeyFile(tmp_path / KEYS_FILE)
