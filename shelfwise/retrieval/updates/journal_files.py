"""The two files of the journal of live changes: their format, reading, writing and repair.

Each has a header and then one frame per append, all with a checksum (XXH3, 64 bits); numbers are little-endian. The
header has the number of the last discarded change, and a generation that each rewrite increases. A frame has the
changes of one append, one line of JSON each. Both files have the same bytes, except during a write: an append or a
rewrite is durable in the first file before it begins in the second.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import xxhash

from shelfwise.retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from shelfwise.retrieval.store.files import atomic_file

JOURNAL = "live.log"
COPY = "live.log.copy"
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Position:
    """A position between two frames, after the change `last`; valid in one generation."""

    generation: int
    offset: int
    last: int


class JournalCopy:
    """One copy, as of its opening. `header` is None if it is unusable, for the reason in `fault`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: JournalHeader | None = None
        self.fault = ""
        self.missing = False
        self.size = 0
        self._file = -1
        self._chunk, self._chunk_at = b"", 0
        try:
            # Opens without blocking, in case a pipe has the name.
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
            raise UnreadableError("it is not a file")
        self.size = state.st_size
        self.header = read_header(os.pread(self._file, HEADER_BYTES, 0))

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, fewer at its end; raises OSError."""
        at = offset - self._chunk_at
        if at < 0 or at + length > len(self._chunk):
            self._chunk, self._chunk_at, at = os.pread(self._file, max(length, _CHUNK_BYTES), offset), offset, 0
        return self._chunk[at : max(at, min(at + length, self.size - self._chunk_at))]

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class JournalCopies:
    """Both copies, opened."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # In this order: a frame appended in between is then only in the first, as during an append.
        self.second = JournalCopy(root / COPY)
        try:
            self.first = JournalCopy(root / JOURNAL)
        except StoreError:
            self.second.close()
            raise
        self.both = (self.first, self.second)

    @property
    def none(self) -> bool:
        return self.first.missing and self.second.missing

    def sources(self) -> list[list[JournalCopy]]:
        """The readable copies by generation, newest first.

        Raises StoreDamagedError if there are none, StoreError if reading them is not permitted.
        """
        usable = {copy.header.generation: [copy] for copy in self.both if copy.header}
        if all(copy.header for copy in self.both) and len(usable) == 1:
            return [list(self.both)]
        if usable:
            return [usable[generation] for generation in sorted(usable, reverse=True)]
        if all("cannot be read" in copy.fault for copy in self.both):
            raise StoreError(f"{self.first.path}: {self.first.fault}; check the permissions of it and of {COPY}")
        raise damaged(self.root, f"{self.first.fault} and of {COPY}, {self.second.fault}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for copy in self.both:
            copy.close()


def beginning(sources: Sequence[JournalCopy]) -> Position:
    """The position before the first frame."""
    header = header_of(sources)
    return Position(header.generation, HEADER_BYTES, header.discarded)


def header_of(sources: Sequence[JournalCopy]) -> JournalHeader:
    """The header that the copies share."""
    header = sources[0].header
    if header is None:
        raise ValueError(f"{sources[0].path} cannot be used")
    return header


def damaged(root: Path, what: str) -> StoreDamagedError:
    """The error for a journal that is damaged in both copies."""
    message = (
        f"the journal of live changes {root / JOURNAL} is damaged: {what}; restore {JOURNAL} and {COPY} from a backup, "
        "or move both away and send the live changes since the last rebuild again"
    )
    return StoreDamagedError(message)


SCHEMA = 1
"""Increased when the format changes in a way that older programs cannot read."""
_MAGIC = b"SHLFLIVE"
_SEAL = struct.Struct("<Q")
_HEADER = struct.Struct("<8sQQQ")
_HEAD = struct.Struct("<QQQqQ")
HEADER_BYTES = _HEADER.size + _SEAL.size
HEAD_BYTES = _HEAD.size + _SEAL.size


class UnreadableError(Exception):
    """Bytes that are not a header or frame; `short` if they may be the beginning of one."""

    def __init__(self, what: str, *, short: bool = False) -> None:
        super().__init__(what)
        self.short = short


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """The header of a copy: its frames begin after the change `discarded`."""

    generation: int
    discarded: int

    def pack(self) -> bytes:
        """The header's bytes."""
        return _sealed(_HEADER.pack(_MAGIC, SCHEMA, self.generation, self.discarded))


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The header of a frame: the length of its lines, the numbers of its changes, their time, and a checksum."""

    length: int
    first: int
    count: int
    at: int
    """Microseconds since 1970, UTC."""
    seal: int
    """The checksum of the lines."""

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def pack(self) -> bytes:
        """The header's bytes."""
        return _sealed(_HEAD.pack(self.length, self.first, self.count, self.at, self.seal))

    @property
    def names(self) -> str:
        return f"change {self.first:,}" if self.count == 1 else f"changes {self.first:,} to {self.last:,}"


def read_header(content: bytes) -> JournalHeader:
    """The header in these bytes; raises UnreadableError, or StoreForeignError for a newer schema."""
    packed = _unsealed(content, HEADER_BYTES, "its header")
    magic, schema, generation, discarded = _HEADER.unpack(packed)
    if magic != _MAGIC:
        raise UnreadableError("it is not a journal of live changes")
    if schema > SCHEMA:
        message = f"the journal has schema {schema}, but this program reads {SCHEMA}; use the program that wrote it"
        raise StoreForeignError(message)
    return JournalHeader(generation, discarded)


def pack_frame(first: int, at: int, lines: Sequence[bytes]) -> bytes:
    """The frame of changes numbered from `first` on."""
    payload = b"\n".join(lines)
    return FrameHeader(len(payload), first, len(lines), at, xxhash.xxh3_64_intdigest(payload)).pack() + payload


def read_head(content: bytes, first: int) -> FrameHeader:
    """The frame header that begins with the change `first`; raises UnreadableError for other bytes."""
    head = FrameHeader(*_HEAD.unpack(_unsealed(content, HEAD_BYTES, f"what follows change {first - 1:,}")))
    if head.first != first:
        raise UnreadableError(f"found {head.names} in place of change {first:,}")
    return head


def check_lines(head: FrameHeader, payload: bytes) -> None:
    """Raises UnreadableError if the lines do not match their header."""
    if len(payload) != head.length:
        raise UnreadableError(f"{head.names} cannot be read")
    if xxhash.xxh3_64_intdigest(payload) != head.seal:
        raise UnreadableError(
            f"{head.names} {'has' if head.count == 1 else 'have'} another checksum than when it was written"
        )


def _sealed(packed: bytes) -> bytes:
    return packed + _SEAL.pack(xxhash.xxh3_64_intdigest(packed))


def _unsealed(content: bytes, length: int, name: str) -> bytes:
    if len(content) < length:
        raise UnreadableError(f"{name} is cut off", short=True)
    packed, seal = content[: -_SEAL.size], content[-_SEAL.size :]
    if _SEAL.pack(xxhash.xxh3_64_intdigest(packed)) != seal:
        raise UnreadableError(f"{name} has another checksum than when it was written")
    return packed


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class JournalCheck:
    """The result of reading both copies completely."""

    sources: Sequence[JournalCopy]
    """The copies to read from."""
    end: Position
    even: bool
    """Whether both copies are equal and intact."""
    faults: dict[Path, str]
    """Damage to one copy that the other copy makes up for."""
    skip: int
    """The number up to which changes need not be intact."""


def check(copies: JournalCopies, skip: int, visit: Callable[[Frame], object] = id) -> JournalCheck:
    """Reads both copies; raises StoreDamagedError if a change after `skip` is in neither."""
    found: list[JournalCheck] = []
    faults: dict[Path, str] = {}
    errors: list[StoreDamagedError] = []
    reached = 0
    for sources in copies.sources():
        walk = FrameReader(sources, beginning(sources), skip=skip, thorough=True)
        try:
            for frame in walk.frames():
                visit(frame)
            # A journal without changes and without a second copy: its writer was killed while creating it.
            fresh = walk.place.last == 0 and walk.place.offset == HEADER_BYTES
            unusable = {} if fresh else {copy.path: copy.fault for copy in copies.both if copy.fault}
            found.append(JournalCheck(sources, walk.place, walk.even, unusable | walk.faults, skip))
        except StoreDamagedError as error:
            errors.append(error)
            faults[sources[0].path] = f"it cannot be read behind change {walk.place.last:,}"
        reached = max(reached, walk.place.last)
    # An interrupted rewrite leaves the old copy, which has everything that the new one should have.
    for checked in found:
        if checked.end.last == reached:
            checked.faults.update(faults)
            return checked
        faults[checked.sources[0].path] = f"it has lost its end behind change {checked.end.last:,}"
    raise errors[0]


def repair_copies(copies: JournalCopies, skip: int) -> tuple[JournalCheck, list[str], OSError | None]:
    """Makes both copies intact and equal: rewrites a damaged one, cuts off an unfinished end.

    Returns the check, notices of damage, and the error that prevented the repair. Raises StoreDamagedError if a change
    after `skip` is in neither.
    """
    checked = check(copies, skip)
    error = None
    try:
        for copy, other in (copies.both, copies.both[::-1]):
            is_usable = copy in checked.sources and copy.path not in checked.faults
            if not is_usable or copy.size < checked.end.offset:
                _replace(copy.path, other.path, _content(checked, header_of(checked.sources)))
            elif copy.size > checked.end.offset:
                _cut(copy.path, checked.end.offset)
    except OSError as raised:
        error = raised
    return checked, [_notice(path, fault, error) for path, fault in checked.faults.items()], error


def list_problems(checked: JournalCheck) -> list[str]:
    """Problems of the copies, for callers that do not repair them."""
    return [
        f"{path} is damaged: {fault}; nothing is lost: {_other(path)} has the live changes, and the next change "
        "repairs the file"
        for path, fault in checked.faults.items()
    ]


def _other(path: Path) -> str:
    return COPY if path.name == JOURNAL else JOURNAL


def _notice(path: Path, fault: str, error: OSError | None) -> str:
    other = _other(path)
    if error is None:
        return f"{path} was damaged: {fault}; it was rewritten from {other}, and no live change is lost"
    return (
        f"{path} is damaged: {fault}; no live change is lost, {other} is read instead, but the file cannot be "
        f"rewritten ({error.strerror}): check the disk and the permissions of the folder"
    )


def rewrite(copies: JournalCopies, forget: int, generation: int) -> Position:
    """Rewrites both copies, one after the other, with only the changes after `forget`; returns their end.

    After a crash in between, one copy has the old generation and will be repaired. Raises OSError.
    """
    checked = check(copies, forget)
    old = header_of(checked.sources)
    header = JournalHeader(max(generation, old.generation + 1), forget)
    for copy, other in (copies.both, copies.both[::-1]):
        size = _replace(copy.path, other.path, _content(checked, header))
    return Position(header.generation, size, max(checked.end.last, forget))


def make(root: Path, generation: int) -> None:
    """Creates an empty journal; raises StoreError if it cannot be written."""
    try:
        for name in (JOURNAL, COPY):
            _replace(root / name, None, [JournalHeader(generation, 0).pack()])
    except OSError as error:
        path = root / JOURNAL
        raise StoreError(
            f"the journal {path} cannot be created ({error.strerror}); the change was not stored"
        ) from error


def append(root: Path, end: Position, frame: bytes) -> None:
    """Makes a frame durable in one copy, then in the other; if it raises StoreError, the frame is in neither."""
    paths = (root / JOURNAL, root / COPY)
    try:
        for path in paths:
            _write_at(path, end.offset, frame)
    except OSError as error:
        for path in reversed(paths):
            with suppress(OSError):
                _cut(path, end.offset)
        if error.errno in _FULL:
            message = f"the disk of {paths[0]} is full; the change was not stored: free some space and try again"
        else:
            reason = f"{paths[0]} cannot be written to ({error.strerror})"
            message = f"{reason}; the change was not stored: check the permissions"
        raise StoreError(message) from error


def _content(checked: JournalCheck, header: JournalHeader) -> Iterator[bytes]:
    """The content of a copy with this header; damaged lines that may be skipped keep their checksum."""
    yield header.pack()
    forget = header.discarded
    for frame in FrameReader(checked.sources, beginning(checked.sources), skip=checked.skip, thorough=True).frames():
        head = frame.head
        if head.first > forget:
            yield head.pack() + frame.payload
        elif head.last > forget:
            yield pack_frame(forget + 1, head.at, frame.payload.split(b"\n")[forget + 1 - head.first :])


def _replace(path: Path, other: Path | None, content: Iterator[bytes] | Sequence[bytes]) -> int:
    """Replaces a file atomically and returns its size."""
    with atomic_file(path) as file:
        for piece in content:
            file.write(piece)
        _take_rights(file.fileno(), path, other)
        return file.tell()


def _take_rights(file: int, *models: Path | None) -> None:
    """Copies mode and owner from the old file or the other copy, so that its writers can still write."""
    for model in models:
        with suppress(OSError):
            if model is not None:
                state = model.stat()
                os.fchmod(file, state.st_mode & 0o777)
                os.fchown(file, state.st_uid, state.st_gid)
                return


def _write_at(path: Path, offset: int, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        left = memoryview(content)
        while left:
            written = os.pwrite(file, left, offset)
            left, offset = left[written:], offset + written
        os.fsync(file)
    finally:
        os.close(file)


def _cut(path: Path, size: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(file, size)
        os.fsync(file)
    finally:
        os.close(file)


_BATCH_ENTRIES = 1_000
_BATCH_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Frame:
    """The changes of one append; `payload` has a line for each, or is empty if they were not read."""

    head: FrameHeader
    payload: bytes


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Some frames, and the position after them; `waits` if the next frame is unfinished."""

    frames: tuple[Frame, ...]
    place: Position
    even: bool = True
    waits: bool = False


class FrameReader:
    """Reads frames from one or two copies of one generation.

    `strict` ends at the first difference: frames before it are in both copies, so no writer withdraws them. Otherwise,
    which needs the lock, each frame is read from a copy that has it intact; StoreDamagedError is raised if neither
    has. Lines up to the change `skip` may be damaged; only a `thorough` reader reads them.
    """

    def __init__(
        self, copies: Sequence[JournalCopy], place: Position, *, skip: int, strict: bool = False, thorough: bool = False
    ) -> None:
        self._copies = copies
        self.skip, self._strict, self._thorough = skip, strict, thorough
        self._lacking = 0
        self.place = place
        """The position after the last frame that was returned."""
        self.even = len(copies) == 2
        """Whether both copies were equal so far."""
        self.behind = False
        """Whether the second copy ends early, as during an append."""
        self.faults: dict[Path, str] = {}
        """The first damage of each copy for which the other copy was read instead."""

    def frames(self) -> Iterator[Frame]:
        """The frames from the current position on."""
        while (frame := self._next()) is not None:
            offset = self.place.offset + HEAD_BYTES + frame.head.length
            self.place = Position(self.place.generation, offset, frame.head.last)
            yield frame

    def _next(self) -> Frame | None:
        found = [self._look(copy) for copy in self._copies]
        frames = [each for each in found if isinstance(each, Frame)]
        if not frames:
            frame = self._passed_over()
            if frame is None:
                self._end([each for each in found if isinstance(each, UnreadableError)])
            return frame
        for copy, each in zip(self._copies, found, strict=True):
            if isinstance(each, UnreadableError):
                self._differs(copy, each)
        self.even = self.even and frames[0] == frames[-1]
        if self._strict and not self.even:
            return None
        if frames[0] != frames[-1]:
            raise damaged(self._root, f"{COPY} has other changes behind change {self.place.last:,}")
        return frames[0]

    def _look(self, copy: JournalCopy) -> Frame | UnreadableError:
        try:
            head = self._head(copy)
            if not self._thorough and head.last <= self.skip:
                return Frame(head, b"")
            payload = copy.read(self.place.offset + HEAD_BYTES, head.length)
            check_lines(head, payload)
            return Frame(head, payload)
        except UnreadableError as error:
            return error
        except OSError as error:
            return UnreadableError(f"what follows change {self.place.last:,} cannot be read ({error.strerror})")

    def _head(self, copy: JournalCopy) -> FrameHeader:
        offset = self.place.offset
        head = read_head(copy.read(offset, HEAD_BYTES), self.place.last + 1)
        if offset + HEAD_BYTES + head.length > copy.size:
            raise UnreadableError(f"{head.names} are cut off", short=True)
        return head

    def _passed_over(self) -> Frame | None:
        """A frame whose lines are damaged in both copies, but are not needed."""
        for copy in self._copies:
            try:
                head = self._head(copy)
                if head.last <= self.skip:
                    return Frame(head, copy.read(self.place.offset + HEAD_BYTES, head.length))
            except (UnreadableError, OSError):
                continue
        return None

    def _differs(self, copy: JournalCopy, error: UnreadableError) -> None:
        self.even = False
        second = copy is not self._copies[0]
        self._lacking += error.short and second
        self.behind = self._lacking == 1
        # The last frame of the first copy was left by a killed writer: the second copy is not damaged.
        if not self.behind:
            self.faults.setdefault(copy.path, f"it has lost its end ({error})" if error.short else str(error))

    def _end(self, errors: Sequence[UnreadableError]) -> None:
        """Checks the end: no copy has another complete frame."""
        offset = self.place.offset
        sizes = [copy.size for copy in self._copies]
        if all(size == offset for size in sizes):
            return
        self.even, self.behind = False, errors[-1].short
        # A killed writer's unfinished frame is cut off, or it is not in the second copy yet, which ends here.
        unfinished = errors[-1].short and (errors[0].short or sizes[-1] >= offset)
        if not self._strict and not unfinished:
            what = " and ".join(f"in {copy.path.name} {each}" for copy, each in zip(self._copies, errors, strict=True))
            raise damaged(self._root, what)

    @property
    def _root(self) -> Path:
        return self._copies[0].path.parent


def read_frames(sources: Sequence[JournalCopy], place: Position, after: int, *, strict: bool = True) -> FrameBatch:
    """The next batch of frames with changes after `after`; starts from the beginning in another generation."""
    start = beginning(sources)
    walk = FrameReader(sources, place if place.generation == start.generation else start, skip=after, strict=strict)
    frames, entries, size = [], 0, 0
    for frame in walk.frames():
        if frame.head.last > after:
            frames.append(frame)
            entries, size = entries + frame.head.count, size + frame.head.length
        if entries >= _BATCH_ENTRIES or size > _BATCH_BYTES:
            break
    return FrameBatch(tuple(frames), walk.place, walk.even, walk.behind)
