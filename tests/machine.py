"""Conditions to wait for, full disks, memory limits, forked processes, and folders that all processes share."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

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
    "shelfwise.indexer.quality.rules",
    "shelfwise.retrieval.encoders.onnx",
    "shelfwise.retrieval.events.sqlite",
    "shelfwise.retrieval.index.faiss",
    "shelfwise.retrieval.index.tantivy",
    "tests.faults.processes",
    "tests.faults.test_event_kill",
    "tests.integration.test_kill",
    "zstandard",
)


def fork_context() -> ForkServerContext:
    """The context from which processes that tests kill are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context


def die_at(fatal_step: int, *, opens: bool = False) -> None:
    """Kills this process at a change to a folder, from 1; `opens` counts also files that are opened for writing.
    Successive removals count as one step; otherwise they would be half of all steps."""
    step, last = 0, ""

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal step, last
        is_writing = opens and event == "open" and isinstance(arguments[1], str) and arguments[1][:1] in ("w", "x")
        if is_writing or event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}:
            step += (event, last) != ("os.remove", "os.remove")
            last = event
            if step == fatal_step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def killed_writers(
    write: Callable[[Path, str, Connection], None], folder: Path, rounds: int, seed: int, seconds: float = 0.06
) -> Iterator[list[list[Any]]]:
    """What two processes of `write(folder, name, channel)` sent before they were killed, once a round.

    A round ends at a random time of at most `seconds` after both sent something, as a kill before that proves nothing.
    Raises AssertionError if a process ends by itself.
    """
    context, dice = fork_context(), random.Random(seed)
    for attempt in range(rounds):
        pairs = [context.Pipe(duplex=False) for _ in range(2)]
        writers = [
            context.Process(target=write, args=(folder, f"{attempt}-{number}", channel))
            for number, (_, channel) in enumerate(pairs)
        ]
        for writer, (_, channel) in zip(writers, pairs, strict=True):
            writer.start()
            channel.close()
        for listener, _ in pairs:
            listener.poll(60)
        time.sleep(dice.uniform(0, seconds))
        for writer in writers:
            writer.kill()
            writer.join()
        received = [_received(listener) for listener, _ in pairs]
        exits = [writer.exitcode for writer in writers]
        assert all(received), f"a writer sent nothing; exit codes: {exits}"
        assert exits == [-signal.SIGKILL] * len(writers), f"a writer was not killed; exit codes: {exits}"
        yield received


def _received(listener: Connection) -> list[Any]:
    messages = []
    try:
        while listener.poll(0):
            messages.append(listener.recv())
    except (EOFError, OSError):
        pass
    return messages


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
