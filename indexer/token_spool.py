"""Tokens of encoded texts in one file that outlives an interrupted run: chunk after chunk, read memory-mapped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.token_states import TokenRuns


@dataclass(frozen=True, slots=True)
class Segment:
    """The tokens of one chunk: the number of the first, how many they are, and their XXH3 checksum (16 bytes)."""

    start: int
    count: int
    digest: bytes


class TokenSpool:
    """The file. Only what a chunk names is in use: what a killed run wrote besides is passed over."""

    def __init__(self, path: Path, dimension: int) -> None:
        self.dimension = dimension
        self._path = path
        self._kind = np.dtype([("id", np.int32), ("state", np.int8, (dimension,))])

    def append(self, tokens: TokenRuns) -> Segment:
        """Adds tokens that lie end to end, as `retrieval.token_states.quantised` gives them."""
        records = np.empty(len(tokens.ids), self._kind)
        records["id"], records["state"] = tokens.ids, tokens.states
        content = records.tobytes()
        with self._path.open("ab") as file:
            # A killed run may have left a part of a record.
            file.write(bytes(-file.tell() % self._kind.itemsize))
            start = file.tell() // self._kind.itemsize
            file.write(content)
        return Segment(start, len(records), xxhash.xxh3_128_digest(content))

    def is_whole(self, segment: Segment) -> bool:
        """Whether the file has the tokens of this segment as they were written."""
        size = self._kind.itemsize
        # A chunk that is damaged may ask for anything.
        if not 0 <= segment.start <= segment.start + segment.count <= self._size() // size:
            return False
        if not segment.count:
            return True
        with self._path.open("rb") as file:
            content = os.pread(file.fileno(), segment.count * size, segment.start * size)
        return xxhash.xxh3_128_digest(content) == segment.digest

    def runs(self, starts: NDArray[np.int64], lengths: NDArray[np.int32]) -> TokenRuns:
        """The tokens of m texts by where in the file they begin (m,) and how many they are (m,)."""
        count = self._size() // self._kind.itemsize
        if count:
            records = np.asarray(np.memmap(self._path, self._kind, "r", shape=(count,)))
        else:
            records = np.empty(0, self._kind)
        return TokenRuns(records["id"], records["state"], starts, lengths)

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0
