"""Resumable training: epochs, validation, early stopping, checkpoints, TensorBoard curves. A run saves a checkpoint
after every epoch. A resumed run ends with the same weights, since each epoch's randomness depends on the seed and
the epoch's number alone."""

from __future__ import annotations

import math
import re
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.store.files import atomic_file, write_durably


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Options of training; the defaults are those of distillation."""

    epochs: int = 6
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: int = 50
    """Steps until the learning rate is highest; after that it falls linearly to 0 at the last step."""
    patience: int = 2
    """The number of epochs without a better validation after which training stops."""
    clip: float = 1.0
    """The longest gradient; longer ones are clipped."""


@contextmanager
def spare_threads() -> Iterator[None]:
    """Context in which torch uses half of its threads. Steps on small lists are many short operations, whose threads
    busy-wait for each other: one thread per logical processor uses several times the time, and more on a busy
    machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_one_thread() -> None:
    """Limits torch to one thread from now on, for one of several processes that train in parallel."""
    torch.set_num_threads(1)


_Network = TypeVar("_Network", bound=nn.Module)
_Batch = TypeVar("_Batch")


@dataclass(frozen=True, slots=True)
class Training(Generic[_Network, _Batch]):
    """The inputs of a training. `batches(epoch)` returns an epoch's batches; `steps` is their number; `loss` is that of
    a batch; `validate` measures the network, higher is better; `backward` computes a batch's gradients and returns its
    loss, by default the clipped gradients of `loss`."""

    batches: Callable[[int], Iterable[_Batch]]
    steps: int
    loss: Callable[[_Network, _Batch], Tensor]
    validate: Callable[[_Network], float]
    backward: Callable[[_Network, _Batch], float] | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """The checkpoints of a training, and its callbacks."""

    folder: Path
    advance: Callable[[int], None] = lambda _steps: None
    """Receives the numbers of completed steps."""
    judged: Callable[[Epoch], None] = lambda _epoch: None
    """Receives every epoch of the curve, including those of an interrupted run."""


class NonFiniteLossError(TrainingError):
    """A loss that is infinite or NaN; `place` is where it occurred."""

    def __init__(self, value: float, place: str) -> None:
        self.value, self.place = value, place
        super().__init__(f"the loss became {value} {place}; lower the learning rate, or check the labels")


@dataclass(slots=True)
class Trainer:
    """Runs epochs until all are done or validation has not improved for `patience` epochs."""

    network: nn.Module
    optimizer: Optimizer
    folder: Path
    epochs: int
    patience: int
    train_epoch: Callable[[int], float]
    """Trains the epoch of this number, from 1; returns the mean loss."""
    validate: Callable[[], float]
    """Validation measure, higher is better."""
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None
    """Called for every epoch of the curve, including those of an interrupted run."""
    on_checkpoint: Callable[[RunState, Epoch], None] = lambda _state, _epoch: None
    """Called after an epoch of this run, before its checkpoint is written."""
    on_damage: Callable[[Path], None] = lambda _checkpoint: None
    """Called if a checkpoint cannot be read; the run then starts over."""
    checkpoints_start: bool = False
    """Whether to save a checkpoint before the first epoch, which `on_out_of_memory` needs."""
    on_out_of_memory: Callable[[], None] | None = None
    """Called if the device runs out of memory; the epoch is then repeated from the last checkpoint."""
    state: RunState = field(init=False)

    def start(self) -> RunState:
        """Resumes an interrupted run; a new run begins by validating the initial network."""
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
        """Trains and returns the curve; `state` then has the best weights, which are not yet loaded into the
        network. Raises NonFiniteLossError, and what `train_epoch` raises."""
        for epoch in self.state.progress.curve:
            self.on_epoch(epoch)
        while self.state.progress.done < self.epochs and self.state.progress.waited < self.patience:
            loss = self._train_epoch(self.state.progress.done + 1)
            if loss is None:
                continue
            self.state.progress.done += 1
            epoch = Epoch(self.state.progress.done, loss, self.validate())
            self.state.judge(self.network, epoch)
            self.on_epoch(epoch)
            self.on_checkpoint(self.state, epoch)
            save_checkpoint(self.folder, self.network, self.optimizer, self.state)
        return tuple(self.state.progress.curve)

    def _train_epoch(self, number: int) -> float | None:
        try:
            return self.train_epoch(number)
        except torch.OutOfMemoryError:
            if self.on_out_of_memory is None:
                raise
        # The memory of the step is released with its traceback, after the block above.
        self.on_out_of_memory()
        torch.cuda.empty_cache()
        self.state = load_checkpoint(self.folder, self.network, self.optimizer)
        return None


def train(network: _Network, training: Training[_Network, _Batch], options: LoopOptions, run: Run) -> tuple[Epoch, ...]:
    """Trains `network` in place by AdamW, loads the weights of its best validation, and returns the curve. Raises
    NonFiniteLossError."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=options.weight_decay)

    def clipped(network: _Network, batch: _Batch) -> float:
        loss = training.loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        return loss.item()

    backward = training.backward or clipped

    def train_epoch(number: int) -> float:
        network.train()
        losses: list[float] = []
        for batch in training.batches(number):
            optimizer.zero_grad()
            value = backward(network, batch)
            if not math.isfinite(value):
                raise NonFiniteLossError(value, f"in epoch {number}")
            step = (number - 1) * training.steps + len(losses)
            rate = slope(step, training.steps * options.epochs, options.warm_up)
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * rate
            optimizer.step()
            losses.append(value)
            run.advance(1)
        network.eval()
        return sum(losses) / max(len(losses), 1)

    def validate() -> float:
        return training.validate(network)

    trainer = Trainer(
        network, optimizer, run.folder, options.epochs, options.patience, train_epoch, validate, run.judged
    )
    progress = trainer.start().progress
    if progress.done:
        run.advance(progress.done * training.steps)
    curve = trainer.run()
    network.load_state_dict(trainer.state.best_weights)
    return curve


def slope(step: int, steps: int, warm_up: int) -> float:
    """Learning rate factor at a step, from 0: linear warm-up for `warm_up` steps, then linear decay to 0."""
    if step < warm_up:
        return (step + 1) / warm_up
    return max(0.0, (steps - step) / max(1, steps - warm_up))


STATE_FILE, CURVE_FILE = "training.state", "curve.json"
_DIGEST_BYTES = 8
"""The state begins with its XXH3, since safetensors does not check the values."""


class Epoch(msgspec.Struct, frozen=True):
    """One line of a training curve."""

    number: int
    """The number of the epoch, from 1; 0 is the untrained network."""
    loss: float | None
    """Mean loss of the epoch; None for epoch 0."""
    validation: float
    """Higher is better."""


def best_of(curve: Sequence[Epoch]) -> Epoch:
    """The first epoch with the highest validation."""
    return max(curve, key=lambda epoch: epoch.validation)


class Progress(msgspec.Struct):
    """Progress counters of a run."""

    done: int = 0
    """Completed epochs."""
    waited: int = 0
    """Epochs since the best one."""
    best: float = -math.inf
    curve: list[Epoch] = []
    averaged: int = 0
    """Epochs in the averaged weights."""
    averaged_best: float = 0.0
    """Validation of the average."""


@dataclass(slots=True)
class RunState:
    """State of a run between two epochs, without its network and optimizer."""

    progress: Progress = field(default_factory=Progress)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    averaged: dict[str, Tensor] = field(default_factory=dict)
    """Averaged weights, if enabled."""

    def judge(self, network: nn.Module, epoch: Epoch) -> None:
        """Adds an epoch to the curve, and copies the weights if it is the best."""
        so_far = self.progress
        so_far.curve.append(epoch)
        if epoch.validation > so_far.best:
            so_far.best, so_far.waited = epoch.validation, 0
            self.best_weights = weights_of(network)
        else:
            so_far.waited += 1


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def save_checkpoint(folder: Path, network: nn.Module, optimizer: Optimizer, state: RunState) -> None:
    """Writes a checkpoint to `folder` atomically."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best_weights.items()}
    tensors |= {f"averaged.{name}": value for name, value in state.averaged.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    tensors["progress"] = torch.frombuffer(bytearray(msgspec.json.encode(state.progress)), dtype=torch.uint8)
    # safetensors rejects tensors that share memory.
    content = save({name: value.detach().clone().contiguous() for name, value in tensors.items()})
    with atomic_file(folder / STATE_FILE, durable=False) as file:
        file.write(xxhash.xxh3_64_digest(content))
        file.write(content)
    write_durably(folder / CURVE_FILE, msgspec.json.encode(state.progress.curve))


def load_checkpoint(folder: Path, network: nn.Module, optimizer: Optimizer) -> RunState:
    """Loads the checkpoint in `folder` into network and optimizer; a new state if it is unreadable or of another
    network."""
    before = weights_of(network)
    try:
        stored = (folder / STATE_FILE).read_bytes()
        if xxhash.xxh3_64_digest(stored[_DIGEST_BYTES:]) != stored[:_DIGEST_BYTES]:
            return RunState()
        tensors = load(stored[_DIGEST_BYTES:])
        progress = msgspec.json.decode(tensors["progress"].numpy().tobytes(), type=Progress)
        network.load_state_dict(_under("network", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer", tensors).items():
            number, moment = name.split(".")
            moments.setdefault(int(number), {})[moment] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, msgspec.MsgspecError):
        network.load_state_dict(before)
        return RunState()
    return RunState(progress, _under("best", tensors), _under("averaged", tensors))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


State = Mapping[str, NDArray[np.float32]]
"""The weights of a network, by name."""
VALIDATION = "validation"
"""The key under which stores average their validation after each round; other keys are names of weights."""


class Federation(Protocol):
    """One store's part in a joint training of several stores, which take all steps together."""

    @property
    def stores(self) -> int: ...

    @property
    def rounds(self) -> int: ...

    def average(self, state: State, weight: float) -> State:
        """The weighted mean of the states of all stores; waits for the last one. Raises TrainingError if another store
        has failed."""
        ...


def average_weights(network: nn.Module, federation: Federation, weight: float) -> None:
    """Replaces a network's weights by the mean over all stores."""
    own = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    mean = federation.average({name: value.cpu().numpy().copy() for name, value in own.items()}, weight)
    network.load_state_dict({name: value.new_tensor(mean[name]) for name, value in own.items()}, strict=False)


def average_validation(own: float, federation: Federation) -> float:
    """The mean of the stores' validations, each with the same weight."""
    return float(federation.average({VALIDATION: np.array([own], np.float32)}, 1.0)[VALIDATION][0])


def run_digest(identity: str, *arrays: NDArray[np.generic]) -> str:
    """A digest of the options and the data of a run: only an equal run is resumed."""
    digest = xxhash.xxh3_64(identity.encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@contextmanager
def run_folder(work: Path, source: str, digest: str) -> Iterator[Path]:
    """Context with the folder WORK/SOURCE-DIGEST of a run, which an interrupted run leaves. After success, all runs of
    the source are removed."""
    yield work / f"{source}-{digest}"
    for over in work.glob(f"{source}-*"):
        shutil.rmtree(over)


CHARTS_FOLDER = "tensorboard"
KEEP = 10
"""Number of newest runs whose curves are kept."""
_RUN_NAME = re.compile(r"[a-z]+-[0-9a-f]{16}")
"""Only folders of this name pattern may be removed."""


def tensorboard_curve(run: Path, network: str) -> Callable[[Epoch], None]:
    """Callback of a `Trainer` that writes the loss and validation of each epoch as TensorBoard event files: those of
    WORK/clicks-0123456789abcdef go to WORK/tensorboard/clicks-0123456789abcdef/NETWORK/. The curve of an interrupted
    run is rewritten."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    charts = run.parent / CHARTS_FOLDER
    folder = charts / run.name / network
    if folder.is_dir():
        shutil.rmtree(folder)
    writer = SummaryWriter(str(folder))
    runs = [entry for entry in charts.iterdir() if _RUN_NAME.fullmatch(entry.name)]
    for old in sorted(runs, key=lambda entry: entry.stat().st_mtime)[:-KEEP]:
        shutil.rmtree(old)

    def on_epoch(epoch: Epoch) -> None:
        if epoch.loss is not None:
            writer.add_scalar("loss", epoch.loss, epoch.number)
        writer.add_scalar("validation", epoch.validation, epoch.number)
        writer.flush()

    # The writer's thread ends with the callback.
    weakref.finalize(on_epoch, writer.close)
    return on_epoch
