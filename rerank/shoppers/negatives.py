"""What the next product is told apart from in training: a sample of the products that were ever chosen.

Products that nobody has chosen yet are no negatives: nothing is known against them, and a tower that learned to put
them last would never show what is new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.shoppers.histories import Ints

_LEAST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """c candidates of one step."""

    rows: Ints
    """(c,): distinct, ascending; all targets are among them."""
    log_q: NDArray[np.float32]
    """(c,): the logarithm of how likely each was to be among them, which is taken off its score (Yi et al. 2019,
    Sampling-bias-corrected neural modeling, section 3)."""


class Negatives:
    """Draws half of the candidates evenly, half by how often they were chosen, beside the targets of the step."""

    def __init__(self, counts: Ints, most: int) -> None:
        """`counts` (N,) say how often each product was chosen; up to `most` products are drawn. As many products or
        fewer have all of them as candidates, so that nothing is to be corrected."""
        self._rows = np.flatnonzero(counts)
        self._shares = counts[self._rows] / max(1, counts.sum())
        self._total = np.cumsum(self._shares)
        self._most = most

    def draw(self, targets: Ints, random: np.random.Generator) -> Sample:
        """The candidates for targets (t,)."""
        if len(self._rows) <= self._most:
            return Sample(self._rows, np.zeros(len(self._rows), np.float32))
        evenly = random.integers(len(self._rows), size=self._most // 2)
        popular = np.searchsorted(self._total, random.random(self._most - len(evenly)) * self._total[-1])
        drawn = np.concatenate([evenly, popular, np.searchsorted(self._rows, targets)])
        numbers = np.unique(np.minimum(drawn, len(self._rows) - 1))
        expected = len(evenly) / len(self._rows) + (len(popular) + len(targets)) * self._shares[numbers]
        # 1 - (1 - q)^k, for many draws of little probability each.
        log_q = np.log(np.maximum(-np.expm1(-expected), _LEAST))
        return Sample(self._rows[numbers], log_q.astype(np.float32))
