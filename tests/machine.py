"""Processes that are waited for, forked or killed, a disk that is full, folders that all processes of a run share."""

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
    """Whether something comes to hold in so many seconds; it is looked at again and again."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def full_disk(room: int = 0) -> Iterator[None]:
    """Lets every write fail that would make a file longer than `room` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_memory(patches: pytest.MonkeyPatch, folder: Path, limit: str) -> None:
    """Lets the program read `limit` in the files of its control groups, which are in a folder."""
    (folder / "limit").write_text(f"{limit}\n")
    patches.setattr("retrieval.memory._CONTROL_GROUPS", dict.fromkeys(("", "memory"), (folder, "limit")))


# Imported before the first fork of a test process and never again, so every test names the same.
_IMPORTED = (
    "onnx",
    "retrieval.encoders.onnx",
    "retrieval.events.sqlite",
    "tests.integration.test_kill",
    "tests.integration.test_ranker_kill",
    "tests.integration.test_rules_kill",
    "zstandard",
)


def fork_context() -> ForkServerContext:
    """Where processes that are to be killed come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """One folder of this name for the whole run."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    return folder


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """A folder of this name that the first process of the run fills; it must not be changed."""
    folder = shared_folder(factory, name)
    done = folder / ".done"
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            build(folder)
            done.touch()
    return folder
