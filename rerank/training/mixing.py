"""How a trained network is mixed with the first stage, and its outputs with each other: chosen on validation lists."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.network import RankerNetwork
from rerank.training.batches import merged_scores, whole
from rerank.training.click_training import Validation
from rerank.training.evaluation import CLICKS_ALONE, outputs_of, scores_of

MIXES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Weights of the merged score that are tried beside the network's."""
EVENT_WEIGHTS = (CLICKS_ALONE, (0.5, 0.3, 0.2))
"""Weights of click, cart and purchase that are tried."""

Weights = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Mixing:
    """What becomes a score."""

    event_weights: Weights
    mix: float
    """The weight of the merged score."""
    ndcg: float
    """The mean nDCG@10 that it reaches on the validation lists."""

    def scores(self, network: RankerNetwork, lists: Validation) -> NDArray[np.float32]:
        """Of the candidates of all lists, end to end (m,)."""
        found = scores_of(network, whole(lists.data, lists.numbers), self.event_weights)
        return found + self.mix * merged_scores(lists.data.lists)[lists.places]


def best_mixing(network: RankerNetwork, validation: Validation) -> Mixing:
    """The one of the highest nDCG@10; of equal ones the first, which is the simplest."""
    merged = merged_scores(validation.data.lists)[validation.places]
    made = outputs_of(network, whole(validation.data, validation.numbers))
    outputs = {each: made @ np.array(each, np.float32) for each in EVENT_WEIGHTS}
    tried = [
        Mixing(weights, mix, float(validation.ndcg(outputs[weights] + mix * merged).mean()))
        for weights, mix in itertools.product(EVENT_WEIGHTS, MIXES)
    ]
    return max(tried, key=lambda each: each.ndcg)
