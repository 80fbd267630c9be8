"""Which neighbours a tower has, and how much they count in its scores: by what validates it."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from rerank.shoppers.ease import neighbours_of
from rerank.shoppers.held_out import Held, in_parts
from rerank.shoppers.histories import Histories, Ints
from rerank.shoppers.measures import ndcg, ranks
from rerank.shoppers.neighbours import NOTHING_BESIDE, Beside, NeighbourOptions
from rerank.shoppers.tower import ShopperTower

_RIDGES = (6.0, 25.0)
_HALF_LIVES = (None, 60.0)
_FADING = (0.9, 0.95, 1.0)
_WEIGHTS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
_AGAIN = 0.3
"""What a product says of itself, where shoppers are shown what they have seen."""


def weighed(
    tower: ShopperTower, histories: Histories, held: Held, *, least_shoppers: int, hide_seen: bool, timed: bool
) -> Beside:
    """Of all ways to learn neighbours from `histories` and to count them, the one that foretells what is held out best
    together with `tower`, which has none; of equally good ones none, or the one that counts least.

    Choices lose weight with time only where `timed`. Raises TrainingError where neighbours cannot be learned.
    """
    tried = [NOTHING_BESIDE]
    for half_life, ridge in product(_HALF_LIVES if timed else (None,), _RIDGES):
        options = NeighbourOptions(ridge, half_life, 0.0 if hide_seen else _AGAIN)
        neighbours = neighbours_of(histories, tower.learned.rows, options, least_shoppers=least_shoppers)
        tried += [Beside(neighbours, weight, fading, options) for fading in _FADING for weight in _WEIGHTS]
    reached = np.zeros(len(tried))
    for part, seen in in_parts(held, len(tower.catalog), hide_seen=hide_seen):
        scores = tower.scores(part.histories, part.now)
        reached[0] += _reached(scores, part.targets, seen)
        # Those that differ in weight alone stand together.
        for first in range(1, len(tried), len(_WEIGHTS)):
            told = tower.beside(tried[first], part.histories)
            for number, weight in enumerate(_WEIGHTS, first):
                reached[number] += _reached(scores + np.float32(weight) * told, part.targets, seen)
    return tried[max(range(len(tried)), key=lambda number: (reached[number], -tried[number].weight))]


def _reached(scores: NDArray[np.float32], targets: Ints, seen: list[Ints] | None) -> float:
    return float(ndcg(ranks(scores, targets, seen)).sum())
