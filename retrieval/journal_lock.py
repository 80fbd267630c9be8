"""The lock under which live changes and events are written: one writer at a time over all processes."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.errors import StoreError, StoreLockedError

_PAUSE_SECONDS = 0.0005
_LONGEST_PAUSE_SECONDS = 0.002


@contextmanager
def journal_lock(folder: Path, wait_seconds: float | None, what: str = "the live changes") -> Iterator[None]:
    """Holds the lock of the folder itself, so there is no lock file to lose; a kill frees it.

    Who may only read the folder can hold it, too. Without a limit to the wait, processes come in the order in which
    they asked. Raises StoreLockedError when others hold it for that long, StoreError where the folder cannot be locked.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{folder} cannot be locked ({error.strerror}); mind the rights to it") from error
    try:
        _lock(folder, descriptor, wait_seconds, what)
        yield
    finally:
        # Not by closing it alone: a process that was forked meanwhile would hold the lock on.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(folder: Path, descriptor: int, wait_seconds: float | None, what: str) -> None:
    until, pause = time.monotonic() + (wait_seconds or 0.0), _PAUSE_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait_seconds is None else fcntl.LOCK_NB))
        except BlockingIOError as error:
            if time.monotonic() >= until:
                message = f"{what} of {folder} are being written by another process for {wait_seconds:g} s"
                raise StoreLockedError(f"{message}; try again") from error
        except OSError as error:
            raise StoreError(f"{folder} cannot be locked ({error.strerror}); keep it on a local disk") from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
