"""External merge sort of products by id (Knuth, The Art of Computer Programming 3, section 5.4.1).

Products are collected up to a size limit, sorted and written as a run; the runs are merged when they are read back, so
memory does not grow with the feed. Of several products with the same id, the first to arrive comes first.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RUN_BYTES = 48_000_000
"""The size of the lines that are held in memory before they are written as a run."""
MAX_RUNS = 64
"""The number of runs merged at once: each is an open file with its own buffer."""
_HEAD = struct.Struct("<IIQIQ")
_BUFFER = 1 << 18


class Entry(NamedTuple):
    """One product; entries compare by id, then by arrival."""

    id: bytes
    """The id as UTF-8."""
    number: int
    """Number in the order of arrival, from 0."""
    line: bytes
    """The product as JSON."""
    file: int
    """The number of its feed."""
    row: int
    """The line of the feed, from 1."""


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

    def add(self, product_id: bytes, line: bytes, file: int, row: int) -> None:
        self._held.append(Entry(product_id, self._count, line, file, row))
        self._held_bytes += len(line) + len(product_id)
        self._count += 1
        if self._held_bytes >= self._run_bytes:
            self._write_run(sorted(self._held))
            self._held, self._held_bytes = [], 0
            if len(self._runs) > MAX_RUNS:
                self._merge_runs()

    def sorted(self) -> Iterator[Entry]:
        """Every product, ordered by id, then by arrival."""
        return heapq.merge(*map(_read_run, self._runs), sorted(self._held))

    def _write_run(self, entries: Iterator[Entry] | list[Entry]) -> None:
        path = self._folder / f"run-{self._written:06d}"
        self._written += 1
        with path.open("wb", _BUFFER) as file:
            for entry in entries:
                head = _HEAD.pack(len(entry.id), len(entry.line), entry.number, entry.file, entry.row)
                file.write(head + entry.id + entry.line)
        self._runs.append(path)

    def _merge_runs(self) -> None:
        runs, self._runs = self._runs, []
        self._write_run(heapq.merge(*map(_read_run, runs)))
        for path in runs:
            path.unlink()


def _read_run(path: Path) -> Iterator[Entry]:
    with path.open("rb", _BUFFER) as file:
        while head := file.read(_HEAD.size):
            id_length, line_length, number, feed, row = _HEAD.unpack(head)
            content = file.read(id_length + line_length)
            yield Entry(content[:id_length], number, content[id_length:], feed, row)
