"""What a training run keeps between epochs, so that it can be killed: tensors and numbers in safetensors, no pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, uint8
from torch.optim import Optimizer

from retrieval.manifest import open_scratch, scratch_path, write_durably

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


def keep(folder: Path, network: nn.Module, optimizer: Optimizer, state: RunState) -> None:
    """Writes a run to `folder`, whole or not at all."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best_weights.items()}
    tensors |= {f"averaged.{name}": value for name, value in state.averaged.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    # Tensors that share memory may not stand in one file.
    tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    progress = msgspec.json.encode(state.progress).decode()
    scratch = scratch_path(folder / STATE_FILE)
    with open_scratch(scratch) as file:
        file.write(save(tensors, {_PROGRESS: progress, _CHECKSUM: _checksum(progress, tensors)}))
    scratch.replace(folder / STATE_FILE)
    write_durably(folder / CURVE_FILE, msgspec.json.encode(state.progress.curve))


def resumed(folder: Path, network: nn.Module, optimizer: Optimizer) -> RunState:
    """What an interrupted run left in `folder`, its network and optimizer set; a new run where that cannot be read or
    is of another network."""
    before = weights_of(network)
    try:
        with safe_open(folder / STATE_FILE, framework="pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
        if _checksum(told[_PROGRESS], tensors) != told[_CHECKSUM]:
            return RunState()
        progress = msgspec.json.decode(told[_PROGRESS], type=Progress)
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
