"""Training the attention over shoppers' histories alone: the network under it stands, its scores are computed once.

What a shopper was shown, and acted on, is a display; what the shopper had done before is its history. The loss is a
listwise softmax over what stood on each display, acts counting by the inverse propensity of their position. The
displays of every second shopper of a later time choose when to stop, those of the others judge: a history is kept where
what they clicked surely stands higher.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rerank.ranker.network import HistoryAttention
from rerank.training.checkpoint import Epoch
from rerank.training.click_losses import single_displays_loss
from rerank.training.history_batches import HistoryBatch, HistoryData
from rerank.training.history_judges import Judges
from rerank.training.loop import LoopOptions, Training, train

LEAST_DISPLAYS = 200
"""To learn from."""


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """How to train on histories."""

    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(epochs=12, learning_rate=3e-3, warm_up=20, patience=3)
    )
    displays: int = 32
    """A step."""
    most: int = 50_000
    """The newest displays that are learned from."""


@dataclass(frozen=True, slots=True, eq=False)
class HistoryTraining:
    """What attention over histories is trained on, and how."""

    data: HistoryData
    judges: Judges
    tasks: tuple[float, float, float]
    """What the losses of clicks, carts and purchases weigh."""
    options: HistoryOptions = field(default_factory=HistoryOptions)
    seed: int = 0

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-len(self.data.displays) // self.options.displays)

    def batches(self, epoch: int) -> Iterator[HistoryBatch]:
        """Those of an epoch, in an order of its own."""
        order = np.random.default_rng(self.seed * 1_000 + epoch).permutation(len(self.data.displays))
        size = self.options.displays
        return (self.data.batch(order[start : start + size]) for start in range(0, len(order), size))


def train_history(
    start: HistoryAttention,
    training: HistoryTraining,
    folder: Path,
    advance: Callable[[int, float], None] = lambda _steps, _loss: None,
    *,
    judged: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[HistoryAttention, tuple[Epoch, ...]]:
    """Trains a copy of `start`; returns it as the displays that choose liked it best, with its curve.

    `folder` keeps its state between epochs: see `rerank.training.loop`, also for `advance` and `judged`. Raises
    TrainingError where the loss is no number any more.
    """
    attention, judges = copy.deepcopy(start), training.judges
    chances = torch.from_numpy(judges.chances).float()

    def loss(trained: HistoryAttention, batch: HistoryBatch) -> Tensor:
        return single_displays_loss(batch.scores(trained), batch.is_candidate, batch.acts, chances, training.tasks)

    what = Training(training.batches, training.steps, loss, judges.chosen)
    curve = train(attention, what, training.options.loop, folder, advance, judged=judged)
    return attention.eval(), curve
