"""Arrays on disk: reading one back, or saying that it is damaged."""

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
