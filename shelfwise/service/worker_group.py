"""Shared counters and messages of the worker processes of one service, in files of a folder in memory.

Each file, and each row of an array, is written by one worker and read by all, so no worker waits for another, and a
killed worker leaves no lock.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from shelfwise.retrieval.errors import StoreError

READY = "ready"
"""Name under which a worker publishes that it accepts connections."""
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is private
_WORKER_BYTES = 16_000_000
"""Maximum memory in bytes for the files of one worker."""
_HASHES = 4


class WorkerGroup:
    """The group of worker processes of a service, seen from one of them. A service with one process has no folder."""

    def __init__(self, number: int = 0, count: int = 1, folder: Path | None = None) -> None:
        """`number` is the number of this worker, from 0."""
        self.number = number
        self.count = count
        self._folder = folder

    def array(self, name: str, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
        """A shared array (workers, *shape) of zeros; a worker writes only its row. Raises StoreError without room."""
        whole = (self.count, *shape)
        if self._folder is None:
            return np.zeros(whole, kind)
        path = self._folder / f"{name}.array"
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(file, 0, int(np.prod(whole)) * np.dtype(kind).itemsize)
            finally:
                os.close(file)
            return np.memmap(path, kind, "r+", shape=whole)
        except OSError as error:
            raise StoreError(f"{path} cannot be created for the worker processes: {error.strerror}") from error

    def publish(self, name: str, content: bytes) -> None:
        """Replaces the content that this worker shares under a name."""
        if self._folder is not None:
            path = self._path(name, self.number)
            scratch = path.with_suffix(".new")
            with suppress(OSError):  # without memory, the others read the previous content
                scratch.write_bytes(content)
                scratch.replace(path)

    def published(self, name: str) -> dict[int, bytes]:
        """Content shared under a name, by worker number."""
        found = {}
        for number in range(self.count) if self._folder is not None else ():
            with suppress(FileNotFoundError):
                found[number] = self._path(name, number).read_bytes()
        return found

    def of_others(self, name: str) -> list[bytes]:
        """Contents that the other workers shared under a name."""
        return [content for number, content in self.published(name).items() if number != self.number]

    def withdraw(self, name: str, number: int) -> None:
        """Removes the shared content of an ended worker."""
        if self._folder is not None:
            self._path(name, number).unlink(missing_ok=True)

    def _path(self, name: str, number: int) -> Path:
        assert self._folder is not None  # noqa: S101 - checked by the callers
        return self._folder / f"{name}-{number}"


@contextmanager
def group_folder(workers: int) -> Iterator[Path]:
    """Creates the folder of a group, in memory if there is room; it is removed at the end of the context."""
    parent = None
    with suppress(OSError):
        room = os.statvfs(_MEMORY)
        if room.f_bavail * room.f_frsize > workers * _WORKER_BYTES and os.access(_MEMORY, os.W_OK):
            parent = _MEMORY
    folder = Path(tempfile.mkdtemp(prefix="shelfwise-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class SharedCounts:
    """Counts by name and period, summed over the workers of a group.

    A count-min sketch (Cormode and Muthukrishnan 2005, An improved data stream summary): a count is never too low, and
    too high only if each of four hashes of its name collides. Thread-safe. Each worker counts in its own row, so
    concurrent counts of other workers may only appear in the next total.
    """

    def __init__(self, group: WorkerGroup, name: str, width: int) -> None:
        """`width` is the number of counters of each hash."""
        self._own = group.number
        self._width = width
        self._cells = group.array(name, (2, _HASHES, width), np.int32)
        self._periods = group.array(f"{name}-periods", (2,), np.int64)
        """Period of each half of the cells."""
        self._lock = threading.Lock()

    def add(self, name: str, amount: int, period: int = 0) -> None:
        """Adds to the count of a name; only the last two periods are kept."""
        half = period % 2
        with self._lock:
            if self._periods[self._own, half] != period:
                self._cells[self._own, half] = 0
                self._periods[self._own, half] = period
            self._cells[self._own, half, _ROWS, self._places(name)] += amount

    def total(self, name: str, period: int = 0) -> int:
        """Count of a name over all workers."""
        half = period % 2
        counted = self._cells[:, half, _ROWS, self._places(name)]
        return int(counted[self._periods[:, half] == period].sum(0).min())

    def clear(self) -> None:
        """Sets the counts of this worker to 0."""
        self._cells[self._own] = 0

    def _places(self, name: str) -> NDArray[np.uint32]:
        return np.frombuffer(xxhash.xxh3_128_digest(name.encode("utf-8", "surrogatepass")), np.uint32) % self._width


_ROWS = np.arange(_HASHES)
