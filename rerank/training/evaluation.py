"""How good an order is: nDCG@10 of scores against graded targets, list by list."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.ranker.network import RankerNetwork
from rerank.training.batches import Batch

DEPTH = 10
CLICKS_ALONE = (1.0, 0.0, 0.0)
"""Weights of a network's outputs, in the order of `rerank.ranker.network.EVENTS`."""


def scores_of(
    network: RankerNetwork, batches: Iterable[Batch], weights: tuple[float, ...] = CLICKS_ALONE
) -> NDArray[np.float32]:
    """What the network scores the candidates of all batches, end to end (m,); `weights` say what each kind of event is
    worth."""
    network.eval()
    parts, worth = [], torch.tensor(weights)
    with torch.inference_mode():
        for batch in batches:
            scores = network(*batch.inputs) @ worth
            parts += [row[kept].numpy() for row, kept in zip(scores, batch.is_candidate, strict=True)]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def ndcg(scores: NDArray[np.floating], gains: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """nDCG@10 (Järvelin & Kekäläinen 2002, section 3) of each list (n,): of the candidates that it has, by their gains
    (m,); 0 for a list without any gain. Equal scores stay in the order that they have."""
    result = np.zeros(len(offsets) - 1)
    for number, (start, stop) in enumerate(itertools.pairwise(offsets.tolist())):
        gained = gains[start:stop]
        ideal = _discounted(np.sort(gained)[::-1])
        if ideal > 0:
            result[number] = _discounted(gained[np.argsort(-scores[start:stop], kind="stable")]) / ideal
    return result


def _discounted(gains: NDArray[np.float32]) -> float:
    top = gains[:DEPTH].astype(np.float64)
    return float((top / np.log2(np.arange(2, len(top) + 2))).sum())
