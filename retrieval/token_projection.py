"""The projection of an encoder's token states to few dimensions: found once an encoder, without any store's data.

A catalog of its own would give slightly better directions, but then states of two stores, and of one store before and
after a rebuild, would mean different things, and no ranker could be trained for more than one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROJECTED = 128
"""Columns of a projection; fewer where the model's states have fewer."""
PROJECTION_FILE = "token_projection.npy"
"""Beside a model's weights: its projection, so that it is found once."""


@cache
def sample_texts() -> tuple[str, ...]:
    """Texts like products and queries of many kinds of store, English and Chinese, the same in every installation."""
    return tuple((files("retrieval") / "token_sample.txt").read_text("utf-8").splitlines())


def principal_directions(states: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The projection (hidden, at most PROJECTED) of states, given as pieces (any, hidden).

    Its columns are the orthonormal directions, largest first, that keep most of the states' squared length: the
    eigenvectors of their uncentred second moment (Jolliffe 2002, Principal Component Analysis, section 14.2.3). They
    are not centred, for what is kept is the dot product of two states. Signs are settled, so that two machines find the
    same.
    """
    moment = sum(piece.astype(np.float64).T @ piece.astype(np.float64) for piece in states)
    _, ascending = np.linalg.eigh(moment)
    directions = ascending[:, ::-1][:, :PROJECTED]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return np.ascontiguousarray(directions * np.sign(largest), dtype=np.float32)


def stored_projection(folder: Path, hidden: int) -> NDArray[np.float32] | None:
    """The projection that stands beside a model's weights; None where none for `hidden` columns does."""
    try:
        found = np.load(folder / PROJECTION_FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = found.ndim == 2 and found.dtype == np.float32 and found.shape == (hidden, min(PROJECTED, hidden))
    return found if fits else None
