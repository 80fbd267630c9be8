"""The bytes of one feed, unpacked and in UTF-8, its first megabyte to recognise it by, and its lines."""

from __future__ import annotations

import io
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from indexer.formats.encodings import UTF_8, as_utf8, marked_encoding
from indexer.formats.unpacking import BombError, foreign, is_packed, unpacked
from retrieval.errors import FeedError

STANDARD_INPUT = "-"
MAX_LINE = 1_000_000
"""Bytes of one row, whatever its format. A longer line comes cut to a little more than this, so its length tells."""
HEAD_BYTES = 1 << 20
"""How much of a feed is looked at before it is read."""

Progress = Callable[[int, int | None], None]
"""Told the bytes of the (compressed) feeds consumed so far, and their total size where it is known."""

_BLOCK = 1 << 17
_FIRST = 512


class _Counted:
    """A file that counts the bytes taken from it, and shows its first ones beforehand."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.consumed = 0
        self.head = b""
        while len(self.head) < _FIRST and (more := file.read(_FIRST - len(self.head))):  # a pipe gives what it has
            self.head += more

    def blocks(self) -> Iterator[bytes]:
        block = self.head
        while block:
            self.consumed += len(block)
            yield block
            block = self._file.read(_BLOCK)


def feed_size(path: str) -> int | None:
    """The bytes of a feed file; None for standard input or a pipe.

    Raises FeedError when there is no such file, so that a run over many feeds fails before its first one.
    """
    if path == STANDARD_INPUT:
        return None
    try:
        state = Path(path).stat()
    except (OSError, ValueError) as error:
        raise FeedError(f"{path}: cannot be read: {_why(error)}") from error
    if stat.S_ISDIR(state.st_mode):
        raise FeedError(f"{path}: is a directory; name the feed files in it")
    return state.st_size if stat.S_ISREG(state.st_mode) else None


class Source:
    """One open feed. `head` is its beginning; `chunks` gives all of it once, as the format's reader asks for it."""

    def __init__(self, path: str, file: BinaryIO, consumed: Callable[[int], None]) -> None:
        self.path = path
        self.line = 0
        """The last line that was read whole: kept by the format's reader, for what is said when the file breaks off."""
        self._report = consumed
        self._counted = _Counted(file)
        if fault := foreign(self._counted.head):
            raise FeedError(f"{path}: {fault}")
        self.is_plain = path != STANDARD_INPUT and not is_packed(self._counted.head) and Path(path).is_file()
        """Whether the bytes lie in the file as they are, so that it can be opened by its path."""
        self._broken: Exception | None = None
        self._content = unpacked(self._counted.head, self._counted.blocks())
        self._before = list(self._beginning())
        self.is_short = sum(map(len, self._before)) < HEAD_BYTES
        """Whether `head` is the whole feed."""
        self.encoding = ""
        self.head = b"".join(self._before)[:HEAD_BYTES]
        if fault := foreign(self.head):
            raise FeedError(f"{path}: {fault}")
        self.decode(marked_encoding(self.head) or UTF_8)

    def _beginning(self) -> Iterator[bytes]:
        size = 0
        while size < HEAD_BYTES:
            try:
                chunk = next(self._content, b"")
            except Exception as error:  # told by `chunks`, after the rows before it
                self._broken = error
                return
            if not chunk:
                return
            size += len(chunk)
            yield chunk

    def decode(self, encoding: str) -> None:
        """Takes the bytes for text in an encoding, from the first on."""
        self.encoding = encoding
        self.head = b"".join(as_utf8(iter([b"".join(self._before)[:HEAD_BYTES]]), encoding))

    def raw(self) -> Iterator[bytes]:
        """The unpacked content in chunks as it is. Raises FeedError where it breaks off."""
        chunks = chain(self._before, self._rest())
        self._before = []
        reported = 0
        while chunk := self._next(chunks):
            if self._counted.consumed != reported:
                reported = self._counted.consumed
                self._report(reported)
            yield chunk

    def _rest(self) -> Iterator[bytes]:
        if self._broken:
            raise self._broken
        yield from self._content

    def chunks(self) -> Iterator[bytes]:
        """The content in chunks of UTF-8, without a byte order mark. Raises FeedError where it breaks off."""
        return as_utf8(self.raw(), self.encoding)

    def _next(self, chunks: Iterator[bytes]) -> bytes:
        from zstandard import ZstdError

        try:
            return next(chunks, b"")
        except BombError as error:
            raise FeedError(f"{self.path}: line {self.line + 1:,}: {error}; a feed does not pack so well") from error
        except (OSError, EOFError, zlib.error, ZstdError) as error:
            raise self.broken(_why(error)) from error

    def finish(self) -> None:
        """Tells that all of it was read, where it was not read by `raw` or `chunks`."""
        if self.is_plain:
            self._report(Path(self.path).stat().st_size)

    def broken(self, why: str) -> FeedError:
        """The error for a feed that breaks off after the line that was read last."""
        advice = "the rows up to there were read; fetch the file again"
        return FeedError(f"{self.path}: breaks off after line {self.line:,}: {why}; {advice}")


@contextmanager
def open_source(path: str, consumed: Callable[[int], None]) -> Iterator[Source]:
    """A feed, open: a file's path, or "-" for standard input. `consumed` is told the bytes taken from it as they grow.

    Raises FeedError when it cannot be opened or is of a foreign format.
    """
    try:
        file: BinaryIO = sys.stdin.buffer if path == STANDARD_INPUT else io.FileIO(path)
    except OSError as error:
        raise FeedError(f"{path}: cannot be read: {_why(error)}") from error
    with nullcontext() if path == STANDARD_INPUT else file:
        try:
            source = Source(path, file, consumed)
        except OSError as error:
            raise FeedError(f"{path}: cannot be read: {_why(error)}") from error
        yield source


def opened_sources(paths: Sequence[str], progress: Progress) -> Iterator[Source]:
    """Several feeds, each open until the next one is asked for. `progress` counts over all of them.

    Raises FeedError as `open_source`, and before the first one where any is missing.
    """
    sizes = [feed_size(path) for path in paths]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    before = 0
    for path in paths:
        consumed = 0

        def report(count: int, before: int = before) -> None:
            nonlocal consumed
            consumed = count
            progress(before + count, total)

        with open_source(path, report) as source:
            yield source
        before += consumed


def numbered_lines(source: Source) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, without its newline. Raises FeedError where the feed breaks off."""
    number = 0
    rest = b""
    for chunk in source.chunks():
        if len(rest) > MAX_LINE and b"\n" not in chunk:
            continue  # the middle of a line that is already too long
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            yield number, line
        source.line = number
    if rest:
        yield number + 1, rest


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
