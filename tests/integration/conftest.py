"""Fixtures of the integration tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.settings import EventsSettings, Settings
from shelfwise.service.training.derived_tables import DerivedTablesManager
from tests.learning_stores import with_events
from tests.machine import build_once

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser per module; its visitors share no state."""
    from tests.browsers import opened_browser

    with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def store(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    """An engine of a copy of the demo index that the tests of one file may change."""
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("page") / "store"))
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as engine:
        yield engine


@pytest.fixture(scope="module")
def address(store: SearchEngine) -> Iterator[str]:
    """The address of a service of `store`."""
    from tests.browsers import served

    with served(store) as url:
        yield url


@pytest.fixture(scope="session")
def related_store(eventful_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of `eventful_store` with derived tables, and so with relations, for which two shoppers are enough;
    read-only: a test that changes it makes a copy."""

    def build(folder: Path) -> None:
        root = Path(shutil.copytree(eventful_store, folder / "store"))
        settings = Settings(backend="embedded", events=EventsSettings(minimum_shoppers=2))
        with EventLog.open(root, settings) as log:
            DerivedTablesManager(root, log, settings.events).refresh()

    return build_once(tmp_path_factory, "related", build) / "store"


@pytest.fixture(scope="session")
def eventful_store(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo index with the events of 1,000 sessions, read-only: a test that changes it makes a copy."""

    def build(folder: Path) -> None:
        with_events(demo_index, folder, sessions=1_000)

    return build_once(tmp_path_factory, "eventful", build) / "store"
