"""Where each product stood in the feeds, by its row: on disk, because few are ever asked for."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

_PLACE = struct.Struct("<iQ")


class Places:
    """A file's number and a line for each row, written in order and read back in any."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w+b")

    def add(self, places: Iterable[tuple[int, int]]) -> None:
        """Takes those of the next rows."""
        self._file.write(b"".join(_PLACE.pack(*place) for place in places))

    def __getitem__(self, row: int) -> tuple[int, int]:
        self._file.seek(row * _PLACE.size)
        file, line = _PLACE.unpack(self._file.read(_PLACE.size))
        return file, line
