"""nDCG@10 of lists against graded targets, and calibration of scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from shelfwise.rerank.evaluation import metrics
from shelfwise.rerank.ranker.network import EVENTS, RankerNetwork
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.training.datasets import ListBatch, ListData

DEPTH = 10
CLICKS_ALONE = (1.0, 0.0, 0.0)
"""Weights of a network's outputs, in the order of `shelfwise.rerank.ranker.network.EVENTS`."""


def scores_of(
    network: RankerNetwork, batches: Iterable[ListBatch], weights: tuple[float, ...] = CLICKS_ALONE
) -> NDArray[np.float32]:
    """Network scores (m,) of the candidates of all batches, concatenated; `weights` are those of the event kinds."""
    return np.asarray(outputs_of(network, batches) @ np.array(weights, np.float32))


def outputs_of(network: RankerNetwork, batches: Iterable[ListBatch]) -> NDArray[np.float32]:
    """The network's outputs (m, 3) for each kind of event."""
    network.eval()
    parts = [np.empty((0, len(EVENTS)), np.float32)]
    with torch.inference_mode():
        for batch in batches:
            scores = network(*batch.inputs)
            parts += [row[kept].numpy() for row, kept in zip(scores, batch.is_candidate, strict=True)]
    return np.concatenate(parts)


def ndcg(scores: NDArray[np.floating], gains: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """nDCG@10 (see `shelfwise.rerank.evaluation.metrics.ndcg`) of each list (n,) by the gains (m,) of its candidates; 0
    if it has no gains. Ties keep their order."""
    is_candidate = padded(np.ones(len(scores)), lengths) > 0
    return np.nan_to_num(metrics.ndcg(padded(gains, lengths), padded(scores, lengths), is_candidate, DEPTH))


def padded(values: NDArray[np.floating | np.bool_], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values (m,) of candidates by list, shape (n, c); 0 after a list's last candidate."""
    made = np.zeros((len(lengths), int(lengths.max(initial=1))))
    made[np.arange(made.shape[1]) < lengths[:, None]] = values
    return made


def ranker_scores(ranker: OnnxRanker, data: ListData, numbers: Iterable[int]) -> NDArray[np.float64]:
    """Scores (m,) of a serving ranker for the candidates of some lists, concatenated."""
    return np.concatenate([np.empty(0), *(ranker.score([data.candidates(number)])[0] for number in numbers)])


_FREEDOM = 1e4
"""Inverse of the penalty on the slope: it keeps the slope of separable labels finite."""


def fit_calibration(scores: NDArray[np.float64], probabilities: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of sigmoid(slope * score + intercept), fitted to probabilities (m,) by cross entropy
    (Platt 1999, Probabilistic Outputs for Support Vector Machines, section 2, with soft labels). The slope is not
    negative: if higher scores have lower probabilities, it is 0 and the result is their mean."""
    mean = float(np.clip(probabilities.mean(), 1e-4, 1 - 1e-4)) if len(probabilities) else 0.5
    flat = 0.0, float(np.log(mean / (1 - mean)))
    if len(scores) < 2 or float(scores.std()) == 0 or probabilities.max() == probabilities.min():
        return flat
    deviation, middle = float(scores.std()), float(scores.mean())
    standard = ((scores - middle) / deviation).reshape(-1, 1)
    labels = np.repeat([1, 0], len(scores))
    weights = np.concatenate([probabilities, 1 - probabilities])
    fitted = LogisticRegression(C=_FREEDOM).fit(np.concatenate([standard, standard]), labels, sample_weight=weights)
    slope = float(fitted.coef_[0, 0]) / deviation
    return (slope, float(fitted.intercept_[0]) - slope * middle) if slope > 0 else flat
