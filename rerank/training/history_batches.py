"""Batches of displays with their shoppers' histories, over what the network that stands scores their candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerank.ranker.network import HistoryAttention
from rerank.training.shopper_displays import Acts, Numbers, ShopperDisplays

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class HistoryData:
    """Displays, and all that their batches are made of."""

    displays: ShopperDisplays
    past: Acts
    rows: Numbers
    """(m,): the products of the candidates that displays point to."""
    base: NDArray[np.float32]
    """(m, 3): what the network that stands scores them, the merged score mixed in; those that no display shows may be
    anything."""
    gather: Callable[[Numbers], NDArray[np.float32]]
    """The vectors (n, v) of products (n,)."""

    def batch(self, numbers: Numbers) -> HistoryBatch:
        """The batch of some displays."""
        shown = self.displays.taken(numbers)
        is_candidate = shown.places >= 0
        places = np.where(is_candidate, shown.places, 0)
        length = int((shown.behind - shown.first).max(initial=1))
        at = shown.behind[:, None] - np.arange(length, 0, -1)
        is_act = at >= shown.first[:, None]
        at = np.where(is_act, at, 0)
        gaps = (shown.times[:, None] - self.past.times[at]) / _DAY_MS
        return HistoryBatch(
            torch.from_numpy(self._vectors(self.rows[places], is_candidate)),
            torch.from_numpy(self._vectors(self.past.rows[at], is_act)),
            torch.from_numpy(np.where(is_act, self.past.kinds[at], -1)),
            torch.from_numpy(np.where(is_act, gaps, 0).astype(np.float32)),
            torch.from_numpy(self.base[places]),
            torch.from_numpy(is_candidate),
            torch.from_numpy(shown.acts.astype(np.float32)),
        )

    def _vectors(self, rows: Numbers, is_there: NDArray[np.bool_]) -> NDArray[np.float32]:
        found = self.gather(rows[is_there])
        vectors = np.zeros((*rows.shape, found.shape[1]), np.float32)
        vectors[is_there] = found
        return vectors


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """K displays of at most c candidates each."""

    vectors: Tensor
    """(K, c, v)."""
    history_vectors: Tensor
    """(K, h, v)."""
    history_kinds: Tensor
    """(K, h): -1 for none."""
    history_gaps: Tensor
    """(K, h): days."""
    base: Tensor
    """(K, c, 3)."""
    is_candidate: Tensor
    """(K, c)."""
    acts: Tensor
    """(K, c, 3)."""

    def scores(self, attention: HistoryAttention) -> Tensor:
        """(K, c, 3): with the history."""
        added: Tensor = attention(self.vectors, self.history_vectors, self.history_kinds, self.history_gaps)
        return self.base + added
