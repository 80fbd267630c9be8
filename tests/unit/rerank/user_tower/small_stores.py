"""Small catalogs of kinds of products, and shoppers who go from one kind to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.user_tower.histories import Histories
from shelfwise.rerank.user_tower.user_tower_training import UserTowerOptions

KINDS, EACH, DIMENSION = 6, 8, 24
TINY = UserTowerOptions(
    epochs=4, batch=16, learning_rate=3e-3, width=16, layers=1, negatives=64, dropout=0.1, unknown=0.4
)


def catalog(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((KINDS, DIMENSION))
    kinds = np.repeat(np.arange(KINDS), EACH)
    vectors = centres[kinds] + 0.3 * random.standard_normal((KINDS * EACH, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), kinds


def shoppers(count: int = 150, length: int = 6, seed: int = 0) -> Histories:
    random = np.random.default_rng(seed)
    products, times = [], []
    for _ in range(count):
        kinds = (random.integers(KINDS) + np.arange(length)) % KINDS
        products.append((kinds * EACH + random.integers(EACH - 1, size=length)).tolist())
        times.append((1e9 + np.sort(random.random(length)) * 1e7).tolist())
    return Histories.of(products, times=times)
