"""Position-based click models, fitted by EM: PBM (a click is an examined position times an attractive product) and
UBM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from rerank.click_models.base import (
    DEFAULTS,
    FitOptions,
    PairEstimates,
    PairPrior,
    Progress,
    attraction,
    pair_estimates,
)
from rerank.click_models.click_log import ClickLog, Floats
from rerank.click_models.priors import Cells, fold, slot_examination


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


# Expectation maximisation where a click is an examined slot times an attractive pair: the PBM and the UBM.


def fit_cells(cells: Cells, options: FitOptions, progress: Progress | None = None) -> tuple[PairEstimates, Floats]:
    """The pairs' estimates and the examination of each slot (slots,).

    The missing data are the examinations of what was not clicked. Whether something unexamined would have attracted is
    left out of them, unlike in Chuklin et al. 2015, section 4.3: the fixed points are the same, and fewer iterations
    lead there (Meng & van Dyk 1997, The EM algorithm: an old folk-song sung to a fast new tune).
    """
    examination = slot_examination(cells)
    clicked = cells.by_pair(cells.clicks)
    exposure = cells.by_pair(cells.impressions * examination[cells.slot])
    prior = options.prior or PairPrior.ordinary(clicked, exposure, options.strength)
    attractiveness = prior.posterior(clicked, exposure)
    for iteration in range(1, options.iterations + 1):
        looked = cells.by_pair(cells.clicks + cells.misses * _unclicked(cells, attractiveness, examination))
        better = prior.posterior(clicked, looked)
        change = float(np.abs(better - attractiveness) @ looked) / max(float(looked.sum()), 1.0)
        attractiveness = better
        if progress:
            progress(iteration, change)
        if change < options.tolerance:
            break
    return _estimates(cells, attractiveness, examination, prior.strength), examination


def _unclicked(cells: Cells, attractiveness: Floats, examination: Floats) -> Floats:
    """(cells,): the probability that what was not clicked was examined."""
    attracted, looked = attractiveness[cells.pair], examination[cells.slot]
    return np.asarray(looked * (1.0 - attracted) / (1.0 - looked * attracted))


def _estimates(cells: Cells, attractiveness: Floats, examination: Floats, strength: float) -> PairEstimates:
    seen = _unclicked(cells, attractiveness, examination)
    return pair_estimates(
        attractiveness,
        cells.by_pair(cells.impressions),
        cells.by_pair(cells.clicks),
        cells.by_pair(cells.clicks + cells.misses * seen),
        cells.by_pair(cells.misses * seen * (1.0 - seen)),
        strength,
    )
