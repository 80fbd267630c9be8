"""Resumable training: epochs, validation, early stopping, checkpoints, TensorBoard curves.

A run keeps its state in a folder after every epoch. A run that is killed goes on from there and ends with the weights
of one that was not, since each epoch's randomness comes from the seed and the epoch's number alone.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, uint8
from torch.optim import Optimizer

from retrieval.errors import TrainingError
from retrieval.store.files import atomic_file, write_durably

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


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


class NonFiniteLossError(TrainingError):
    """A loss that is infinite or no number; `place` says when it came."""

    def __init__(self, value: float, place: str) -> None:
        self.value, self.place = value, place
        super().__init__(f"the loss became {value} {place}; lower the learning rate, or look at the labels")


@dataclass(slots=True)
class Trainer:
    """Runs epochs until all are done or validation has not improved for `patience` of them."""

    network: nn.Module
    optimizer: Optimizer
    folder: Path
    """Keeps the checkpoint."""
    epochs: int
    patience: int
    train_epoch: Callable[[int], float]
    """Trains the epoch of this number, from 1; returns the mean loss of its steps."""
    validate: Callable[[], float]
    """How good the network is now, higher is better."""
    on_epoch: Sequence[Callable[[Epoch], None]] = ()
    """Called for every epoch of the curve, at once for those that an interrupted run has left."""
    on_checkpoint: Callable[[RunState, Epoch], None] = lambda _state, _epoch: None
    """Called after an epoch of this run, before its checkpoint is written."""
    on_damage: Callable[[Path], None] = lambda _checkpoint: None
    """Called where there is a checkpoint that cannot be read; the run then begins anew."""
    checkpoints_start: bool = False
    """Whether there is a checkpoint before the first epoch, which `on_out_of_memory` needs."""
    on_out_of_memory: Callable[[], None] | None = None
    """Called where the device has no memory for an epoch, which is then tried again from the last checkpoint."""
    state: RunState = field(init=False)

    def start(self) -> RunState:
        """Takes up what an interrupted run left; a new run begins with the validation of the network as it is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = load_checkpoint(self.folder, self.network, self.optimizer)
        if not self.state.progress.curve:
            if (checkpoint := self.folder / STATE_FILE).exists():
                self.on_damage(checkpoint)
            self.state.judge(self.network, Epoch(0, None, self.validate()))
            if self.checkpoints_start:
                save_checkpoint(self.folder, self.network, self.optimizer, self.state)
        return self.state

    def run(self) -> tuple[Epoch, ...]:
        """Trains and returns the curve; `state` then has the best weights, which the network has not yet.

        Raises NonFiniteLossError, where the last checkpoint is the epoch before, and what `train_epoch` raises.
        """
        for epoch in self.state.progress.curve:
            self._report(epoch)
        while self.state.progress.done < self.epochs and self.state.progress.waited < self.patience:
            loss = self._train_epoch(self.state.progress.done + 1)
            if loss is None:
                continue
            self.state.progress.done += 1
            epoch = Epoch(self.state.progress.done, loss, self.validate())
            self.state.judge(self.network, epoch)
            self._report(epoch)
            self.on_checkpoint(self.state, epoch)
            save_checkpoint(self.folder, self.network, self.optimizer, self.state)
        return tuple(self.state.progress.curve)

    def _train_epoch(self, number: int) -> float | None:
        try:
            return self.train_epoch(number)
        except torch.OutOfMemoryError:
            if self.on_out_of_memory is None:
                raise
        # What the step held is free once its traceback is gone, behind the block above.
        self.on_out_of_memory()
        torch.cuda.empty_cache()
        self.state = load_checkpoint(self.folder, self.network, self.optimizer)
        return None

    def _report(self, epoch: Epoch) -> None:
        for report in self.on_epoch:
            report(epoch)


def train(
    network: _Network,
    training: Training[_Network, _Batch],
    options: LoopOptions,
    folder: Path,
    advance: Callable[[int], None] = lambda _steps: None,
    *,
    judged: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[Epoch, ...]:
    """Trains `network` in place by AdamW, leaves it with the weights of its best validation, and returns the curve.

    `advance` is called with numbers of steps done, `judged` with every epoch of the curve, at once with those that an
    interrupted run has left. Raises NonFiniteLossError.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=options.weight_decay)

    def train_epoch(number: int) -> float:
        network.train()
        losses: list[float] = []
        for batch in training.batches(number):
            loss = training.loss(network, batch)
            value = loss.item()
            if not math.isfinite(value):
                raise NonFiniteLossError(value, f"in epoch {number}")
            step = (number - 1) * training.steps + len(losses)
            rate = slope(step, training.steps * options.epochs, options.warm_up)
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * rate
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), options.clip)
            optimizer.step()
            losses.append(value)
            advance(1)
        network.eval()
        return sum(losses) / max(len(losses), 1)

    def validate() -> float:
        return training.validate(network)

    trainer = Trainer(network, optimizer, folder, options.epochs, options.patience, train_epoch, validate, (judged,))
    progress = trainer.start().progress
    if progress.done:
        advance(progress.done * training.steps)
    curve = trainer.run()
    network.load_state_dict(trainer.state.best_weights)
    return curve


def slope(step: int, steps: int, warm_up: int) -> float:
    """The share of the learning rate at a step of so many, counted from 0: rising for `warm_up` steps, then falling in
    a line to nothing."""
    if step < warm_up:
        return (step + 1) / warm_up
    return max(0.0, (steps - step) / max(1, steps - warm_up))


STATE_FILE, CURVE_FILE = "training.safetensors", "curve.json"
_PROGRESS, _CHECKSUM = "progress", "xxh3"


class Epoch(msgspec.Struct, frozen=True):
    """One line of a training curve."""

    number: int
    """From 1; 0 is the network before its first step."""
    loss: float | None
    """The mean over the epoch's steps; None before the first."""
    validation: float
    """Higher is better."""


def best_of(curve: Sequence[Epoch]) -> Epoch:
    """The first of the epochs whose validation is the highest."""
    return max(curve, key=lambda epoch: epoch.validation)


class Progress(msgspec.Struct):
    """How far a run is."""

    done: int = 0
    """Epochs."""
    waited: int = 0
    """Of those, how many since the best."""
    best: float = -math.inf
    curve: list[Epoch] = []
    averaged: int = 0
    """Epochs whose weights are in the mean, where one is kept."""
    averaged_best: float = 0.0
    """The validation of that mean."""


@dataclass(slots=True)
class RunState:
    """A run between two epochs, besides its network and optimizer."""

    progress: Progress = field(default_factory=Progress)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    averaged: dict[str, Tensor] = field(default_factory=dict)
    """The mean of some epochs' weights, where one is kept."""

    def judge(self, network: nn.Module, epoch: Epoch) -> None:
        """Adds an epoch to the curve, and keeps the weights where it is the best."""
        so_far = self.progress
        so_far.curve.append(epoch)
        if epoch.validation > so_far.best:
            so_far.best, so_far.waited = epoch.validation, 0
            self.best_weights = weights_of(network)
        else:
            so_far.waited += 1


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all that a network has learned or began with."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def save_checkpoint(folder: Path, network: nn.Module, optimizer: Optimizer, state: RunState) -> None:
    """Writes a run to `folder`, whole or not at all."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best_weights.items()}
    tensors |= {f"averaged.{name}": value for name, value in state.averaged.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    # Tensors that share memory may not stand in one file.
    tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    progress = msgspec.json.encode(state.progress).decode()
    with atomic_file(folder / STATE_FILE, durable=False) as file:
        file.write(save(tensors, {_PROGRESS: progress, _CHECKSUM: _checksum(progress, tensors)}))
    write_durably(folder / CURVE_FILE, msgspec.json.encode(state.progress.curve))


def load_checkpoint(folder: Path, network: nn.Module, optimizer: Optimizer) -> RunState:
    """What an interrupted run left in `folder`, its network and optimizer set; a new run where that cannot be read or
    is of another network."""
    before = weights_of(network)
    try:
        with safe_open(folder / STATE_FILE, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
        if _checksum(metadata[_PROGRESS], tensors) != metadata[_CHECKSUM]:
            return RunState()
        progress = msgspec.json.decode(metadata[_PROGRESS], type=Progress)
        network.load_state_dict(_under("network", tensors))
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": _moments(tensors), "param_groups": groups})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, msgspec.MsgspecError):
        network.load_state_dict(before)
        return RunState()
    return RunState(progress, _under("best", tensors), _under("averaged", tensors))


def _checksum(progress: str, tensors: Mapping[str, Tensor]) -> str:
    digest = xxhash.xxh3_64(progress.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        digest.update(tensors[name].cpu().reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()


def _moments(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer", tensors).items():
        number, moment = name.split(".")
        moments.setdefault(int(number), {})[moment] = value
    return moments


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


# The curves of trainings as TensorBoard draws them, where it is installed: the only file that writes its event files.
#
# WORK/tensorboard/clicks-0123456789abcdef/debiased/   one run, one network of it

CHARTS_FOLDER = "tensorboard"
KEEP = 10
"""Runs whose curves stay, the newest ones."""
_RUN_NAME = re.compile(r"[a-z]+-[0-9a-f]{16}")
"""Only what is named so was written here, and may be removed."""

Judged = Callable[[Epoch], None]
"""Is told of each epoch; see `rerank.training.trainer.train`."""


@contextmanager
def charted(work: Path, run: str, network: str) -> Iterator[Judged]:
    """Gives what writes the epochs of a run's network, its loss and its validation, each as it is told of.

    What an interrupted run has left of the same network is written anew. Without the package tensorboard nothing is
    written.
    """
    writer = _writer(work / CHARTS_FOLDER / run / network)
    if writer is None:
        yield lambda _epoch: None
        return
    _remove_old(work / CHARTS_FOLDER)

    def judged(epoch: Epoch) -> None:
        if epoch.loss is not None:
            writer.add_scalar("loss", epoch.loss, epoch.number)
        writer.add_scalar("validation", epoch.validation, epoch.number)
        writer.flush()

    with closing(writer):
        yield judged


def _writer(folder: Path) -> SummaryWriter | None:
    try:
        # It is an extra, and slow to import.
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    if folder.is_dir():
        shutil.rmtree(folder)
    return SummaryWriter(str(folder))


def _remove_old(charts: Path) -> None:
    runs = [entry for entry in charts.iterdir() if _RUN_NAME.fullmatch(entry.name)]
    for old in sorted(runs, key=lambda entry: entry.stat().st_mtime)[:-KEEP]:
        shutil.rmtree(old)
