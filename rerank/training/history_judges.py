"""Whether attention over histories helps: later displays, half of whose shoppers choose and half judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.gate.bootstrap import Difference, paired_bootstrap
from rerank.gate.measures import query_means
from rerank.ranker.network import HistoryAttention
from rerank.training.history_batches import HistoryData
from rerank.training.shopper_displays import ShopperDisplays

LEAST_SHOPPERS = 20
"""To choose by, and as many to judge by."""
_TOGETHER = 512
"""Displays that are scored at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """Displays of a later time, and how an order is judged by them: by the mean reciprocal rank of what was clicked.

    Each click counts by the inverse propensity of the place that it was shown at (Joachims, Swaminathan & Schnabel
    2017, section 4): counted alike, clicks would speak for the order that was shown, against any other.
    """

    choosing: HistoryData
    judging: HistoryData
    chances: NDArray[np.float64]
    """(depth,): propensities."""
    event_weights: tuple[float, float, float]
    """What makes one score of three."""

    @property
    def shoppers(self) -> int:
        """How many there are, of both."""
        return sum(len(np.unique(each.displays.shopper)) for each in (self.choosing, self.judging))

    def chosen(self, attention: HistoryAttention) -> float:
        """How good an attention is, by the displays that choose."""
        ranks, weights = self._ranks(self.choosing, attention)
        return float(np.average(ranks, weights=weights))

    def gain(self, attention: HistoryAttention) -> Difference:
        """What the history adds, by the displays that judge. Displays of one shopper depend on each other, so shoppers
        are what is drawn again."""
        numbers, shopper = np.unique(self.judging.displays.shopper, return_inverse=True)
        means = []
        for each in (attention, None):
            ranks, weights = self._ranks(self.judging, each)
            mean, total = query_means(ranks, shopper, len(numbers), weights)
            means.append(mean)
        return paired_bootstrap(means[0], means[1], total)

    def _ranks(
        self, data: HistoryData, attention: HistoryAttention | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(k,) each: the mean of 1 / rank over each display's clicks, and their weight; None is without a history."""
        clicks = data.displays.acts[..., 0] / self.chances[: data.displays.places.shape[1]]
        order = np.argsort(-self._scores(data, attention), axis=1, kind="stable")
        ranks = np.argsort(order, axis=1) + 1.0
        weights = clicks.sum(axis=1)
        return (clicks / ranks).sum(axis=1) / weights, weights

    def _scores(self, data: HistoryData, attention: HistoryAttention | None) -> NDArray[np.float64]:
        """(k, depth): of what stood on each display; of nothing, less than any."""
        worth, found = torch.tensor(self.event_weights), []
        with torch.inference_mode():
            for start in range(0, len(data.displays), _TOGETHER):
                batch = data.batch(np.arange(start, min(start + _TOGETHER, len(data.displays))))
                scores = (batch.base if attention is None else batch.scores(attention)) @ worth
                found.append(scores.masked_fill(~batch.is_candidate, -torch.inf).double().numpy())
        return np.concatenate(found)


def halves(displays: ShopperDisplays) -> tuple[ShopperDisplays, ShopperDisplays]:
    """Those that choose and those that judge: of no shopper in both."""
    _, place = np.unique(displays.shopper, return_inverse=True)
    return displays.taken(place % 2 == 0), displays.taken(place % 2 == 1)
