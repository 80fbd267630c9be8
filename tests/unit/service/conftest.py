"""Fixtures of the HTTP application on a copy of the demo store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from shelfwise.service.engine.engine import SearchEngine
    from shelfwise.service.http.auth import KeyFile


@pytest.fixture(scope="module")
def store(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    """An engine of a copy that the tests of one file may change."""
    from shelfwise.service.engine.engine import SearchEngine
    from shelfwise.service.settings import Settings

    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("http") / "store"))
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as engine:
        yield engine


@pytest.fixture
def live(root: Path) -> Iterator[SearchEngine]:
    """An engine of `root` that follows changes."""
    from shelfwise.service.engine.engine import SearchEngine

    with SearchEngine.open(root) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(store: SearchEngine) -> Iterator[TestClient]:
    """The owner's client, which needs no key."""
    from shelfwise.service.app import create_app
    from shelfwise.service.settings import ServiceSettings
    from tests.services import local_client

    with local_client(create_app(store, ServiceSettings())) as calling:
        yield calling


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """An empty key file."""
    from shelfwise.service.http.auth import KEYS_FILE, KeyFile

    return KeyFile(tmp_path / KEYS_FILE)
