"""The lock of an index directory: one writer at a time, with a note that names it.

The lock decides; the note is only for messages, so a stale note of a killed process does no harm.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import filelock
import msgspec

from shelfwise.retrieval.errors import StoreError, StoreLockedError
from shelfwise.retrieval.store.files import write_durably

LOCK = "lock"
HOLDER = "lock.json"
_NOTE_SECONDS = 0.5
"""The seconds to wait for the note of a process that has just taken the lock."""


class LockHolder(msgspec.Struct, frozen=True):
    """The process that holds a lock, and its purpose."""

    purpose: str
    pid: int
    host: str
    user: str
    program: str
    since: str
    """ISO 8601, UTC."""

    def __str__(self) -> str:
        return f"{self.program}, process {self.pid} of {self.user} on {self.host}, since {self.since}"

    @property
    def may_live(self) -> bool:
        """Whether the process may still run; always true for another machine."""
        if self.host != _writable(socket.gethostname()):
            return True
        if self.pid < 1:
            return False
        try:
            # A process of another user may not be signalled, so it exists.
            with suppress(PermissionError):
                os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        return True


@contextmanager
def hold_lock(folder: Path, purpose: str, wait: float = 0.0) -> Iterator[None]:
    """Holds the lock of a directory.

    Raises StoreLockedError with the holder if it is not free within `wait` seconds, StoreError if it cannot be taken.
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise StoreLockedError(_held_by_another(folder)) from error
    except OSError as error:
        message = (
            f"{folder / LOCK} cannot be locked ({error.strerror}); check the disk and the permissions of its folder"
        )
        raise StoreError(message) from error
    note = folder / HOLDER
    try:
        # A full disk is no reason to refuse work that may free it: the lock works without its note.
        with suppress(OSError):
            write_durably(note, msgspec.json.encode(_this_process(purpose)))
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def lock_holder(folder: Path) -> LockHolder | None:
    """The holder according to the lock's note; None without a note, or if the process has ended."""
    try:
        holder = msgspec.json.decode((folder / HOLDER).read_bytes(), type=LockHolder)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return holder if holder.may_live else None


def _held_by_another(folder: Path) -> str:
    until = time.monotonic() + _NOTE_SECONDS
    while not (holder := lock_holder(folder)) and time.monotonic() < until:
        time.sleep(_NOTE_SECONDS / 10)
    if holder is None:
        return f"another program is using {folder}; wait for it to end"
    return f"a {holder.purpose} is running in {folder}: {holder}; wait for it to end"


def _this_process(purpose: str) -> LockHolder:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    program = Path(sys.argv[0]).name or Path(sys.executable).name
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return LockHolder(purpose, os.getpid(), _writable(socket.gethostname()), _writable(user), _writable(program), since)


def _writable(name: str) -> str:
    """A name of a program or machine, which is bytes and need not be UTF-8, in a form that UTF-8 can encode."""
    return name.encode("utf-8", "backslashreplace").decode()
