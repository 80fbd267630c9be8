"""The click models: position-based (PBM) and user browsing (UBM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from shelfwise.rerank.click_models.base import DEFAULTS, FitOptions, PairEstimates, PairPrior, pair_estimates
from shelfwise.rerank.click_models.click_log import ClickLog, Floats
from shelfwise.rerank.click_models.priors import Cells, fold, slot_examination

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PositionBased:
    """PBM: Craswell et al. 2008; Chuklin, Markov & de Rijke 2015 (Click Models for Web Search, sections 3.3, 4.3).

    A click needs an examined position and an attractive product. The first position is always examined, which sets the
    scale of the others: a product's attractiveness is its click rate there.
    """

    estimates: PairEstimates
    examination: Floats
    """(depth,)"""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS) -> Self:
        """Fits to counts by pair and position: examination first, then attractiveness by expectation maximisation."""
        positions = np.broadcast_to(np.arange(log.depth), log.pairs.shape)
        return cls(*_fit_cells(fold(log, positions, log.depth), options))

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): the examination of each position, whatever was clicked above it."""
        return np.broadcast_to(self.examination[: log.depth], log.pairs.shape)


@dataclass(frozen=True, slots=True, eq=False)
class UserBrowsing:
    """UBM: Dupret & Piwowarski 2008 (A user browsing model to predict search engine click data, section 3.2).

    Examination depends on the position and on that of the last click above. The first position is always examined.
    """

    estimates: PairEstimates
    examination: Floats
    """(depth,)"""
    gamma: Floats
    """(depth, depth): the examination of position r + 1 if the last click above was at position c, or nowhere for c =
    0; 0 for c > r."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS) -> Self:
        """Fits to counts by pair, position and last click: examination first, then attractiveness by EM."""
        depth = log.depth
        cells = fold(log, np.arange(depth) * depth + last_click(log), depth * depth)
        estimates, examined = _fit_cells(cells, options)
        gamma = np.tril(examined.reshape(depth, depth))
        shown = cells.by_slot(cells.impressions).reshape(depth, depth)
        # A position that was never shown counts as one without a click above.
        shown[shown.sum(axis=1) == 0, :1] = 1.0
        return cls(estimates, (gamma * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1e-300), gamma)

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): the probability that each position is examined, given the clicks above it."""
        return self.gamma[np.arange(log.depth), last_click(log)]


def last_click(log: ClickLog) -> Indices:
    """(n, depth): the position, from 1, of the last click above each position; 0 if there is none."""
    clicked = np.where(log.clicks, np.arange(1, log.depth + 1), 0)
    last = np.zeros(clicked.shape, np.int64)
    np.maximum.accumulate(clicked[:, :-1], axis=1, out=last[:, 1:])
    return last


def _fit_cells(cells: Cells, options: FitOptions) -> tuple[PairEstimates, Floats]:
    """The pairs' estimates and the examination of each slot (slots,), by expectation maximisation.

    The missing data are the examinations of impressions that were not clicked. Unlike in Chuklin et al. 2015, section
    4.3, they do not include whether an unexamined product would have been attractive: the fixed points are the same,
    and fewer iterations are needed (Meng & van Dyk 1997, The EM algorithm: an old folk-song sung to a fast new tune).
    """
    examination = slot_examination(cells)
    clicked = cells.by_pair(cells.clicks)
    exposure = cells.by_pair(cells.impressions * examination[cells.slot])
    prior = options.prior or PairPrior.ordinary(clicked, exposure, options.strength)
    attractiveness = prior.posterior(clicked, exposure)
    for _ in range(options.iterations):
        examined = cells.by_pair(cells.clicks + cells.misses * _unclicked(cells, attractiveness, examination))
        better = prior.posterior(clicked, examined)
        change = float(np.abs(better - attractiveness) @ examined) / max(float(examined.sum()), 1.0)
        attractiveness = better
        if change < options.tolerance:
            break
    seen = _unclicked(cells, attractiveness, examination)
    estimates = pair_estimates(
        attractiveness,
        cells.by_pair(cells.impressions),
        clicked,
        cells.by_pair(cells.clicks + cells.misses * seen),
        cells.by_pair(cells.misses * seen * (1.0 - seen)),
        prior.strength,
    )
    return estimates, examination


def _unclicked(cells: Cells, attractiveness: Floats, examination: Floats) -> Floats:
    """(cells,): the probability that an impression without a click was examined."""
    attracted, examined = attractiveness[cells.pair], examination[cells.slot]
    return np.asarray(examined * (1.0 - attracted) / (1.0 - examined * attracted))
