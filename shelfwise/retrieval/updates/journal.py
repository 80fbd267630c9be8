"""The journal of live changes: a change is durable before it is acknowledged.

It is kept twice, in STORE/live.log and STORE/live.log.copy. Each append has a checksum in both, so damage to one copy
is detected, the other copy is read instead, and the damaged one is repaired.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from shelfwise.retrieval.errors import ChangeError, StoreDamagedError, StoreError, StoreLockedError
from shelfwise.retrieval.store.files import file_stamp
from shelfwise.retrieval.updates.changes import Change, change_from_json, change_to_json
from shelfwise.retrieval.updates.journal_files import (
    COPY,
    JOURNAL,
    Frame,
    FrameBatch,
    JournalCheck,
    JournalCopies,
    Position,
    append,
    beginning,
    check,
    damaged,
    header_of,
    list_problems,
    make,
    pack_frame,
    read_frames,
    repair_copies,
    rewrite,
)

MAX_CALL_BYTES = 1_000_000_000
"""The largest size of the changes of one append, in bytes."""
_WAIT_SECONDS = 10.0
"""The wait for other writers, each of which holds the journal for some milliseconds."""
_REPAIR_WAIT_SECONDS = 1.0
"""The wait for other writers of a reader that finds one copy damaged."""
_READER_WAIT_SECONDS = 0.1
"""The wait for an append that is in progress, or was not finished."""
_NOTHING = Position(0, 0, 0)
_ALL = 2**63


def _now() -> datetime:
    return datetime.now(UTC)


class OutrunError(Exception):
    """Another process stored a change first; read it and try again."""


class Journal:
    """The live changes of a store, in order. No file is created before the first append.

    Threads and processes may use it at the same time. Reading takes no lock while both copies are intact. All methods
    raise StoreDamagedError if a change is damaged in both copies, StoreForeignError for a newer schema,
    StoreLockedError if others write for more than 10 seconds, and StoreError for other failures.
    """

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = _now) -> None:
        self._root = root
        self._paths = root / JOURNAL, root / COPY
        self._clock = clock
        self._closed = False
        self._writing = threading.Lock()
        self._known = _NOTHING
        """The furthest position that was read or written."""
        self._checked = _NOTHING
        """The position up to which both copies were found to be intact before an append."""
        self._notices: dict[str, None] = {}

    @property
    def notices(self) -> tuple[str, ...]:
        """Damage to one copy, with its repair or the reason why the repair failed."""
        return tuple(self._notices)

    def append(self, changes: Sequence[Change], *, above: int = 0, after: int | None = None) -> list[int]:
        """Appends changes, all or none, and returns their numbers once they are durable in both copies.

        Numbers continue after `above`, the last change in the serving version, even if the journal was lost. Raises
        ChangeError for an invalid change, StoreError if nothing could be written, and OutrunError if there is a change
        after the one numbered `after`.
        """
        lines = [change_to_json(change) for change in changes]
        if not lines:
            return []
        if sum(map(len, lines)) > MAX_CALL_BYTES:
            raise ChangeError(f"the changes of one call have more than {MAX_CALL_BYTES:,} bytes; use several calls")
        with self._locked():
            end = self._find_end(above, create=True)
            if after is not None and end.last > max(after, above):
                raise OutrunError
            if end.last < above:
                end = self._rewrite(above)
            first = end.last + 1
            frame = pack_frame(first, self._moment(), lines)
            append(self._root, end, frame)
            self._known = self._checked = Position(end.generation, end.offset + len(frame), end.last + len(lines))
        return list(range(first, first + len(lines)))

    def since(self, seq: int) -> Iterator[JournalEntry]:
        """The changes with higher numbers, in order; needs memory for a few megabytes or one append."""
        known = self._known
        place = known if seq >= known.last else _NOTHING
        while (part := self._next(place, seq)).frames:
            for frame in part.frames:
                yield from frame_entries(frame, self._root, seq)
                seq = frame.head.last
            place = part.place

    def last(self) -> int:
        """The highest number ever assigned, 0 before the first."""
        return self._next(self._known, _ALL).place.last

    def forget(self, up_to: int) -> int:
        """Removes the changes up to a number and returns their count; numbers are never reused."""
        with JournalCopies(self._root) as copies:
            self._check_open()
            if copies.none:
                return 0
        with self._locked():
            up_to = min(up_to, self._find_end(up_to).last)
            with JournalCopies(self._root) as copies:
                discarded = header_of(copies.sources()[0]).discarded
            if up_to <= discarded:
                return 0
            self._known = self._checked = self._rewrite(up_to)
            return up_to - discarded

    def changed_stamp(self) -> tuple[int, ...]:
        """A value that changes with every append or discard by any process; takes some microseconds."""
        self._check_open()
        # For the first copy, only whether it is the same file: during an append, nothing is new yet.
        (_, first, _), second = map(file_stamp, self._paths)
        return first, *second

    def problems(self, above: int = 0) -> list[str]:
        """Problems of the journal, for `shelfwise index verify`; reads both copies completely and changes nothing.

        Damage to changes up to `above`, which the serving version has, is not a problem.
        """
        try:
            with JournalCopies(self._root) as copies:
                if copies.none:
                    return []
            with lock_folder(self._root, _WAIT_SECONDS), JournalCopies(self._root) as copies:
                return list_problems(check(copies, above, lambda frame: list(frame_entries(frame, self._root, above))))
        except StoreError as error:
            return [str(error)]

    def close(self) -> None:
        """Closes the journal; later calls fail."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the journal {self._root / JOURNAL} is closed; open it again")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the write lock: threads queue, processes poll."""
        self._check_open()
        with self._writing, lock_folder(self._root, _WAIT_SECONDS):
            yield

    def _moment(self) -> int:
        """The time in the unit of frames."""
        return (self._clock() - _EPOCH) // timedelta(microseconds=1)

    def _find_end(self, skip: int, *, create: bool = False) -> Position:
        """The position after the last change, once both copies are intact and equal. Needs the lock."""
        with JournalCopies(self._root) as copies:
            if not copies.none:
                return self._end_of(copies, skip)
        if create:
            make(self._root, max(1, self._moment()))
            with JournalCopies(self._root) as copies:
                return beginning(copies.sources()[0])
        return _NOTHING

    def _end_of(self, copies: JournalCopies, skip: int) -> Position:
        sources = copies.sources()[0]
        if self._checked.generation == beginning(sources).generation:
            part = read_frames(sources, self._checked, _ALL)
            if part.even:
                return part.place
        checked, error = self._repair(copies, skip)
        if error:
            message = f"{self._root / JOURNAL} is damaged and cannot be repaired ({error.strerror})"
            raise StoreError(f"{message}; the change was not stored: check the disk and its permissions") from error
        return checked.end

    def _repair(self, copies: JournalCopies, skip: int) -> tuple[JournalCheck, OSError | None]:
        checked, notices, error = repair_copies(copies, skip)
        self._notices |= dict.fromkeys(notices)
        end = checked.end
        if end.generation == self._known.generation and end.last < self._known.last:
            raise damaged(self._root, f"changes up to {self._known.last:,} were there, now it ends at {end.last:,}")
        return checked, error

    def _rewrite(self, forget: int) -> Position:
        try:
            with JournalCopies(self._root) as copies:
                return rewrite(copies, forget, self._moment())
        except OSError as error:
            path = self._root / JOURNAL
            raise StoreError(f"{path} cannot be rewritten ({error.strerror}); nothing is changed") from error

    def _next(self, place: Position, after: int) -> FrameBatch:
        """The next frames with changes after `after`; none only at the end."""
        self._check_open()
        with JournalCopies(self._root) as copies:
            if copies.none:
                return FrameBatch((), _NOTHING)
            part = read_frames(copies.sources()[0], place, after)
        if not part.even and not part.frames:
            try:
                with lock_folder(self._root, _READER_WAIT_SECONDS if part.waits else _REPAIR_WAIT_SECONDS):
                    part = self._locked_next(place, after)
            except StoreLockedError:
                # An append that takes this long has not been acknowledged yet.
                if not part.waits:
                    raise
        if part.place.generation != self._known.generation or part.place.last > self._known.last:
            self._known = part.place
        return part

    def _locked_next(self, place: Position, after: int) -> FrameBatch:
        with JournalCopies(self._root) as copies:
            part = read_frames(copies.sources()[0], place, after)
            if part.even or part.frames:
                return part
            checked, error = self._repair(copies, after)
            if error:
                return read_frames(checked.sources, place, after, strict=False)
        with JournalCopies(self._root) as copies:
            return read_frames(copies.sources()[0], place, after)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An appended change, its unique number and its time (UTC)."""

    seq: int
    at: datetime
    change: Change


def frame_entries(frame: Frame, root: Path, above: int = 0) -> Iterator[JournalEntry]:
    """The changes of a frame after a number; raises StoreDamagedError for invalid ones."""
    head = frame.head
    lines = frame.payload.split(b"\n")
    if len(lines) != head.count:
        raise damaged(root, f"{head.names} are {len(lines):,} lines")
    for seq, line in enumerate(lines, head.first):
        if seq > above:
            try:
                yield JournalEntry(seq, _EPOCH + timedelta(microseconds=head.at), change_from_json(line))
            except (StoreDamagedError, OverflowError) as error:
                raise damaged(root, f"change {seq:,}: {error}") from error


_PAUSE_SECONDS = 0.0005
_LONGEST_PAUSE_SECONDS = 0.002


@contextmanager
def lock_folder(folder: Path, wait_seconds: float | None, what: str = "the live changes") -> Iterator[None]:
    """Holds the lock of the folder itself, so there is no lock file to lose; the lock ends with the process.

    Read access suffices. Without a time limit, processes get the lock in the order of their requests. Raises
    StoreLockedError after the time limit, and StoreError if the folder cannot be locked.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{folder} cannot be locked ({error.strerror}); check its permissions") from error
    try:
        _lock(folder, descriptor, wait_seconds, what)
        yield
    finally:
        # Closing is not enough: a process forked in the meantime would keep the lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(folder: Path, descriptor: int, wait_seconds: float | None, what: str) -> None:
    until, pause = time.monotonic() + (wait_seconds or 0.0), _PAUSE_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait_seconds is None else fcntl.LOCK_NB))
        except BlockingIOError as error:
            if time.monotonic() >= until:
                message = f"{what} of {folder} have been locked by another process for {wait_seconds:g} s"
                raise StoreLockedError(f"{message}; try again") from error
        except OSError as error:
            raise StoreError(f"{folder} cannot be locked ({error.strerror}); keep it on a local disk") from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
