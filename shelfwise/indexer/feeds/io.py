"""Input of a feed: its bytes, unpacked and in UTF-8, its first megabyte for detecting the format, and its lines."""

from __future__ import annotations

import codecs
import io
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from shelfwise.retrieval.errors import FeedError

UTF_8 = "utf-8"
_MARKS = {
    codecs.BOM_UTF8: UTF_8,
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAMPLE = 1 << 16
# Encodings in which shop programs export, the likelier first: of encodings that suit a text equally, the first is used.
_USUAL = ("cp1252", "cp1250", "cp1251", "gb18030", "cp932", "cp949", "big5", "cp1254", "cp1253", "cp1255", "cp1256")
_RARE = ("cp1257", "koi8_r", "euc_jp")
# Signs of prices, trade marks, units and quotes. A line without other characters beyond ASCII tells no language.
_SIGNS = "€£¥¢…‘’“”•–—™\u00a0§©«®°±²´µ·»¼½¾×".encode("cp1252")
_MAX_CHAOS = 0.3
_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']""")
_ERRORS = "shelfwise.undecodable"


def bom_encoding(head: bytes) -> str:
    """The encoding given by the byte order mark, or by ASCII with zeros in between; empty without either."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    start = head[:64]
    if len(start) >= 4 and not len(start) % 2:
        for name, zeros, others in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
            if not any(zeros) and all(others):
                return name
    return ""


def declared_encoding(head: bytes) -> str:
    """The encoding that an XML declaration names; empty if there is none, or one that Python does not know."""
    match = _DECLARED.match(head.lstrip())
    return _codec_name(match[1].decode()) if match else ""


def _codec_name(name: str) -> str:
    try:
        return codecs.lookup(name).name if "".encode(name) == b"" else ""
    except (LookupError, ValueError, TypeError):  # a codec such as "hex" is not for text
        return ""


def detect_encoding(head: bytes) -> str:
    """UTF-8 if most lines with more than ASCII are UTF-8 (the others are broken lines), else the likeliest encoding."""
    whole = head[: head.rfind(b"\n") + 1] or head
    lines = [line for line in whole.split(b"\n") if not line.isascii()]
    if not lines or sum(map(_is_utf8, lines)) * 2 > len(lines):
        return UTF_8
    lines = [line for line in lines if not line.translate(None, _SIGNS).isascii()]
    if not lines:
        return _USUAL[0]
    from charset_normalizer import from_bytes

    names = [*_USUAL, *_RARE]
    matches = from_bytes(b"\n".join(lines)[:_SAMPLE], cp_isolation=names, threshold=_MAX_CHAOS)
    ranked = [
        (match.chaos, -match.coherence, names.index(name), name)
        for match in matches
        for name in {match.encoding, *match.could_be_from_charset}
        if name in names
    ]
    return min(ranked)[-1] if ranked else _USUAL[0]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_to_utf8(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8, without a byte order mark. An undecodable byte becomes FF, which UTF-8 never contains."""
    if encoding == UTF_8:
        yield from _without_mark(chunks)
        return
    decoder = codecs.getincrementaldecoder(encoding)(_ERRORS)
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text.encode(UTF_8, "surrogateescape")
    if text := decoder.decode(b"", final=True):
        yield text.encode(UTF_8, "surrogateescape")


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= len(codecs.BOM_UTF8):
            break
    if start := start.removeprefix(codecs.BOM_UTF8):
        yield start
    yield from chunks


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error(_ERRORS, _undecodable)


MAX_RATIO = 500
"""The most unpacked bytes per packed byte of a feed. Product texts pack to a fifth, rarely to less than a fiftieth."""
_FREE = 1 << 26
"""The number of bytes before the ratio counts: a small feed of equal rows packs very well."""

# The input limits what one call may unpack: 64 KiB of gzip or 2 KiB of zstd hold 64 MiB at worst.
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


class DecompressionBombError(Exception):
    """A compressed feed unpacks to far more than a feed of products would."""


class _Decompressor(Protocol):
    """One member or frame of a compressed file, as in both zlib and zstandard."""

    def decompress(self, data: bytes, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def foreign_format(head: bytes) -> str:
    """The kind of a file that is not a feed, and what to do with it; empty for anything else."""
    if head[_TAR_MARK] == b"ustar":
        return "is a tar archive; unpack it, and name the feeds in it"
    return next((fault for magic, fault in _FOREIGN.items() if head.startswith(magic)), "")


def is_packed(head: bytes) -> bool:
    """Whether the first bytes are those of gzip or zstd."""
    return head.startswith((_GZIP, _ZSTD)) or head[1:4] == _SKIPPABLE


def unpack(head: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The content in chunks, none of them empty; content that is not packed stays as it is.

    Raises zlib.error, zstandard.ZstdError or EOFError for a broken file, DecompressionBombError for one that unpacks to
    more than MAX_RATIO times its size.
    """
    if head.startswith(_GZIP):
        return _bounded(blocks, _GZIP_PIECE, lambda: zlib.decompressobj(wbits=31))
    if is_packed(head):
        from zstandard import ZstdDecompressor

        # Not zstandard's stream reader, which accepts a truncated file as complete.
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
            raise DecompressionBombError(f"it unpacks to more than {MAX_RATIO} times its size")
        yield chunk


def _members(pieces: Iterator[bytes], opened: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """One member after another; zeros between and after them are padding."""
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


STANDARD_INPUT = "-"
MAX_LINE = 1_000_000
"""The most bytes of a row, in any format. A longer line is cut to a little more than this, so that it is recognised."""
HEAD_BYTES = 1 << 20
"""The number of bytes of a feed from which its format is detected."""

_BLOCK = 1 << 17
_FIRST = 512


class _ByteCounter:
    """A file that counts the bytes read from it, and shows its first bytes before that."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.consumed = 0
        self.head = b""
        while len(self.head) < _FIRST and (more := file.read(_FIRST - len(self.head))):  # a pipe returns what it has
            self.head += more

    def blocks(self) -> Iterator[bytes]:
        block = self.head
        while block:
            self.consumed += len(block)
            yield block
            block = self._file.read(_BLOCK)


def total_size(paths: Sequence[str]) -> int | None:
    """The total size of several feeds in bytes; None if one is standard input or a pipe.

    Raises FeedError like `feed_size`.
    """
    sizes = [feed_size(path) for path in paths]
    return None if None in sizes else sum(size or 0 for size in sizes)


def feed_size(path: str) -> int | None:
    """The size of a feed file in bytes; None for standard input or a pipe.

    Raises FeedError if there is no such file, so that a run over many feeds fails before the first one.
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


class FeedSource:
    """One open feed. `head` is its beginning; `chunks` returns all of it once, in the form that the reader requests."""

    def __init__(self, path: str, file: BinaryIO, advance: Callable[[int], None]) -> None:
        self.path = path
        self.line = 0
        """The number of the last complete line, set by the format's reader for the message if the file breaks off."""
        self._advance = advance
        self._counted = _ByteCounter(file)
        if fault := foreign_format(self._counted.head):
            raise FeedError(f"{path}: {fault}")
        self.is_plain = path != STANDARD_INPUT and not is_packed(self._counted.head) and Path(path).is_file()
        """Whether the file is not packed, so that it can be opened by its path."""
        self._broken: Exception | None = None
        self._content = unpack(self._counted.head, self._counted.blocks())
        self._before = list(self._beginning())
        self.is_short = sum(map(len, self._before)) < HEAD_BYTES
        """Whether `head` is the whole feed."""
        self.encoding = ""
        self.head = b"".join(self._before)[:HEAD_BYTES]
        if fault := foreign_format(self.head):
            raise FeedError(f"{path}: {fault}")
        self.decode(bom_encoding(self.head) or UTF_8)

    def _beginning(self) -> Iterator[bytes]:
        size = 0
        while size < HEAD_BYTES:
            try:
                chunk = next(self._content, b"")
            except Exception as error:  # raised by `read_raw`, after the rows before it
                self._broken = error
                return
            if not chunk:
                return
            size += len(chunk)
            yield chunk

    def decode(self, encoding: str) -> None:
        """Decodes the bytes with an encoding, from the first on."""
        self.encoding = encoding
        self.head = b"".join(decode_to_utf8(iter([b"".join(self._before)[:HEAD_BYTES]]), encoding))

    def read_raw(self) -> Iterator[bytes]:
        """The unpacked content in chunks, not decoded. Raises FeedError if it breaks off."""
        chunks = chain(self._before, self._rest())
        self._before = []
        reported = 0
        while chunk := self._next(chunks):
            if self._counted.consumed != reported:
                self._advance(self._counted.consumed - reported)
                reported = self._counted.consumed
            yield chunk

    def _rest(self) -> Iterator[bytes]:
        if self._broken:
            raise self._broken
        yield from self._content

    def read_utf8(self) -> Iterator[bytes]:
        """The content in chunks of UTF-8, without a byte order mark. Raises FeedError if it breaks off."""
        return decode_to_utf8(self.read_raw(), self.encoding)

    def _next(self, chunks: Iterator[bytes]) -> bytes:
        from zstandard import ZstdError

        try:
            return next(chunks, b"")
        except DecompressionBombError as error:
            raise FeedError(f"{self.path}: line {self.line + 1:,}: {error}; a feed does not pack so well") from error
        except (OSError, EOFError, zlib.error, ZstdError) as error:
            raise self.truncation_error(_why(error)) from error

    def report_all_read(self) -> None:
        """Reports all bytes as read, if a reader opened the file by its path."""
        if self.is_plain:
            self._advance(Path(self.path).stat().st_size)

    def truncation_error(self, why: str) -> FeedError:
        """The error for a feed that breaks off after the last line that was read."""
        advice = "the rows up to there were read; fetch the file again"
        return FeedError(f"{self.path}: cannot be read after line {self.line:,}: {why}; {advice}")


@contextmanager
def open_source(path: str, advance: Callable[[int], None]) -> Iterator[FeedSource]:
    """An open feed: a file's path, or "-" for standard input. `advance` receives the bytes of each read.

    Raises FeedError if it cannot be opened or has a foreign format.
    """
    try:
        file: BinaryIO = sys.stdin.buffer if path == STANDARD_INPUT else io.FileIO(path)
    except OSError as error:
        raise FeedError(f"{path}: cannot be read: {_why(error)}") from error
    with nullcontext() if path == STANDARD_INPUT else file:
        try:
            source = FeedSource(path, file, advance)
        except OSError as error:
            raise FeedError(f"{path}: cannot be read: {_why(error)}") from error
        yield source


def open_sources(paths: Sequence[str], advance: Callable[[int], None]) -> Iterator[FeedSource]:
    """Several feeds, each open until the next one is requested. `advance` receives the bytes of each read.

    Raises FeedError like `open_source`, and before the first one if any is missing.
    """
    total_size(paths)
    for path in paths:
        with open_source(path, advance) as source:
            yield source


def iterate_lines(source: FeedSource) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, without its newline. Raises FeedError if the feed breaks off."""
    number = 0
    rest = b""
    for chunk in source.read_utf8():
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
