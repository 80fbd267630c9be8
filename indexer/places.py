"""Where each product stood in the feeds, by its row: on disk, because few are ever asked for."""

from __future__ import annotations

import struct
from pathlib import Path

_PLACE = struct.Struct("<iQ")


class Places:
    """A file's number and a line for each row, written in order and read back in any."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w+b")

    def add(self, file: int, line: int) -> None:
        """Takes that of the next row."""
        self._file.write(_PLACE.pack(file, line))

    def __getitem__(self, row: int) -> tuple[int, int]:
        self._file.seek(row * _PLACE.size)
        file, line = _PLACE.unpack(self._file.read(_PLACE.size))
        return file, line
