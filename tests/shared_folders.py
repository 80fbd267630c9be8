"""Folders that all processes of a parallel run share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """One folder of this name for the whole run."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    return folder


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """A folder of this name that the first process of the run fills; nobody may change it."""
    folder = shared_folder(factory, name)
    done = folder / ".done"
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            build(folder)
            done.touch()
    return folder
