"""The network that training on clicks begins with: the one that serves, or a new one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.ranker.network import HistoryAttention, NetworkShape, RankerNetwork

_HISTORY = "history."


def new_network(shape: NetworkShape, features: NDArray[np.float32], seed: int) -> RankerNetwork:
    """A network of drawn weights, at the scale of features (m, F)."""
    torch.manual_seed(seed)
    network = RankerNetwork(shape)
    network.fit_scale(torch.from_numpy(features))
    return network


def new_attention(dimension: int, seed: int, columns: int = 32) -> HistoryAttention:
    """Attention of drawn weights over histories of vectors of this dimension; it changes no score yet."""
    torch.manual_seed(seed)
    return HistoryAttention(NetworkShape(1, dimension, 1, attention_heads=1, history=columns))


def with_attention(network: RankerNetwork, attention: HistoryAttention | None) -> RankerNetwork:
    """The same network with this attention over histories, or with none."""
    columns, dimension = (0, 0) if attention is None else attention.candidate.weight.shape
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith(_HISTORY)}
    if attention is not None:
        weights |= {f"{_HISTORY}{name}": value for name, value in attention.state_dict().items()}
    made = RankerNetwork(replace(network.shape, history=columns, vector_dimension=dimension))
    made.load_state_dict(weights)
    return made.eval()


def take_up_features(network: RankerNetwork, features: NDArray[np.float32]) -> tuple[int, ...]:
    """Lets a trained network read features that never varied before and vary in (m, F) now; gives their columns.

    Their scale is fitted, and their weights begin at 0, so that no score changes before something is learned. All other
    features keep the scale that their weights were learned at.
    """
    fitted = RankerNetwork(network.shape)
    fitted.fit_scale(torch.from_numpy(features))
    columns = torch.nonzero(network.constant_features & ~fitted.constant_features)[:, 0]
    with torch.no_grad():
        network.centre[columns] = fitted.centre[columns]
        network.spread[columns] = fitted.spread[columns]
        network.linear.weight[:, columns] = 0.0
        next(network.mlp[0].parameters())[:, columns] = 0.0
    return tuple(columns.tolist())
