"""SQLite's write-ahead log: the damage that SQLite does not report.

SQLite reads a log up to the first frame with a wrong checksum and drops the rest, committed or not, so the log is
checked before SQLite opens it (https://www.sqlite.org/fileformat2.html, section 4). A checksum continues that of the
frame before: s0 += x0 + s1, s1 += x1 + s0 for each pair of 32-bit words. It is linear modulo 2^32, so the difference of
two checksums tells which bytes may have changed, and the frames after a damaged one can be checked by themselves.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from itertools import chain, pairwise, product
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.store.files import sync

_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
"""The byte order under the checksums, by the first word of a log."""
_VERSION = 3_007_000
_HEADER_BYTES, _FRAME_HEADER_BYTES, _INDEX_HEADER_BYTES = 32, 24, 48
_BLOCK_BYTES = 1 << 22
_WORD = 0xFFFFFFFF
_KEPT = ".damaged"
_CURE = "restore the events from a backup"
Sums = tuple[int, int]


class LogCheck(NamedTuple):
    """The damage to a log; none if all fields are empty."""

    repairs: dict[int, bytes]
    """Content that makes the log readable, by offset."""
    pages: tuple[int, ...]
    """Damaged pages whose former content is not known."""
    loss: str
    """The unreadable part, if it has, or may have, committed transactions."""


_UNDAMAGED = LogCheck({}, (), "")


def log_path(database: Path) -> Path:
    """The write-ahead log of a database."""
    return database.with_name(f"{database.name}-wal")


def kept_logs(database: Path) -> dict[Path, str]:
    """The copies of damaged logs that `repair_log` kept, with the damage and what to do."""
    logs = {}
    for path in sorted(database.parent.glob(f"{database.name}-wal.*{_KEPT}")):
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        loss = _loss_text(check_log(database, path)) or "a part of the log cannot be read"
        logs[path] = f"{loss}, so events up to {written:%Y-%m-%d %H:%M:%S} UTC are lost; {_CURE}, then remove {path}"
    return logs


def log_problem(database: Path) -> str:
    """The damage to the log of a database and what to do; "" if there is none."""
    damage = check_log(database)
    if loss := _loss_text(damage):
        return f"{loss}, so some of the last events are lost; {_CURE}"
    return "a byte of its log has changed; any command that opens the events restores it" if damage.repairs else ""


def repair_log(database: Path) -> str:
    """Restores the log of a database that no process is writing, and keeps a copy if a part stays damaged. Returns a
    message if all of it was restored, else ""."""
    damage = check_log(database)
    if damage == _UNDAMAGED:
        return ""
    log = log_path(database)
    loss = _loss_text(damage)
    if loss:
        copy = log.with_name(f"{log.name}.{log.stat().st_mtime_ns}{_KEPT}")
        shutil.copy2(log, copy)
        sync(copy)
        sync(copy.parent)
    with log.open("r+b") as file:
        for offset, content in damage.repairs.items():
            file.seek(offset)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return "" if loss else f"{log} had a changed byte, which was restored without loss; check the disk"


def _loss_text(damage: LogCheck) -> str:
    pages = f"page {', '.join(map(str, damage.pages))}" if damage.pages else ""
    return f"{damage.loss or pages} of its log cannot be read" if damage.loss or pages else ""


def check_log(database: Path, log: Path | None = None) -> LogCheck:
    """The damage to the log of a database that no process is writing, or to a copy of it."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((log or log_path(database)).open("rb"))
            pages = stack.enter_context(database.open("rb"))
        except FileNotFoundError:
            return _UNDAMAGED
        header = file.read(_HEADER_BYTES)
        if os.fstat(file.fileno()).st_size <= _HEADER_BYTES:
            return _UNDAMAGED
        former = header if _is_header(header) else _former_header(file, header)
        if not former:
            return LogCheck({}, (), "all")
        known = None if log else _known_frames(database, former[16:24])
        walk = _Walk(file, pages, former, known or 0)
        for frame, following in pairwise(chain(_frames(file, former), [None])):
            if frame:
                walk.add(frame, following)
    repairs = walk.repairs if former == header else {0: former, **walk.repairs}
    return LogCheck(repairs, tuple(sorted(walk.pages)), _loss(walk.committed, known, walk.rest))


class _PageFrame(NamedTuple):
    offset: int
    header: bytes
    words: NDArray[np.uint32]
    """The words under the checksum: two of the header, then the page."""
    own: Sums
    """The part of the checksum that the words contribute."""

    @property
    def stored(self) -> Sums:
        return _pair(self.header[16:])

    def extend(self, before: Sums) -> Sums:
        """The checksum of this frame after another one."""
        a, b, c, d = _coefficients(len(self.words) // 2)[1]
        first, second = a * before[0] + b * before[1] + self.own[0], c * before[0] + d * before[1] + self.own[1]
        return first & _WORD, second & _WORD


class _Walk:
    """The state of a walk over the frames of a log."""

    def __init__(self, log: BinaryIO, pages: BinaryIO, header: bytes, known: int) -> None:
        self._log, self._database, self._known = log, pages, known
        self._salts, self._words, self._page_bytes = header[16:24], _words(header), int.from_bytes(header[8:12])
        self._stored = self._actual = _pair(header[24:])
        """The checksum up to here: as stored, and as it follows from the content after the repairs."""
        self._offsets: dict[int, int] = {}
        """The offset of the last content of each page."""
        self._size = bytes(4)
        """The number of pages of the database after the last transaction."""
        self._is_readable = True
        self._count = self.committed = 0
        self.repairs: dict[int, bytes] = {}
        self.pages: set[int] = set()
        self.rest: list[bool] = []
        """For each frame of this log after the readable ones, whether it ends a transaction."""

    def add(self, frame: _PageFrame, following: _PageFrame | None) -> None:
        is_of_log = frame.header[8:16] == self._salts
        content = self._read(frame, following, is_of_log=is_of_log) if self._is_readable else b""
        if not content:
            self._is_readable = False
            self.rest += [any(frame.header[4:8])] * is_of_log
            return
        if not is_of_log:
            self.repairs[frame.offset + 8] = self._salts
        if self._actual != frame.stored:
            self.repairs[frame.offset + 16] = struct.pack(">2I", *self._actual)
        self._stored = frame.stored
        self._offsets[int.from_bytes(content[:4])] = frame.offset + _FRAME_HEADER_BYTES
        self._count += 1
        if any(content[4:8]):
            self.committed, self._size = self._count, content[4:8]

    def _read(self, frame: _PageFrame, following: _PageFrame | None, *, is_of_log: bool) -> bytes:
        """The restored content, under the checksum, of a frame that continues the log; empty for another frame."""
        chained, right = frame.extend(self._stored), frame.extend(self._actual)
        content = frame.words.astype(self._words).tobytes()
        page = int.from_bytes(content[:4])
        is_followed = following is not None and following.extend(frame.stored) == following.stored
        if frame.stored in (chained, right):
            self.pages.discard(page)
        elif not is_of_log:
            return b""
        elif following is None or following.extend(right) != following.stored:  # else only the checksum has changed
            difference = (frame.stored[0] - chained[0]) & _WORD, (frame.stored[1] - chained[1]) & _WORD
            contents = [words.astype(self._words).tobytes() for words in _candidates(frame, difference)]
            pairs = zip(struct.pack(">2I", *right), frame.header[16:], strict=True)
            if not is_followed and sum(each != other for each, other in pairs) == 1:
                contents.append(content)
            former = self._likeliest(contents)
            if former and former != content:
                self.repairs |= {frame.offset: former[:8], frame.offset + _FRAME_HEADER_BYTES: former[8:]}
                right = (right[0] + difference[0]) & _WORD, (right[1] + difference[1]) & _WORD
                content = former
            elif not former and not contents and not (is_followed and self._count < self._known):
                return b""  # also frames of a process that was killed before it committed, which others overwrote
            elif not former:
                self.pages.add(page)
        self._actual = right
        return content

    def _likeliest(self, contents: list[bytes]) -> bytes:
        """The content that is nearest to the page before the change; empty if there is none, or more than one."""
        distances = []
        for content in contents:
            page = int.from_bytes(content[:4])
            file, offset = self._log, self._offsets.get(page)
            if offset is None:
                file, offset = self._database, max(page - 1, 0) * self._page_bytes
            before = os.pread(file.fileno(), self._page_bytes, offset).ljust(self._page_bytes, b"\0")
            differs = np.frombuffer(content, np.uint8, offset=8) != np.frombuffer(before, np.uint8)
            distances.append(np.count_nonzero(differs) + (content[4:8] not in (bytes(4), self._size)))
        return contents[distances.index(min(distances))] if contents and distances.count(min(distances)) == 1 else b""


def _loss(committed: int, known: int | None, rest: list[bool]) -> str:
    """The unreadable part of a log whose first `committed` frames are readable.

    `known` is the number of committed frames by the index of the log. After a power failure it may be missing or old;
    then only a frame after the end of a transaction proves that the transaction was committed.
    """
    if known is not None and known > committed:
        return f"{known - committed:,} of {known:,} pages"
    if known is not None or not rest:
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


def _words(header: bytes) -> str:
    """numpy's type of the words under the checksums."""
    return f"{_ORDERS[int.from_bytes(header[:4])]}u4"


def _is_header(header: bytes) -> bool:
    magic, version, page = struct.unpack(">3I", header[:12])
    if magic not in _ORDERS or version != _VERSION or page.bit_count() != 1 or not 512 <= page <= 65_536:
        return False
    first = second = 0
    for word, following in struct.iter_unpack(f"{_ORDERS[magic]}2I", header[:24]):
        first = (first + word + second) & _WORD
        second = (second + following + first) & _WORD
    return (first, second) == _pair(header[24:])


def _former_header(log: BinaryIO, header: bytes) -> bytes:
    """The header before one byte of it changed, as the first frame continues it; empty if more changed."""
    for place, value in product(range(_HEADER_BYTES), range(256)):
        former = header[:place] + bytes([value]) + header[place + 1 :]
        if _is_header(former):
            frame = next(_frames(log, former), None)
            if frame and frame.header[8:16] == former[16:24] and frame.extend(_pair(former[24:])) == frame.stored:
                return former
    return b""


def _frames(log: BinaryIO, header: bytes) -> Iterator[_PageFrame]:
    """The whole frames of a log."""
    page = int.from_bytes(header[8:12])
    size, offset = _FRAME_HEADER_BYTES + page, _HEADER_BYTES
    factors, _ = _coefficients(page // 8 + 1)
    log.seek(offset)
    while count := len(block := log.read(_BLOCK_BYTES // size * size)) // size:
        table = np.frombuffer(block, np.uint8, count * size).reshape(count, size)
        covered = np.hstack([table[:, :8], table[:, _FRAME_HEADER_BYTES:]])
        words = covered.view(_words(header)).astype(np.uint32)
        for row, (first, second) in enumerate((words @ factors).tolist()):
            yield _PageFrame(offset, table[row, :_FRAME_HEADER_BYTES].tobytes(), words[row], (first, second))
            offset += size


@cache
def _coefficients(rounds: int) -> tuple[NDArray[np.uint32], tuple[int, int, int, int]]:
    """The factors of each word in the two sums, of shape (2 * rounds, 2), and those of the two sums before."""
    factors = np.empty((2 * rounds, 2), np.uint32)
    a, b, c, d = 1, 0, 0, 1  # a power of the matrix of one round, [[1, 1], [1, 2]]
    for place in range(2 * rounds - 2, -1, -2):
        factors[place] = (a + b) & _WORD, (c + d) & _WORD
        factors[place + 1] = b, d
        a, b, c, d = (a + b) & _WORD, (a + 2 * b) & _WORD, (c + d) & _WORD, (c + 2 * d) & _WORD
    return factors, (a, b, c, d)


def _candidates(frame: _PageFrame, difference: Sums) -> Iterator[NDArray[np.uint32]]:
    """The words of a frame before one byte changed, for each change that explains a difference of the sums."""
    factors, _ = _coefficients(len(frame.words) // 2)
    shifts = np.repeat([0, 8, 16, 24], 511)
    changes = np.tile(np.arange(-255, 256), 4)
    deltas = (changes << shifts).astype(np.uint32)
    hits = np.outer(factors[:, 0], deltas) == np.uint32(difference[0])
    hits &= np.outer(factors[:, 1], deltas) == np.uint32(difference[1])
    for place, choice in np.argwhere(hits).tolist():
        if 0 <= ((int(frame.words[place]) >> int(shifts[choice])) & 0xFF) + int(changes[choice]) <= 0xFF:
            words = frame.words.copy()
            words[place : place + 1] += deltas[choice]
            yield words
