"""What is measured case by case, as a mean that shoppers are drawn for: one with many cases is one shopper still."""

from __future__ import annotations

import numpy as np

from rerank.clicks.arrays import Floats
from rerank.gate.bootstrap import Difference, paired_bootstrap
from rerank.gate.measures import query_means
from rerank.shoppers.histories import Ints

_RESAMPLES = 2_000


def over_shoppers(values: Floats, shoppers: Ints) -> Difference:
    """The mean over cases, NaN left out, with its interval: shoppers are drawn, with all their cases."""
    known = ~np.isnan(values)
    means, weights = query_means(values[known], shoppers[known], int(shoppers.max()) + 1)
    return paired_bootstrap(means, np.zeros_like(means), weights, resamples=_RESAMPLES)
