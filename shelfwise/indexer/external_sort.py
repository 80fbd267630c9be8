"""External merge sort of products by id (Knuth, The Art of Computer Programming 3, section 5.4.1).

Products are collected up to a size limit, sorted and written as a run; the runs are merged when they are read back, so
memory does not grow with the feed. Of several products with the same id, the first to arrive comes first.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

RUN_BYTES = 48_000_000
"""The size of the lines that are held in memory before they are written as a run."""
MAX_RUNS = 64
"""The number of runs merged at once: each is an open file with its own buffer."""
_HEAD = struct.Struct("<III?Q16s")
_BUFFER = 1 << 18
_ID = itemgetter(0)


class Entry(NamedTuple):
    """A usable row of a feed."""

    id: bytes
    """The id as UTF-8."""
    line: bytes
    """The product as JSON."""
    file: int
    """The number of its feed."""
    is_detected: bool
    """Whether the language was detected and not declared."""
    row: int
    """The line of the feed, from 1."""
    key: bytes
    """The fingerprint of the row (16 bytes), see `shelfwise.indexer.incremental.row_key`."""


class ExternalSorter:
    """Sorts products by their ids (in the order of UTF-8 bytes)."""

    def __init__(self, folder: Path, *, run_bytes: int = RUN_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._run_bytes = run_bytes
        self._held: list[Entry] = []
        """The entries for the next run."""
        self._runs: list[Path] = []
        self._held_bytes = self._count = self._written = 0

    def __len__(self) -> int:
        """The number of all products, including those with a repeated id."""
        return self._count

    def add(self, entry: Entry) -> None:
        self._held.append(entry)
        self._held_bytes += len(entry.line) + len(entry.id)
        self._count += 1
        if self._held_bytes >= self._run_bytes:
            self._write_run(sorted(self._held, key=_ID))
            self._held, self._held_bytes = [], 0
            if len(self._runs) > MAX_RUNS:
                self._merge_runs()

    def sorted(self) -> Iterator[Entry]:
        """Every product, ordered by id, then by arrival."""
        return heapq.merge(*map(_read_run, self._runs), sorted(self._held, key=_ID), key=_ID)

    def _write_run(self, entries: Iterator[Entry] | list[Entry]) -> None:
        path = self._folder / f"run-{self._written:06d}"
        self._written += 1
        with path.open("wb", _BUFFER) as file:
            for entry in entries:
                head = _HEAD.pack(len(entry.id), len(entry.line), entry.file, entry.is_detected, entry.row, entry.key)
                file.write(head + entry.id + entry.line)
        self._runs.append(path)

    def _merge_runs(self) -> None:
        runs, self._runs = self._runs, []
        self._write_run(heapq.merge(*map(_read_run, runs), key=_ID))
        for path in runs:
            path.unlink()


def _read_run(path: Path) -> Iterator[Entry]:
    with path.open("rb", _BUFFER) as file:
        while head := file.read(_HEAD.size):
            id_length, line_length, *others = _HEAD.unpack(head)
            content = file.read(id_length + line_length)
            yield Entry(content[:id_length], content[id_length:], *others)
