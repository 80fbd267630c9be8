"""How good an order is: nDCG@10 of scores against graded targets, list by list."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.gate import measures
from rerank.ranker.network import EVENTS, RankerNetwork
from rerank.ranker.onnx_ranker import OnnxRanker
from rerank.training.batches import Batch, ListData

DEPTH = 10
CLICKS_ALONE = (1.0, 0.0, 0.0)
"""Weights of a network's outputs, in the order of `rerank.ranker.network.EVENTS`."""


def scores_of(
    network: RankerNetwork, batches: Iterable[Batch], weights: tuple[float, ...] = CLICKS_ALONE
) -> NDArray[np.float32]:
    """What the network scores the candidates of all batches, end to end (m,); `weights` say what each kind of event is
    worth."""
    return np.asarray(outputs_of(network, batches) @ np.array(weights, np.float32))


def outputs_of(network: RankerNetwork, batches: Iterable[Batch]) -> NDArray[np.float32]:
    """The same for each kind of event (m, 3)."""
    network.eval()
    parts = [np.empty((0, len(EVENTS)), np.float32)]
    with torch.inference_mode():
        for batch in batches:
            scores = network(*batch.inputs)
            parts += [row[kept].numpy() for row, kept in zip(scores, batch.is_candidate, strict=True)]
    return np.concatenate(parts)


def ndcg(scores: NDArray[np.floating], gains: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """nDCG@10 (see `rerank.gate.measures.ndcg`) of each list (n,): of the candidates that it has, by their gains (m,);
    0 for a list without any gain. Equal scores stay in the order that they have."""
    lengths = np.diff(offsets)
    is_candidate = np.arange(lengths.max(initial=0)) < lengths[:, None]

    def padded(values: NDArray[np.floating]) -> NDArray[np.float64]:
        made = np.zeros(is_candidate.shape)
        made[is_candidate] = values
        return made

    return np.nan_to_num(measures.ndcg(padded(gains), padded(scores), is_candidate, DEPTH))


def ranker_scores(ranker: OnnxRanker, data: ListData, numbers: Iterable[int]) -> NDArray[np.float64]:
    """What a ranker as it is served scores the candidates of some lists, end to end (m,)."""
    return np.concatenate([np.empty(0), *(ranker.score([data.candidates(number)])[0] for number in numbers)])
