"""Compressed feeds (gzip, zstd), told by their first bytes and unpacked in bounded memory; foreign files by their
name."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

MAX_RATIO = 500
"""Unpacked bytes for each packed one, over a whole feed. Texts of products pack to a fifth, seldom below a fiftieth."""
_FREE = 1 << 26
"""Bytes that may come before the ratio counts: a small feed of equal rows packs very well."""

# What one call may unpack is bounded by what it is given: 64 KiB of gzip or 2 KiB of zstd hold 64 MiB at the worst.
_GZIP_PIECE = 1 << 16
_ZSTD_PIECE = 1 << 11
_GZIP, _ZSTD, _SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_FOREIGN = {
    b"BZh": "is compressed by bzip2; pack it with gzip or zstd",
    b"\xfd7zXZ": "is compressed by xz; pack it with gzip or zstd",
    b"PK\x03\x04": "is a zip archive; unpack it, or pack it with gzip or zstd",
    b"7z\xbc\xaf": "is a 7z archive; unpack it, or pack it with gzip or zstd",
    b"%PDF-": "is a PDF document; a feed is a table, XML or JSON",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook; save it as CSV",
}
_TAR_MARK = slice(257, 262)


class BombError(Exception):
    """A compressed feed unpacks to far more than a feed of products would."""


class _Decompressor(Protocol):
    """One member or frame of a compressed file, as zlib and zstandard both have it."""

    def decompress(self, data: bytes, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def foreign(head: bytes) -> str:
    """What a file is that is no feed, and what to do with it; empty for anything else."""
    if head[_TAR_MARK] == b"ustar":
        return "is a tar archive; unpack it, and name the feeds in it"
    return next((fault for magic, fault in _FOREIGN.items() if head.startswith(magic)), "")


def is_packed(head: bytes) -> bool:
    """Whether the first bytes are those of gzip or zstd."""
    return head.startswith((_GZIP, _ZSTD)) or head[1:4] == _SKIPPABLE


def unpacked(head: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The content in chunks, none of them empty; what is not packed as it is.

    Raises zlib.error, zstandard.ZstdError or EOFError for a broken file, BombError for one that unpacks to more than
    MAX_RATIO times its size.
    """
    if head.startswith(_GZIP):
        return _bounded(blocks, _GZIP_PIECE, lambda: zlib.decompressobj(wbits=31))
    if is_packed(head):
        from zstandard import ZstdDecompressor

        # Not zstandard's stream reader: it takes a truncated file for a whole one.
        return _bounded(blocks, _ZSTD_PIECE, ZstdDecompressor().decompressobj)
    return blocks


def _bounded(blocks: Iterator[bytes], size: int, opened: Callable[[], _Decompressor]) -> Iterator[bytes]:
    packed = total = 0

    def counted() -> Iterator[bytes]:
        nonlocal packed
        for block in blocks:
            for start in range(0, len(block), size):
                piece = block[start : start + size]
                packed += len(piece)
                yield piece

    for chunk in _members(counted(), opened):
        total += len(chunk)
        if total > _FREE and total > MAX_RATIO * packed:
            raise BombError(f"it unpacks to more than {MAX_RATIO} times its size")
        yield chunk


def _members(pieces: Iterator[bytes], opened: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """One member after another; zeros between and behind them are padding."""
    member = opened()
    is_inside = False
    for piece in pieces:
        rest = piece
        while rest := rest if is_inside else rest.lstrip(b"\0"):
            chunk = member.decompress(rest)
            is_inside, rest = not member.eof, member.unused_data
            if not is_inside:
                member = opened()
            if chunk:
                yield chunk
    if is_inside:
        raise EOFError("the compressed data ends before its end mark")
