"""Processes that do a piece of work and are killed in it, by the clock or at a step, or find the disk full.

They are forked from a process that has everything imported and no threads, so that one starts in milliseconds.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from benchmarks.faults.work import Work, do

_LOADED_EARLY = (
    "indexer.quality.page",
    "indexer.quality.rules",
    "pointblank",
    "matplotlib.figure",
    "retrieval.encoder_onnx",
    "retrieval.keyword_tantivy",
    "retrieval.vectors_faiss",
)
_STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
_LONGEST_SECONDS = 60
_NEVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Hurt:
    """How a process is hurt: killed after so many seconds, or at a step, from 1 on; or the disk is full from a step on.

    `room` is how long a file may still become once the disk is full.
    """

    seconds: float = _LONGEST_SECONDS
    fatal_step: int = _NEVER
    full_step: int = _NEVER
    room: int = 0

    def __str__(self) -> str:
        if self.fatal_step < _NEVER:
            return f"killed at step {self.fatal_step}"
        if self.full_step < _NEVER:
            return f"full from step {self.full_step}, with room for files of {self.room} bytes"
        return f"killed after {self.seconds * 1_000:.1f} ms"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: what it told, its exit code (0 where its work was done), its error, what it took."""

    told: tuple[tuple[str, int], ...]
    exit_code: int
    error: str
    seconds: float
    steps: int

    @property
    def hung(self) -> bool:
        """Whether it had to be killed although it was not meant to be."""
        return self.seconds >= _LONGEST_SECONDS


class Processes:
    """Does work in processes of its own, one at a time."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._link, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs,))
        self._process.start()
        theirs.close()

    def run(self, work: Work, hurt: Hurt) -> Ended:
        """Does the work, hurt like this, and says how it ended."""
        self._link.send((work, hurt))
        ended: Ended = self._link.recv()
        return ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.close()
        self._process.join()


def _serve(link: Connection) -> None:
    for name in _LOADED_EARLY:
        importlib.import_module(name)
    while True:
        try:
            work, hurt = link.recv()
        except EOFError:
            return
        link.send(_ended(work, hurt))


def _ended(work: Work, hurt: Hurt) -> Ended:
    forks = multiprocessing.get_context("fork")
    listener, teller = forks.Pipe(duplex=False)
    process = forks.Process(target=_work, args=(work, hurt, teller))
    started = time.monotonic()
    process.start()
    teller.close()
    told: list[tuple[str, Any]] = []
    is_over = _heard(listener, told, hurt.seconds)
    seconds = time.monotonic() - started
    if not is_over:
        process.kill()
    process.join()
    _heard(listener, told, 0)
    known = dict(told)
    calls = tuple(each for each in told if each[0] in ("begun", "taken", "refused"))
    return Ended(calls, process.exitcode or 0, known.get("error", ""), seconds, known.get("steps", 0))


def _heard(listener: Connection, told: list[tuple[str, Any]], seconds: float) -> bool:
    """Takes what a process tells in so many seconds; whether it came to its end."""
    until = time.monotonic() + seconds
    try:
        while listener.poll(max(0.0, until - time.monotonic())):
            told.append(listener.recv())
    except (EOFError, OSError):
        return True
    return False


def _work(work: Work, hurt: Hurt, teller: Connection) -> None:
    steps = _Steps(hurt)
    steps.watch()
    try:
        do(work, teller.send)
    except BaseException as error:
        steps.end()
        teller.send(("error", f"{type(error).__module__}.{type(error).__name__}: {error}"))
        raise SystemExit(1) from None
    finally:
        steps.end()
        teller.send(("steps", steps.count))


class _Steps:
    """Counts what a process does to files, and does at a step what is due there."""

    def __init__(self, hurt: Hurt) -> None:
        self.count = 0
        self._hurt = hurt
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def watch(self) -> None:
        """From now on every change to a file or a folder is a step."""
        sys.addaudithook(self._look)
        for name in ("fsync", "ftruncate"):
            setattr(os, name, self._counted(getattr(os, name)))
        os.pwrite = self._torn(os.pwrite)

    def end(self) -> None:
        """No step hurts any more."""
        self._hurt = Hurt()
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def _look(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _STEPS or (event == "open" and _writes(arguments)):
            self._step()

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: object) -> object:
            self._step()
            return call(*arguments)

        return counted

    def _torn(self, call: Callable[[int, Any, int], int]) -> Callable[[int, Any, int], int]:
        """A write of which only the first half is done where it is the fatal step."""

        def torn(file: int, content: bytes, offset: int) -> int:
            if self.count + 1 == self._hurt.fatal_step:
                call(file, content[: len(content) // 2], offset)
            self._step()
            return call(file, content, offset)

        return torn

    def _step(self) -> None:
        self.count += 1
        if self.count == self._hurt.fatal_step:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.count == self._hurt.full_step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._hurt.room, self._before[1]))


def _writes(arguments: tuple[object, ...]) -> bool:
    """Whether an audit event of opening is for writing: its flags are the last argument."""
    flags = arguments[-1]
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) != 0
