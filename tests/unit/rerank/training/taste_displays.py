"""Displays of shoppers who each like products of one brand, or who click by chance: vectors, acts and all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.features import ACT_KINDS
from rerank.training.history_training import (
    Acts,
    HistoryData,
    HistoryEvaluation,
    HistoryTraining,
    ShopperDisplays,
    split_by_shopper,
)
from retrieval.encoders.base import unit_rows

DEPTH, DIMENSION, PRODUCTS, BRANDS = 10, 32, 300, 6
CHANCES = 1 / np.arange(1, DEPTH + 1) ** 0.7
HOUR_MS = 3_600_000
_CLICK = ACT_KINDS.index("click")


@dataclass(frozen=True, slots=True, eq=False)
class World:
    shown: ShopperDisplays
    past: Acts
    vectors: NDArray[np.float32]
    base: NDArray[np.float32]

    def data(self, displays: ShopperDisplays) -> HistoryData:
        return HistoryData(displays, self.past, np.arange(PRODUCTS), self.base, lambda rows: self.vectors[rows])

    def training(self) -> HistoryTraining:
        cut = len(self.shown) * 3 // 4
        before, after = self.shown.select(np.arange(cut)), self.shown.select(np.arange(cut, len(self.shown)))
        choosing, judging = (self.data(half) for half in split_by_shopper(after.informative(outputs=1)))
        judges = HistoryEvaluation(choosing, judging, np.clip(CHANCES, 0.1, 1), (1.0, 0.0, 0.0))
        return HistoryTraining(self.data(before.informative()), judges, (1.0, 0.5, 0.5))


def world(seed: int, *, tastes: bool, shoppers: int = 250, searches: int = 12) -> World:
    rng = np.random.default_rng(seed)
    brands, likes = rng.integers(0, BRANDS, PRODUCTS), rng.integers(0, BRANDS, shoppers)
    named = unit_rows(rng.standard_normal((BRANDS, DIMENSION)).astype(np.float32))
    own = unit_rows(rng.standard_normal((PRODUCTS, DIMENSION)).astype(np.float32))
    base = (0.5 * rng.standard_normal((PRODUCTS, 3))).astype(np.float32)
    asks = rng.permutation(np.repeat(np.arange(shoppers), searches))
    places = np.stack([rng.choice(PRODUCTS, DEPTH, replace=False) for _ in asks])
    places = np.take_along_axis(places, np.argsort(-base[places, 0], axis=1), axis=1)
    wanted = np.where(brands[places] == likes[asks][:, None], 0.6, 0.1) if tastes else np.full(places.shape, 0.25)
    clicks = rng.random(places.shape) < CHANCES * wanted
    times = HOUR_MS * (1 + np.arange(len(asks)))
    past = _acts(asks, times, places, clicks)
    acts = np.repeat(clicks[:, :, None], 3, axis=2)
    shown = ShopperDisplays(asks, times, places, acts, *past.before(asks, times))
    return World(shown, past, unit_rows(named[brands] + own), base)


def _acts(
    asks: NDArray[np.int64], times: NDArray[np.int64], places: NDArray[np.int64], clicks: NDArray[np.bool_]
) -> Acts:
    lists, positions = np.nonzero(clicks)
    shopper, when = asks[lists], times[lists] + 1_000 * positions
    order = np.lexsort((when, shopper))
    return Acts(shopper[order], places[lists, positions][order], np.full(len(order), _CLICK), when[order])
