"""The arrays that click models and the gate work with, and how they are added up; light to import."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def sums(places: npt.NDArray[np.integer], values: Floats, count: int) -> Floats:
    """(count,): the sum of the values at each place."""
    return np.asarray(np.bincount(places, values, count), np.float64)
