"""Displays: the lists that shoppers were shown, as they point into the candidates of their queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.clicks.arrays import Flags
from rerank.clicks.click_log import ClickLog

NOT_A_CANDIDATE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Displays:
    """k different displays on which something was done, ordered by their list; equal ones are counted together."""

    list_of: NDArray[np.int64]
    """(k,): ascending."""
    places: NDArray[np.int16]
    """(k, depth): which candidate of its list stood at each position; -1 for none, or one that is none any more."""
    acts: NDArray[np.float32]
    """(k, depth, 3): how often it was clicked, put into the cart, bought there."""

    def of(self, numbers: Sequence[int], most: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], ...]:
        """The displays of some lists, at most so many of each, drawn where there are more: which they are (j,), and
        the place in `numbers` of each one's list (j,)."""
        chosen, owner = [], []
        for at, number in enumerate(numbers):
            first, behind = np.searchsorted(self.list_of, (number, number + 1))
            found = np.arange(first, behind)
            if len(found) > most:
                found = np.sort(rng.choice(found, most, replace=False))
            chosen.append(found)
            owner.append(np.full(len(found), at))
        return np.concatenate(chosen).astype(np.int64), np.concatenate(owner).astype(np.int64)


def displays(log: ClickLog, acts: Flags, list_of: NDArray[np.int64], place_of: NDArray[np.int64]) -> Displays:
    """Displays of a log: `list_of` (n,) numbers each row's list, -1 for none; `place_of` (pairs,) is each pair's place
    among the candidates of its list, -1 for none. Those on which nothing was done to a candidate are left out."""
    places = np.append(place_of, NOT_A_CANDIDATE)[log.pairs].astype(np.int16)
    acts = acts & (places >= 0)[..., None]
    rows = np.flatnonzero((list_of >= 0) & acts.any(axis=(1, 2)))
    depth = log.depth
    if not len(rows):
        return Displays(np.empty(0, np.int64), np.empty((0, depth), np.int16), np.empty((0, depth, 3), np.float32))
    keys = np.column_stack([list_of[rows], places[rows]])
    found, number = np.unique(keys, axis=0, return_inverse=True)
    counted = np.zeros((len(found), depth, acts.shape[2]), np.float32)
    np.add.at(counted, number.reshape(-1), acts[rows].astype(np.float32))
    return Displays(found[:, 0].astype(np.int64), found[:, 1:].astype(np.int16), counted)
