"""Fixtures that integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.learning_stores import with_events
from tests.machine import build_once

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; a module has one, whose visitors know nothing of each other."""
    from tests.browsers import opened_browser

    with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def eventful_store(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo index with the events of 1,000 sessions; a test that changes it copies it first."""

    def build(folder: Path) -> None:
        with_events(demo_index, folder, sessions=1_000)

    return build_once(tmp_path_factory, "eventful", build) / "store"
