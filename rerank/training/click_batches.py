"""Batches of lists that were clicked on: candidates with their debiased gains, and displays of them with the acts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerank.ranker.network import EVENTS, Inputs
from rerank.training.batches import ListData
from rerank.training.click_lists import ClickLists


@dataclass(frozen=True, slots=True)
class ClickBatch:
    """B lists with c candidates each, and K displays of them."""

    inputs: Inputs
    is_candidate: Tensor
    """(B, c)."""
    gains: Tensor
    """(B, c, 3)."""
    is_shown: Tensor
    """(B, c): whether any shopper has seen it."""
    weights: Tensor
    """(B,)."""
    list_of: Tensor
    """(K,): which of the lists each display is of."""
    places: Tensor
    """(K, depth): candidates; -1 for none."""
    acts: Tensor
    """(K, depth, 3)."""
    tells_position: Tensor
    """(K,): whether the position tower is told where things stood."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What an epoch draws of its lists."""

    lists: int = 16
    """Queries a step."""
    displays: int = 32
    """Of each of them, at most."""
    dropped: float = 0.05
    """The share of candidates that lose their states, as a product has none that came a moment ago."""
    hidden_positions: float = 0.1
    """The share of displays whose positions the tower is not told (Zhao et al. 2019, Recommending what video to watch
    next, section 4.3), so that it leaves to the network what the network can tell."""


@dataclass(frozen=True, slots=True)
class ClickData:
    """Lists that were clicked on, and all that their batches are made of."""

    clicks: ClickLists
    data: ListData
    """Of the same lists."""

    def shuffled(self, draw: Draw, seed: int) -> Iterator[ClickBatch]:
        """An epoch of the usable lists, in an order drawn anew for every seed."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(self.clicks.usable)
        for start in range(0, len(order), draw.lists):
            yield self.batch(order[start : start + draw.lists].tolist(), draw, int(rng.integers(2**31)))

    def batch(self, numbers: list[int], draw: Draw, seed: int) -> ClickBatch:
        """The batch of some lists."""
        clicks, rng = self.clicks, np.random.default_rng(seed)
        made = self.data.batch(numbers, draw.dropped, seed)
        padded = made.is_candidate.shape
        gains, is_shown = np.zeros((*padded, len(EVENTS)), np.float32), np.zeros(padded, np.bool_)
        for at, number in enumerate(numbers):
            place = clicks.lists.place(number)
            gains[at, : place.stop - place.start] = clicks.gains[place]
            is_shown[at, : place.stop - place.start] = clicks.is_shown[place]
        chosen, owner = clicks.displays.of(numbers, draw.displays, rng)
        return ClickBatch(
            made.inputs,
            made.is_candidate,
            torch.from_numpy(gains),
            torch.from_numpy(is_shown),
            torch.from_numpy(clicks.weights[numbers]),
            torch.from_numpy(owner),
            torch.from_numpy(clicks.displays.places[chosen].astype(np.int64)),
            torch.from_numpy(clicks.displays.acts[chosen]),
            torch.from_numpy(_drawn(rng, len(chosen)) >= draw.hidden_positions),
        )


def _drawn(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.random(count)
