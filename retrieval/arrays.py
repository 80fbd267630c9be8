"""Arrays on disk: reading one back, or saying that it is damaged; writing one whose length is not known yet."""

from __future__ import annotations

import tokenize
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import StoreDamagedError


def load_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """The array that numpy saved at `path`, read or mapped; raises StoreDamagedError for anything else."""
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError) as error:
        # numpy reads a header as Python source and lets that parser's errors through.
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error
    # A plain view of the mapped file: numpy's own memmap class makes every look-up slower.
    return np.asarray(array)


class GrowingArray:
    """An array on disk that rows are added to, as numpy saves one. How many they are is written into its header in the
    end, for which numpy leaves room."""

    def __init__(self, path: Path, dtype: np.dtype[Any], columns: int | None = None) -> None:
        """`columns` is the length of a row; None makes an array of numbers."""
        self._file = path.open("wb")
        self._dtype = dtype
        self._row = () if columns is None else (columns,)
        self._count = 0
        self._write_header()
        self._begin = self._file.tell()

    def add(self, rows: NDArray[Any]) -> None:
        """Adds rows; raises ValueError for those of another shape or kind."""
        if rows.shape[1:] != self._row or rows.dtype != self._dtype:
            takes = f"{self._dtype} rows of shape {self._row}"
            raise ValueError(f"{self._file.name} takes {takes}, not {rows.dtype}{rows.shape}")
        self._file.write(np.ascontiguousarray(rows).data)
        self._count += len(rows)

    def close(self) -> None:
        """Ends the file."""
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._begin:
            raise ValueError(f"{self._file.name} holds more rows than its header has room for")
        self._file.close()

    def _write_header(self) -> None:
        described = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count, *self._row)}
        np.lib.format.write_array_header_1_0(self._file, described)
