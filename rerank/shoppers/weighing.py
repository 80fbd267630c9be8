"""Which neighbours a tower has, and how much they count in its scores: by what validates it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rerank.shoppers.held_out import Held, in_parts
from rerank.shoppers.histories import Histories, Ints
from rerank.shoppers.measures import ndcg, ranks
from rerank.shoppers.neighbours import NOTHING_BESIDE, Beside, NeighbourOptions, neighbours_of
from rerank.shoppers.tower import ShopperTower

_RIDGES = (6.0, 25.0)
_HALF_LIVES = (None, 60.0)
_FADING = (0.9, 0.95, 1.0)
_WEIGHTS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


def weighed(tower: ShopperTower, histories: Histories, held: Held, *, least_shoppers: int, hide_seen: bool) -> Beside:
    """Of all ways to learn neighbours from `histories` and to count them, the one that foretells what is held out best
    together with `tower`, which has none; of equally good ones none, or the one that counts least.

    Raises TrainingError where neighbours cannot be learned.
    """
    tried = [NOTHING_BESIDE]
    for options in _learned(histories):
        neighbours = neighbours_of(histories, tower.learned.rows, options, least_shoppers=least_shoppers)
        tried += [Beside(neighbours, weight, fading, options) for weight in _WEIGHTS for fading in _FADING]
    tried.sort(key=lambda each: each.weight)
    reached = np.zeros(len(tried))
    for part, seen in in_parts(held, len(tower.catalog), hide_seen=hide_seen):
        scores = tower.scores(part.histories, part.now)
        told: dict[tuple[NeighbourOptions, float], NDArray[np.float32]] = {}
        for number, beside in enumerate(tried):
            if beside.weight:
                key = beside.options, beside.fading
                if key not in told:
                    told[key] = tower.beside(beside, part.histories)
                reached[number] += _reached(scores + beside.weight * told[key], part.targets, seen)
            else:
                reached[number] += _reached(scores, part.targets, seen)
    return tried[int(np.argmax(reached))]


def _learned(histories: Histories) -> Iterator[NeighbourOptions]:
    lives = (None,) if np.isnan(histories.times).any() else _HALF_LIVES
    return (NeighbourOptions(ridge, life) for life in lives for ridge in _RIDGES)


def _reached(scores: NDArray[np.float32], targets: Ints, seen: list[Ints] | None) -> float:
    return float(ndcg(ranks(scores, targets, seen)).sum())
