"""The position-based model: a click is an examined position times an attractive product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from rerank.clicks.arrays import Floats
from rerank.clicks.click_log import ClickLog
from rerank.clicks.examination_em import fit_cells
from rerank.clicks.model import DEFAULTS, FitOptions, PairEstimates, Progress, attraction
from rerank.clicks.slot_examination import fold


@dataclass(frozen=True, slots=True, eq=False)
class PositionBased:
    """PBM: Craswell et al. 2008; Chuklin, Markov & de Rijke 2015 (Click Models for Web Search, sections 3.3, 4.3).

    The first position is always examined, which sets the scale of the others: a product's attractiveness is its click
    rate there.
    """

    name: ClassVar[str] = "pbm"
    estimates: PairEstimates
    examination: Floats
    """(depth,)"""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:
        """Fits to counts by pair and position: examination first, then attractiveness by expectation maximisation."""
        positions = np.broadcast_to(np.arange(log.depth), log.pairs.shape)
        cells = fold(log, positions, log.depth)
        return cls(*fit_cells(cells, options, progress))

    def click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return attraction(self.estimates, log, len(self.examination)) * self.examination[: log.depth]

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return np.broadcast_to(self.examination[: log.depth], log.pairs.shape)

    def conditional_click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): the same, as clicks do not depend on each other in this model."""
        return self.click_probabilities(log)
