"""Expectation maximisation where a click is an examined slot times an attractive pair: the PBM and the UBM."""

from __future__ import annotations

import numpy as np

from rerank.clicks.arrays import Floats
from rerank.clicks.model import FitOptions, PairEstimates, PairPrior, Progress, pair_estimates
from rerank.clicks.slot_examination import Cells, slot_examination


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
