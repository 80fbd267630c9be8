"""The training loop of a ranker's network: one epoch after another, validated, stopped early, resumable.

A run keeps its state in a folder after every epoch: a run that is killed goes on from there and ends with the weights
of one that was not, since each epoch's randomness comes from the seed and the epoch's number alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from rerank.training.checkpoint import Epoch, keep, resumed
from retrieval.errors import TrainingError


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How to train; the defaults are those of distillation."""

    epochs: int = 6
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: int = 50
    """Steps until the learning rate is at its height; from there it falls in a line to nothing at the last step."""
    patience: int = 2
    """Epochs without a better validation after which training stops."""
    clip: float = 1.0
    """The longest gradient."""


_Network = TypeVar("_Network", bound=nn.Module)
_Batch = TypeVar("_Batch")


@dataclass(frozen=True, slots=True)
class Training(Generic[_Network, _Batch]):
    """What to train on. `batches(epoch)` gives an epoch's batches in an order of the epoch's own; `steps` is how many
    those are; `loss` is of a batch; `validate` says how good the network is now, higher is better."""

    batches: Callable[[int], Iterable[_Batch]]
    steps: int
    loss: Callable[[_Network, _Batch], Tensor]
    validate: Callable[[_Network], float]


def train(
    network: _Network,
    training: Training[_Network, _Batch],
    options: LoopOptions,
    folder: Path,
    advance: Callable[[int, float], None] = lambda _steps, _loss: None,
    *,
    judged: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[Epoch, ...]:
    """Trains `network` in place, leaves it with the weights of its best validation, and returns the curve.

    `advance` is told of steps that are done and the loss of the last, `judged` of every epoch of the curve, at once of
    those that an interrupted run has left. Raises TrainingError where the loss is no number any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(
        [weight for weight in network.parameters() if weight.requires_grad],
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
    )
    state = resumed(folder, network, optimizer)
    so_far = state.progress
    if so_far.done:
        advance(so_far.done * training.steps, so_far.curve[-1].loss or math.nan)
    else:
        state.judge(network, Epoch(0, None, training.validate(network)))
    for epoch in so_far.curve:
        judged(epoch)
    while so_far.done < options.epochs and so_far.waited < options.patience:
        loss = _epoch(network, training, options, optimizer, so_far.done, advance)
        so_far.done += 1
        state.judge(network, Epoch(so_far.done, loss, training.validate(network)))
        judged(so_far.curve[-1])
        keep(folder, network, optimizer, state)
    network.load_state_dict(state.best_weights)
    return tuple(so_far.curve)


def _epoch(
    network: _Network,
    training: Training[_Network, _Batch],
    options: LoopOptions,
    optimizer: torch.optim.Optimizer,
    done: int,
    advance: Callable[[int, float], None],
) -> float:
    """The epoch after so many; its mean loss."""
    network.train()
    losses: list[float] = []
    for batch in training.batches(done + 1):
        loss = training.loss(network, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} in epoch {done + 1}; lower the learning rate, or look at the labels"
            )
        rate = slope(done * training.steps + len(losses), training.steps * options.epochs, options.warm_up)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * rate
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        optimizer.step()
        losses.append(value)
        advance(1, value)
    network.eval()
    return sum(losses) / max(len(losses), 1)


def slope(step: int, steps: int, warm_up: int) -> float:
    """The share of the learning rate at a step of so many, counted from 0: rising for `warm_up` steps, then falling in
    a line to nothing."""
    if step < warm_up:
        return (step + 1) / warm_up
    return max(0.0, (steps - step) / max(1, steps - warm_up))
