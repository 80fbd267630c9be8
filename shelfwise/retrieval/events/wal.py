"""SQLite's write-ahead log: the damage that SQLite does not report.

SQLite reads a log up to the first frame with a wrong checksum and drops the rest, committed or not, so the log is
checked before SQLite opens it (https://www.sqlite.org/fileformat2.html, section 4). A checksum continues that of the
frame before.
"""

from __future__ import annotations

import shutil
import struct
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from shelfwise.retrieval.store.files import sync

_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
"""The byte order under the checksums, by the first word of a log."""
_VERSION = 3_007_000
_HEADER_BYTES, _FRAME_HEADER_BYTES, _INDEX_HEADER_BYTES = 32, 24, 48
_WORD = 0xFFFFFFFF
_COPY = ".damaged"
_CURE = "restore the events from a backup"
Sums = tuple[int, int]


def log_path(database: Path) -> Path:
    """The write-ahead log of a database."""
    return database.with_name(f"{database.name}-wal")


def damaged_copies(database: Path) -> dict[Path, str]:
    """The copies of damaged logs that `copy_if_damaged` made, with the damage and what to do."""
    logs = {}
    for path in sorted(database.parent.glob(f"{database.name}-wal.*{_COPY}")):
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        part = unreadable_part(database, path) or "a part"
        logs[path] = (
            f"{part} of its log cannot be read, so events up to {written:%Y-%m-%d %H:%M:%S} UTC are lost; {_CURE}, "
            f"then remove {path}"
        )
    return logs


def log_problem(database: Path) -> str:
    """The damage to the log of a database and what to do; "" if there is none."""
    part = unreadable_part(database)
    return f"{part} of its log cannot be read, so some of the last events are lost; {_CURE}" if part else ""


def copy_if_damaged(database: Path) -> None:
    """Copies the log of a database that no process is writing, if a part is damaged: SQLite overwrites that part."""
    if unreadable_part(database):
        log = log_path(database)
        copy = log.with_name(f"{log.name}.{log.stat().st_mtime_ns}{_COPY}")
        shutil.copy2(log, copy)
        sync(copy)
        sync(copy.parent)


def unreadable_part(database: Path, log: Path | None = None) -> str:
    """The part of the log of a database, or of a copy of it, that SQLite drops though its transactions are, or may be,
    committed; "" if there is none. No process may be writing it."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((log or log_path(database)).open("rb"))
        except FileNotFoundError:
            return ""
        header = file.read(_HEADER_BYTES)
        if not file.read(1):
            return ""
        if not _is_header(header):
            return "all"
        order, salts, checksum = _ORDERS[int.from_bytes(header[:4])], header[16:24], _pair(header[24:])
        size = _FRAME_HEADER_BYTES + int.from_bytes(header[8:12])
        readable = committed = 0
        is_readable, rest = True, list[bool]()
        file.seek(_HEADER_BYTES)
        while len(frame := file.read(size)) == size:
            ends_transaction, is_of_log = any(frame[4:8]), frame[8:16] == salts
            if is_readable:
                checksum = _checksum(checksum, frame[:8] + frame[_FRAME_HEADER_BYTES:], order)
                is_readable = is_of_log and checksum == _pair(frame[16:_FRAME_HEADER_BYTES])
            if is_readable:
                readable += 1
                committed = readable if ends_transaction else committed
            elif is_of_log:
                rest.append(ends_transaction)
    return _loss(committed, None if log else _known_frames(database, salts), rest)


def _loss(committed: int, known: int | None, rest: list[bool]) -> str:
    """The unreadable part of a log whose first `committed` frames are readable.

    `known` is the number of committed frames by the index of the log. After a power failure it may be missing or old;
    then only a frame after the end of a transaction proves that the transaction was committed.
    """
    if known is not None and known > committed:
        return f"{known - committed:,} of {known:,} pages"
    if known == committed or not rest:
        return ""
    if any(rest[:-1]):
        return f"about {len(rest):,} of {committed + len(rest):,} pages"
    return "the last transaction (unless it was interrupted by a power failure)"


def _known_frames(database: Path, salts: bytes) -> int | None:
    """The number of committed frames by the index of a log (`-shm`), which processes share in memory."""
    try:
        with database.with_name(f"{database.name}-shm").open("rb") as file:
            first, second = file.read(_INDEX_HEADER_BYTES), file.read(_INDEX_HEADER_BYTES)
    except OSError:
        return None
    is_valid = len(first) == _INDEX_HEADER_BYTES and first == second and first[32:40] == salts
    return int.from_bytes(first[16:20], sys.byteorder) if is_valid else None


def _pair(content: bytes) -> Sums:
    first, second = struct.unpack(">2I", content)
    return first, second


def _is_header(header: bytes) -> bool:
    magic, version, page = struct.unpack(">3I", header[:12])
    if magic not in _ORDERS or version != _VERSION or page.bit_count() != 1 or not 512 <= page <= 65_536:
        return False
    return _checksum((0, 0), header[:24], _ORDERS[magic]) == _pair(header[24:])


def _checksum(before: Sums, content: bytes, order: str) -> Sums:
    """The checksum after another one: s0 += x0 + s1, s1 += x1 + s0 for each pair of 32-bit words of the content."""
    first, second = before
    for word, following in struct.iter_unpack(f"{order}2I", content):
        first = (first + word + second) & _WORD
        second = (second + following + first) & _WORD
    return first, second
