"""A network on disk: its weights and its sizes in one safetensors file, which cannot run code."""

from __future__ import annotations

from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rerank.ranker.network import NetworkShape, RankerNetwork
from retrieval.errors import RankerDamagedError, RankerForeignError

_SHAPE = "shape"


def save_network(network: RankerNetwork, path: Path) -> None:
    """Writes the file."""
    shape = msgspec.json.encode(network.shape).decode()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path, {_SHAPE: shape})


def load_network(path: Path) -> RankerNetwork:
    """Reads the file; raises RankerDamagedError where it cannot be read, RankerForeignError where its weights are not
    those of a network of its sizes."""
    try:
        with safe_open(path, framework="pt") as file:
            shape = msgspec.json.decode((file.metadata() or {})[_SHAPE], type=NetworkShape)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
    except (OSError, SafetensorError, KeyError, msgspec.MsgspecError) as error:
        raise RankerDamagedError(f"{path} cannot be read ({error}); train the ranker again") from error
    network = RankerNetwork(shape)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        message = f"{path} holds weights of another network than this program has ({str(error)[:300]}); train it again"
        raise RankerForeignError(message) from error
    return network.eval()
