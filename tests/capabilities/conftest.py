"""One demo store that all capabilities share, and its service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from shelfwise.service.app import create_app
from shelfwise.service.curation.switches import SwitchedPart
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings, Settings
from tests.services import local_client

SECRET = "hush"


@pytest.fixture(scope="session")
def store(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    """An engine of a copy of the demo store; a test undoes what it changes."""
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("capabilities") / "store"))
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as opened:
        opened.switches.put(SwitchedPart.SPONSORED, on=True)
        yield opened


@pytest.fixture(scope="session")
def client(store: SearchEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The owner's client of the store's service."""
    feeds = tmp_path_factory.mktemp("feeds")
    settings = ServiceSettings(feeds=feeds, shopify_secret=SecretStr(SECRET), deadline=300)
    with local_client(create_app(store, settings)) as calling:
        yield calling
