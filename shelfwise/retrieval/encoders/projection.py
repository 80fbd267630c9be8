"""Projection of token states to few dimensions, by directions that are computed once per encoder, on fixed texts.

A store's own catalog would give slightly better directions, but then no ranker could be trained for several stores.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROJECTED = 128
"""The columns of a projection, unless the states have fewer."""
PROJECTION_FILE = "token_projection.npy"
"""The file of the projection in the folder of a model's weights."""


@cache
def sample_texts() -> tuple[str, ...]:
    """Sample texts of products and queries, English and Chinese, the same in all installations."""
    return tuple((files("shelfwise.retrieval.encoders") / "token_sample.txt").read_text("utf-8").splitlines())


def principal_directions(states: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The projection (hidden, at most PROJECTED) of states, given as pieces (any, hidden).

    Its columns are the orthonormal directions, largest first, that keep most of the states' squared length: the
    eigenvectors of their uncentred second moment (Jolliffe 2002, Principal Component Analysis, section 14.2.3), to
    preserve dot products of states. Signs are fixed, so that machines agree.
    """
    moment = sum(piece.astype(np.float64).T @ piece.astype(np.float64) for piece in states)
    _, ascending = np.linalg.eigh(moment)
    directions = ascending[:, ::-1][:, :PROJECTED]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return np.ascontiguousarray(directions * np.sign(largest), dtype=np.float32)


def stored_projection(folder: Path, hidden: int) -> NDArray[np.float32] | None:
    """The stored projection of a model; None if there is none for `hidden` columns."""
    try:
        found = np.load(folder / PROJECTION_FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = found.ndim == 2 and found.dtype == np.float32 and found.shape == (hidden, min(PROJECTED, hidden))
    return found if fits else None
