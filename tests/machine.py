"""Conditions to wait for, full disks, memory limits, forked processes, and folders that all processes share."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from filelock import FileLock


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether a condition becomes true within so many seconds; it is polled."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def full_disk(room: int = 0) -> Iterator[None]:
    """Makes every write fail that would extend a file beyond `room` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_memory(patches: pytest.MonkeyPatch, folder: Path, limit: str) -> None:
    """Makes the program read `limit` from the files of its control groups, which are in a folder."""
    (folder / "limit").write_text(f"{limit}\n")
    patches.setattr("shelfwise.retrieval.memory._CONTROL_GROUPS", dict.fromkeys(("", "memory"), (folder, "limit")))


# Preloaded only before the first fork of a test process, so every test names the same modules.
_IMPORTED = (
    "onnx",
    "shelfwise.retrieval.encoders.onnx",
    "shelfwise.retrieval.events.sqlite",
    "tests.integration.test_kill",
    "tests.integration.test_ranker_kill",
    "tests.integration.test_rules_kill",
    "zstandard",
)


def fork_context() -> ForkServerContext:
    """The context from which processes that tests kill are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of this name that all processes of the run share."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    return folder


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """A folder of this name, filled by the first process of the run that needs it; read-only for tests."""
    folder = shared_folder(factory, name)
    done = folder / ".done"
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            build(folder)
            done.touch()
    return folder
