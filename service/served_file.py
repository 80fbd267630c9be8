"""A small file beside the index that an engine answers by, taken up when it was replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from retrieval.errors import StoreError
from retrieval.manifest import file_stamp

T = TypeVar("T")


class ServedFile(Generic[T]):
    """What such a file says, read again when it was replaced. Thread-safe."""

    def __init__(self, path: Path, read: Callable[[], T], nothing: T, lost: str) -> None:
        """`read` raises StoreError for a file that cannot be used: `nothing` stands for it then, and a notice that
        begins with `lost` says why."""
        self._path, self._read, self._nothing, self._lost = path, read, nothing, lost
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self.now = nothing
        self.notices: tuple[str, ...] = ()
        """Why nothing is known although there is a file, or none."""

    def look(self) -> None:
        """Takes up a file that was written since the last look."""
        seen = file_stamp(self._path)
        with self._lock:
            if seen == self._seen:
                return
            try:
                self.now, self.notices = self._read(), ()
            except StoreError as error:
                self.now, self.notices = self._nothing, (f"{self._lost}: {error}",)
            self._seen = seen
