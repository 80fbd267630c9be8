"""The networks that benchmarks train, and how far trainings of several seeds lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape

LAYERS = {"head": 0, "cross-attention": 1}
"""Names to cross-attention layers."""


def shape_without_history(dimension: int, layers: int) -> NetworkShape:
    """Of a network that reads token states of `dimension` columns, and no shopper's history."""
    return NetworkShape(dimension, 0, len(FEATURES), layers=layers, history=0)


def seed_spread(values: Sequence[NDArray[np.float64]]) -> float:
    """The standard deviation of the means of several trainings' values; 0 for a single one."""
    means = [float(each.mean()) for each in values]
    return float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
