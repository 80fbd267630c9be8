"""Training on clicks, in four ways that differ in what they make of a position.

debiased    listwise softmax on the rates that a click model freed of position: the default
propensity  listwise softmax on clicks, each by the inverse propensity of its position (Joachims, Swaminathan & Schnabel
            2017, Unbiased learning-to-rank with biased feedback, section 4; as a listwise loss: Ai et al. 2018,
            Unbiased learning to rank with unbiased propensity estimation, section 4.1)
tower       listwise softmax on clicks as they are, with a tower that learns what the position adds
naive       the same without a tower: what everything else has to beat
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rerank.clicks.arrays import Floats
from rerank.ranker.network import RankerNetwork
from rerank.training.batches import ListData, whole
from rerank.training.checkpoint import Epoch
from rerank.training.click_batches import ClickBatch, ClickData, Draw
from rerank.training.click_losses import displayed_loss, labelled_loss
from rerank.training.evaluation import ndcg, scores_of
from rerank.training.loop import LoopOptions, Training, train
from rerank.training.position import PositionTower
from rerank.training.propensity import LEAST_PROPENSITY, propensities
from retrieval.errors import TrainingError

Way = Literal["debiased", "propensity", "tower", "naive"]
WAYS: tuple[Way, ...] = get_args(Way)
ScoreLoss = Callable[[Tensor, ClickBatch], Tensor]
"""Of scores (B, c, 3)."""


@dataclass(frozen=True, slots=True)
class ClickOptions:
    """How to train on clicks."""

    loop: LoopOptions = field(default_factory=lambda: LoopOptions(epochs=8, learning_rate=3e-4, warm_up=20))
    draw: Draw = field(default_factory=Draw)
    tasks: tuple[float, float, float] = (1.0, 0.5, 0.5)
    """What the losses of clicks, carts and purchases weigh."""
    least_propensity: float = LEAST_PROPENSITY
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Validation:
    """Lists of a later time that say how good a network is: `data.targets` are their gains, those of `numbers` (n,)
    have some."""

    data: ListData
    numbers: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.numbers):
            raise TrainingError("nothing was clicked in the validation period: import more events")

    def of(self, network: RankerNetwork) -> float:
        """The mean nDCG@10 of what the network says of clicks."""
        return float(self.ndcg(scores_of(network, whole(self.data, self.numbers))).mean())

    def ndcg(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n,): nDCG@10 of the lists by the scores of their candidates, end to end."""
        places = self.places
        lengths = self.data.lists.lengths[self.numbers]
        return ndcg(scores, self.data.targets[places], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    @property
    def places(self) -> NDArray[np.int64]:
        """Where the candidates of the lists are in the data, end to end."""
        return self.data.lists.places(self.numbers)


def train_on_clicks(
    start: RankerNetwork,
    data: ClickData,
    validation: Validation,
    way: Way,
    options: ClickOptions,
    folder: Path,
    advance: Callable[[int, float], None] = lambda _steps, _loss: None,
    *,
    judged: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[RankerNetwork, tuple[Epoch, ...]]:
    """Trains a copy of `start`; returns it as its best validation left it, with the curve.

    `folder` keeps its state between epochs: see `rerank.training.loop`, also for `advance` and `judged`. Raises
    TrainingError where the loss is no number any more.
    """
    ranker = copy.deepcopy(start)
    tower = PositionTower(len(data.clicks.examination))
    network = nn.ModuleList([ranker, tower] if way == "tower" else [ranker])
    loss = score_loss(way, tower, data.clicks.examination, options)

    def batches(epoch: int) -> Iterator[ClickBatch]:
        return data.shuffled(options.draw, options.seed * 1_000 + epoch)

    steps = -(-len(data.clicks.usable) // options.draw.lists)
    training: Training[nn.ModuleList, ClickBatch] = Training(
        batches, steps, lambda _, batch: loss(ranker(*batch.inputs), batch), lambda _: validation.of(ranker)
    )
    curve = train(network, training, options.loop, folder, advance, judged=judged)
    return ranker.eval(), curve


def score_loss(way: Way, tower: PositionTower, examination: Floats, options: ClickOptions) -> ScoreLoss:
    """What a way takes for its loss; `examination` (depth,) is how often each position is looked at."""
    chances = torch.from_numpy(propensities(examination, options.least_propensity)).float()
    losses: dict[Way, ScoreLoss] = {
        "debiased": lambda scores, batch: labelled_loss(scores, batch, options.tasks),
        "propensity": lambda scores, batch: displayed_loss(scores, batch, options.tasks, chances=chances),
        "tower": lambda scores, batch: displayed_loss(scores, batch, options.tasks, bias=tower.bias),
        "naive": lambda scores, batch: displayed_loss(scores, batch, options.tasks),
    }
    return losses[way]
