"""How well the next product was foretold, over the whole catalog: its rank, and what follows from that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank.clicks.arrays import Floats
from rerank.shoppers.histories import Ints


def ranks(scores: NDArray[np.floating], targets: Ints, hidden: Sequence[Ints] | None = None) -> Ints:
    """(n,): the rank of each target among all products, from 1; scores (n, N).

    `hidden` are for each of n the rows that are not shown: whatever they score, they count for nothing, unless one is
    the target itself, which then has the last rank. Products with the target's score stand before it, and all do where
    scores are no numbers.
    """
    shown = np.array(scores, copy=hidden is not None)
    target = shown[np.arange(len(shown)), targets].copy()
    for number, rows in enumerate(hidden or ()):
        shown[number, rows] = -np.inf
        if targets[number] in rows:
            target[number] = -np.inf
    before: Ints = (~(shown < target[:, None])).sum(axis=1).astype(np.int64)
    return np.maximum(before, np.int64(1))


def hit_rate(found: Ints, depth: int = 10) -> Floats:
    """(n,): 1 where the rank is within the depth."""
    return (found <= depth).astype(np.float64)


def ndcg(found: Ints, depth: int = 10) -> Floats:
    """(n,): nDCG of one right product, 1 / log2(rank + 1) within the depth (Järvelin & Kekäläinen 2002, section 3)."""
    return np.where(found <= depth, 1.0 / np.log2(found + 1.0), 0.0)
