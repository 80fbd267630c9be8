"""Writing the two copies of the journal of live changes, and mending one from the other. All of it under the lock."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import StoreDamagedError, StoreError
from retrieval.journal_copies import COPY, JOURNAL, Copies, Copy, Place, beginning, header_of
from retrieval.journal_frames import HEADER_BYTES, Header, packed_frame
from retrieval.journal_walk import Frame, Walk
from retrieval.manifest import open_scratch, scratch_path, sync

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Checked:
    """Both copies, read from beginning to end."""

    sources: Sequence[Copy]
    """What to read from."""
    end: Place
    even: bool
    """Whether both are the same, and whole."""
    faults: dict[Path, str]
    """What is wrong with a copy of which the other has all that is missing."""
    skip: int
    """The changes up to here need not be right."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of mending: what is to be read from, notices of what was damaged, and why it could not be mended."""

    checked: Checked
    notices: tuple[str, ...] = ()
    error: OSError | None = None


def check(copies: Copies, skip: int, visit: Callable[[Frame], object] = id) -> Checked:
    """Reads all of both copies; raises StoreDamagedError where a change behind `skip` is in neither."""
    found: list[Checked] = []
    faults: dict[Path, str] = {}
    errors: list[StoreDamagedError] = []
    reached = 0
    for sources in copies.sources():
        walk = Walk(sources, beginning(sources), skip=skip, thorough=True)
        try:
            found.append(_checked(copies, walk, sources, visit))
        except StoreDamagedError as error:
            errors.append(error)
            faults[sources[0].path] = f"it cannot be read behind change {walk.place.last:,}"
        reached = max(reached, walk.place.last)
    # A rewriting that was interrupted leaves the old copy, in which is all that should be in the new one.
    for checked in found:
        if checked.end.last == reached:
            checked.faults.update(faults)
            return checked
        faults[checked.sources[0].path] = f"it has lost its end behind change {checked.end.last:,}"
    raise errors[0]


def _checked(copies: Copies, walk: Walk, sources: Sequence[Copy], visit: Callable[[Frame], object]) -> Checked:
    for frame in walk.frames():
        visit(frame)
    # A journal without changes whose second copy is missing: a writer was killed while it made them.
    fresh = walk.place.last == 0 and walk.place.offset == HEADER_BYTES
    faults = {} if fresh else {copy.path: copy.fault for copy in copies.both if copy.fault}
    return Checked(sources, walk.place, walk.even, faults | walk.faults, walk.skip)


def mend(copies: Copies, skip: int) -> Mended:
    """Makes both copies whole and the same: one that is damaged is written anew, an unfinished end is cut off.

    Raises StoreDamagedError where a change behind `skip` is in neither.
    """
    checked = check(copies, skip)
    if checked.even:
        return Mended(checked)
    error = None
    try:
        for copy in copies.both:
            _mend(copy, copies, checked)
    except OSError as raised:
        error = raised
    return Mended(checked, tuple(_notice(path, fault, error) for path, fault in checked.faults.items()), error)


def _mend(copy: Copy, copies: Copies, checked: Checked) -> None:
    if copy in checked.sources and copy.path not in checked.faults and copy.size >= checked.end.offset:
        if copy.size > checked.end.offset:
            _cut(copy.path, checked.end.offset)
        return
    other = copies.second if copy is copies.first else copies.first
    _replace(copy.path, other.path, _content(checked, header_of(checked.sources)))


def unmended(checked: Checked) -> list[str]:
    """What is wrong with a copy, for who may not mend it."""
    return [
        f"{path} is damaged: {fault}; nothing is lost: {_other(path)} has the live changes, and the next one that is "
        "taken mends the file"
        for path, fault in checked.faults.items()
    ]


def _other(path: Path) -> str:
    return COPY if path.name == JOURNAL else JOURNAL


def _notice(path: Path, fault: str, error: OSError | None) -> str:
    other = _other(path)
    if error is None:
        return f"{path} was damaged: {fault}; it was written anew from {other}, and no live change is lost"
    return (
        f"{path} is damaged: {fault}; no live change is lost, {other} is read in its place, but it cannot be written "
        f"anew ({error.strerror}): see to the disk and to the rights to the folder"
    )


def rewrite(copies: Copies, forget: int, generation: int) -> Place:
    """Replaces both copies, one after the other, by such as hold only the changes behind `forget`; returns their end.

    A crash in between leaves one of the old generation, which is then mended. Raises OSError.
    """
    checked = check(copies, forget)
    old = header_of(checked.sources)
    header = Header(max(generation, old.generation + 1), forget)
    for copy, other in (copies.both, copies.both[::-1]):
        size = _replace(copy.path, other.path, _content(checked, header))
    return Place(header.generation, size, max(checked.end.last, forget))


def make(root: Path, generation: int) -> None:
    """Makes an empty journal; raises StoreError where it cannot be written."""
    try:
        for name in (JOURNAL, COPY):
            _replace(root / name, None, [Header(generation, 0).packed()])
    except OSError as error:
        path = root / JOURNAL
        raise StoreError(f"the journal {path} cannot be made ({error.strerror}); the change is not taken") from error


def append(root: Path, end: Place, frame: bytes) -> None:
    """Makes a frame durable in one copy, then in the other; raises StoreError, and then it is in neither."""
    paths = (root / JOURNAL, root / COPY)
    try:
        for path in paths:
            _write_at(path, end.offset, frame)
    except OSError as error:
        for path in reversed(paths):
            with suppress(OSError):
                _cut(path, end.offset)
        raise _not_taken(root, error) from error


def _not_taken(root: Path, error: OSError) -> StoreError:
    path = root / JOURNAL
    if error.errno in _FULL:
        return StoreError(f"the disk of {path} is full; nothing of the change is taken: free some space, try again")
    return StoreError(f"{path} cannot be written to ({error.strerror}); the change is not taken: mind the rights to it")


def _content(checked: Checked, header: Header) -> Iterator[bytes]:
    """The bytes of a copy that has this header; lines that need not be right stay as they are, under their old seal."""
    yield header.packed()
    forget = header.forgotten
    for frame in Walk(checked.sources, beginning(checked.sources), skip=checked.skip, thorough=True).frames():
        head = frame.head
        if head.first > forget:
            yield head.packed() + frame.payload
        elif head.last > forget:
            yield packed_frame(forget + 1, head.at, frame.payload.split(b"\n")[forget + 1 - head.first :])


def _replace(path: Path, other: Path | None, content: Iterator[bytes] | Sequence[bytes]) -> int:
    """Writes a file anew, at once, and returns its size."""
    scratch = scratch_path(path)
    try:
        with open_scratch(scratch) as file:
            for piece in content:
                file.write(piece)
            _take_rights(file.fileno(), path, other)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return size


def _take_rights(file: int, *models: Path | None) -> None:
    """Those of the old file, or of the other copy: who could write live changes before still can."""
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
