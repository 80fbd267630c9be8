"""The user browsing model: how far down the last click was decides whether a position is examined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from rerank.clicks.arrays import Floats
from rerank.clicks.click_log import ClickLog
from rerank.clicks.examination_em import fit_cells
from rerank.clicks.model import DEFAULTS, FitOptions, PairEstimates, Progress, attraction
from rerank.clicks.slot_examination import fold


@dataclass(frozen=True, slots=True, eq=False)
class UserBrowsing:
    """UBM: Dupret & Piwowarski 2008 (A user browsing model to predict search engine click data, section 3.2).

    The first position is always examined, which sets the scale.
    """

    name: ClassVar[str] = "ubm"
    estimates: PairEstimates
    examination: Floats
    """(depth,)"""
    gamma: Floats
    """(depth, depth): how often position r + 1 is examined when the last click above was at position c, or nowhere for
    c = 0; 0 for c > r."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:
        """Fits to counts by pair, position and last click: examination first, then attractiveness by expectation
        maximisation."""
        depth = log.depth
        slots = np.arange(depth) * depth + last_click(log)
        cells = fold(log, slots, depth * depth)
        estimates, looked = fit_cells(cells, options, progress)
        gamma = np.tril(looked.reshape(depth, depth))
        shown = cells.by_slot(cells.impressions).reshape(depth, depth)
        positions = shown.sum(axis=1)
        # A position that was never shown counts as one where nothing above was clicked.
        shown[positions == 0, :1] = 1.0
        return cls(estimates, (gamma * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1e-300), gamma)

    def click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel; over all that could have been clicked above."""
        attracted = attraction(self.estimates, log, len(self.examination))
        clicks = np.zeros(attracted.shape)
        last = np.zeros((log.size, log.depth + 1))
        last[:, 0] = 1.0
        for position in range(log.depth):
            above = last[:, : position + 1]
            each = self.gamma[position, : position + 1] * attracted[:, position, None]
            clicks[:, position] = np.einsum("ij,ij->i", above, each)
            above *= 1.0 - each
            last[:, position + 1] = clicks[:, position]
        return clicks

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return self.gamma[np.arange(log.depth), last_click(log)]

    def conditional_click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return attraction(self.estimates, log, len(self.examination)) * self.conditional_examination(log)


def last_click(log: ClickLog) -> npt.NDArray[np.int64]:
    """(n, depth): the position, from 1, of the last click above each position; 0 where there is none."""
    clicked = np.where(log.clicks, np.arange(1, log.depth + 1), 0)
    before = np.zeros(clicked.shape, np.int64)
    np.maximum.accumulate(clicked[:, :-1], axis=1, out=before[:, 1:])
    return before
