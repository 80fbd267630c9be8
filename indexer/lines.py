"""The lines of a feed file: plain, gzip or zstd (told by the first bytes, never by the name), in bounded memory."""

from __future__ import annotations

import io
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, Protocol

from retrieval.errors import FeedError

STANDARD_INPUT = "-"
MAX_LINE = 1_000_000
"""Bytes of one line. A longer one comes cut to a little more than this, so its length tells."""

Progress = Callable[[int, int | None], None]
"""Told the bytes of the (compressed) feeds consumed so far, and their total size where it is known."""

_BLOCK = 1 << 17
# What one call may unpack is bounded by what it is given: 64 KiB of gzip or 2 KiB of zstd hold 64 MiB at the worst.
_GZIP_PIECE = 1 << 16
_ZSTD_PIECE = 1 << 11
_GZIP, _ZSTD, _SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_FOREIGN = {
    b"BZh": "is compressed by bzip2; pack it with gzip or zstd",
    b"\xfd7zXZ": "is compressed by xz; pack it with gzip or zstd",
    b"PK\x03\x04": "is a zip archive; unpack it, or pack it with gzip or zstd",
    b"PAR1": "is a Parquet file; a feed is JSON lines",
    b"\xff\xfe": "is UTF-16; convert it to UTF-8",
    b"\xfe\xff": "is UTF-16; convert it to UTF-8",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _Counted:
    """A file that counts the bytes taken from it, and shows its first ones beforehand."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.consumed = 0
        self.head = b""
        while len(self.head) < 8 and (more := file.read(8 - len(self.head))):  # a pipe gives what it has
            self.head += more

    def blocks(self) -> Iterator[bytes]:
        block = self.head
        while block:
            self.consumed += len(block)
            yield block
            block = self._file.read(_BLOCK)


class _Decompressor(Protocol):
    """One member or frame of a compressed file, as zlib and zstandard both have it."""

    def decompress(self, data: bytes, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


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


def read_lines(path: str, consumed: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, without its newline and the file's byte order mark.

    `consumed` is told the bytes taken from the file as they grow.

    Raises FeedError when the file cannot be opened, is of a foreign format, or breaks off: after the lines before that.
    """
    for number, line in _numbered(path, consumed):
        yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line


def _numbered(path: str, consumed: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    number = reported = 0
    rest = b""
    try:
        file: BinaryIO = sys.stdin.buffer if path == STANDARD_INPUT else io.FileIO(path)
        counted = _Counted(file)
    except OSError as error:
        raise FeedError(f"{path}: cannot be read: {_why(error)}") from error
    with nullcontext() if path == STANDARD_INPUT else file:
        chunks = _content(path, counted)
        while chunk := _next_chunk(path, chunks, number):
            if counted.consumed != reported:
                reported = counted.consumed
                consumed(reported)
            if len(rest) > MAX_LINE and b"\n" not in chunk:
                continue  # the middle of a line that is already too long
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number += 1
                yield number, line
    if rest:
        yield number + 1, rest


def _next_chunk(path: str, chunks: Iterator[bytes], number: int) -> bytes:
    from zstandard import ZstdError

    try:
        return next(chunks, b"")
    except (OSError, EOFError, zlib.error, ZstdError) as error:
        advice = "the rows up to there were read; fetch the file again"
        raise FeedError(f"{path}: breaks off after line {number:,}: {_why(error)}; {advice}") from error


def _content(path: str, file: _Counted) -> Iterator[bytes]:
    """The unpacked content in chunks, none of them empty."""
    for magic, fault in _FOREIGN.items():
        if file.head.startswith(magic):
            raise FeedError(f"{path}: {fault}")
    if file.head.startswith(_GZIP):
        return _unpacked(file.blocks(), _GZIP_PIECE, lambda: zlib.decompressobj(wbits=31))
    if file.head.startswith(_ZSTD) or file.head[1:4] == _SKIPPABLE:
        from zstandard import ZstdDecompressor

        # Not zstandard's stream reader: it takes a truncated file for a whole one.
        return _unpacked(file.blocks(), _ZSTD_PIECE, ZstdDecompressor().decompressobj)
    return file.blocks()


def _unpacked(blocks: Iterator[bytes], size: int, opened: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """One member after another; zeros between and behind them are padding."""
    member = opened()
    is_inside = False
    for block in blocks:
        for start in range(0, len(block), size):
            piece = block[start : start + size]
            while piece := piece if is_inside else piece.lstrip(b"\0"):
                chunk = member.decompress(piece)
                is_inside, piece = not member.eof, member.unused_data
                if not is_inside:
                    member = opened()
                if chunk:
                    yield chunk
    if is_inside:
        raise EOFError("the compressed data ends before its end mark")


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
