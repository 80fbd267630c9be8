"""The two files in which the journal of live changes is kept, opened for one look at them.

Both hold the same bytes. They differ where one is damaged, and at their ends and in their generations while one is
written: an append, or a rewriting, is durable in the first before it begins in the second.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from retrieval.errors import StoreDamagedError, StoreError
from retrieval.journal_frames import HEADER_BYTES, Header, UnreadableError, read_header

JOURNAL = "live.log"
COPY = "live.log.copy"
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Place:
    """A place between two frames: the change `last` ends there. It means something in one generation only."""

    generation: int
    offset: int
    last: int


class Copy:
    """One of the two files as it was when it was opened. `header` is None where it cannot be used, and `fault` why."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.fault = ""
        self.missing = False
        self.size = 0
        self._file = -1
        self._chunk, self._chunk_at = b"", 0
        try:
            # Not to wait for whoever would write to a pipe that has the name.
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._open()
        except FileNotFoundError:
            self.missing, self.fault = True, "it is missing"
        except OSError as error:
            self.fault = f"it cannot be read ({error.strerror})"
        except UnreadableError as error:
            self.fault = str(error)
        except StoreError:
            self.close()
            raise

    def _open(self) -> None:
        state = os.fstat(self._file)
        if not stat.S_ISREG(state.st_mode):
            raise UnreadableError("it is no file")
        self.size = state.st_size
        self.header = read_header(os.pread(self._file, HEADER_BYTES, 0))

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, fewer at its end; raises OSError."""
        at = offset - self._chunk_at
        if at < 0 or at + length > len(self._chunk):
            self._chunk, self._chunk_at, at = os.pread(self._file, max(length, _CHUNK_BYTES), offset), offset, 0
        return self._chunk[at : max(at, min(at + length, self.size - self._chunk_at))]

    def close(self) -> None:
        """Ends the reading."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Copies:
    """Both copies, opened."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # In this order: what is appended in between is then only in the first, as while somebody writes.
        self.second = Copy(root / COPY)
        try:
            self.first = Copy(root / JOURNAL)
        except StoreError:
            self.second.close()
            raise
        self.both = (self.first, self.second)

    @property
    def none(self) -> bool:
        """Whether there is no journal."""
        return self.first.missing and self.second.missing

    def sources(self) -> list[list[Copy]]:
        """What can be read: the copies of the newest generation, then the one that a rewriting did not get to.

        Raises StoreDamagedError where there are none, StoreError where they may not be read.
        """
        usable = {copy.header.generation: [copy] for copy in self.both if copy.header}
        if all(copy.header for copy in self.both) and len(usable) == 1:
            return [list(self.both)]
        if usable:
            return [usable[generation] for generation in sorted(usable, reverse=True)]
        if all("cannot be read" in copy.fault for copy in self.both):
            raise StoreError(f"{self.first.path}: {self.first.fault}; mind the rights to it and to {COPY}")
        raise damaged(self.root, f"{self.first.fault} and of {COPY}, {self.second.fault}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for copy in self.both:
            copy.close()


def beginning(sources: Sequence[Copy]) -> Place:
    """The place before the first frame."""
    header = header_of(sources)
    return Place(header.generation, HEADER_BYTES, header.forgotten)


def header_of(sources: Sequence[Copy]) -> Header:
    """The header that the copies share."""
    header = sources[0].header
    if header is None:
        raise ValueError(f"{sources[0].path} cannot be used")
    return header


def damaged(root: Path, what: str) -> StoreDamagedError:
    """The error for a journal that cannot be trusted, neither the one copy nor the other."""
    message = (
        f"the journal of live changes {root / JOURNAL} is damaged: {what}; restore {JOURNAL} and {COPY} from a copy, "
        "or move both away and give the live changes since the last rebuild again"
    )
    return StoreDamagedError(message)
