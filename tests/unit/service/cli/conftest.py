"""A wide terminal for the tests of commands, and a copy of the demo index."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.console import Console


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by COLUMNS: whether an existing console obeys it depends on the terminal of its creation.
    monkeypatch.setattr("shelfwise.service.cli.output.out", Console(width=200))


@pytest.fixture
def index(demo_index: Path, tmp_path: Path) -> Path:
    """A copy of the demo index that a test may change."""
    return Path(shutil.copytree(demo_index, tmp_path / "index"))
