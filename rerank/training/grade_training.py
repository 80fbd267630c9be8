"""Training on grades that people gave: what a store with judged queries can learn from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.ranker.network import EVENTS, RankerNetwork
from rerank.training.datasets import ListBatch, ListData, full_batches, shuffled_batches
from rerank.training.evaluation import ndcg, scores_of
from rerank.training.losses import distillation, list_softmax
from rerank.training.trainer import Epoch, LoopOptions, Training, train


@dataclass(frozen=True, slots=True)
class GradeTrainingOptions:
    """How to tune; the defaults are for a network that was distilled before, and some thousand queries."""

    loop: LoopOptions = field(default_factory=lambda: LoopOptions(epochs=4, warm_up=20))
    lists: int = 16
    """Queries a step."""
    dropped: float = 0.05
    """The share of candidates that lose their states."""
    teacher_weight: float = 0.3
    """What a teacher's word counts beside the grades."""
    seed: int = 0


def tune_on_grades(
    start: RankerNetwork,
    data: ListData,
    teacher: NDArray[np.float32],
    training: NDArray[np.int64],
    validation: NDArray[np.int64],
    options: GradeTrainingOptions,
    folder: Path,
    advance: Callable[[int], None] = lambda _steps: None,
) -> tuple[RankerNetwork, tuple[Epoch, ...]]:
    """Trains a copy of `start` on the lists numbered in `training`, whose `data.targets` are gains of grades, 0 for
    what nobody judged; returns it with its curve.

    The loss is ListNet's, and the one of distillation from `teacher` (m,) beside it (see
    `rerank.training.distillation.targets`): a few grades a query alone teach which products were judged, and undo what
    the teacher taught. The validation is the mean nDCG@10 of the lists in `validation`. `folder` keeps the state
    between epochs: see `rerank.training.trainer`.
    """
    network, weighted = copy.deepcopy(start), replace(data, weights=teacher)

    def batches(epoch: int) -> Iterator[ListBatch]:
        seed = options.seed * 1_000 + epoch
        return shuffled_batches(weighted, training, lists=options.lists, dropped=options.dropped, seed=seed)

    def loss(trained: RankerNetwork, batch: ListBatch) -> torch.Tensor:
        return _loss(trained, batch, options.teacher_weight)

    def validate(trained: RankerNetwork) -> float:
        return float(graded_ndcg(data, validation, scores_of(trained, full_batches(data, validation))).mean())

    steps = -(-len(training) // options.lists)
    curve = train(network, Training(batches, steps, loss, validate), options.loop, folder, advance)
    return network.eval(), curve


def graded_ndcg(data: ListData, numbers: NDArray[np.int64], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """nDCG@10 among the candidates of each list in `numbers` (n,), by their scores end to end."""
    gains = [data.targets[data.lists.place(number)] for number in numbers.tolist()]
    return ndcg(scores, np.concatenate(gains), np.cumsum([0, *map(len, gains)]))


def _loss(network: RankerNetwork, batch: ListBatch, teacher_weight: float) -> torch.Tensor:
    """Every output learns from the grades; the batch's weights are what the teacher says."""
    scores, kept = network(*batch.inputs), batch.is_candidate
    losses = [
        list_softmax(scores[..., event], batch.targets, kept)
        + teacher_weight * distillation(scores[..., event], batch.weights, kept)
        for event in range(len(EVENTS))
    ]
    return torch.stack(losses).mean()
