"""How often each slot of the result page is examined, told by products that were shown in several.

A slot is what examination depends on: the position, or the position and that of the click before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rerank.clicks.arrays import Floats, sums
from rerank.clicks.click_log import ClickLog

_STEPS = 100
_LONGEST_STEP = 2.0
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Equal impressions counted together: arrays (cells,), ordered by pair, then slot."""

    pair: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]
    clicks: Floats
    """How many of them were clicked."""
    misses: Floats
    """How many were not."""
    pairs: int
    slots: int

    @property
    def impressions(self) -> Floats:
        """(cells,)"""
        return self.clicks + self.misses

    def by_pair(self, values: Floats) -> Floats:
        """(pairs,): sums of `values` (cells,)."""
        return sums(self.pair, values, self.pairs)

    def by_slot(self, values: Floats) -> Floats:
        """(slots,): sums of `values` (cells,)."""
        return sums(self.slot, values, self.slots)


def fold(log: ClickLog, slots: npt.NDArray[np.integer], count: int) -> Cells:
    """Counts a log's impressions by pair and slot; `slots` (n, depth) are below `count`."""
    shown = log.shown
    key = log.pairs[shown].astype(np.int64) * count + slots[shown]
    clicked = log.clicks[shown]
    weights = np.broadcast_to(log.row_weights[:, None], shown.shape)[shown]
    order = np.argsort(key, kind="stable")
    key, clicked, weights = key[order], clicked[order], weights[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    total = _runs(weights, starts)
    clicks = _runs(np.where(clicked, weights, 0.0), starts)
    pair, slot = np.divmod(key[starts], max(count, 1))
    return Cells(pair, slot, clicks, total - clicks, log.count, count)


def _runs(values: Floats, starts: npt.NDArray[np.int64]) -> Floats:
    return np.add.reduceat(values, starts) if len(starts) else np.zeros(0)


def slot_examination(cells: Cells) -> Floats:
    """(slots,): the examination of each slot, from 0 to 1.

    Only the product of attractiveness and examination shows in a log, so a scale must be set: the first slot that was
    shown is always examined. The others maximise the Poisson likelihood of each pair's clicks by slot, given their
    sum, in which attractiveness no longer appears. It needs nothing but that the expected clicks are attractiveness
    times examination (Wooldridge 1999, Distribution-free estimation of some nonlinear panel data models, section 3),
    and so it is not misled where most pairs have few impressions or the ranking is good: maximising over examination
    and thousands of attractivenesses together is, by much. Like Agarwal et al. 2019 (Estimating position bias
    without intrusive interventions, section 4), it learns from pairs that were shown in several slots alone. What
    these do not tell follows a prior, worth one click: each slot's click rate, as if all showed equally good products.
    """
    expected = _click_rates(cells)
    if not cells.slots:
        return expected
    anchor = int(np.argmax(cells.by_slot(cells.impressions) > 0))
    free = np.arange(cells.slots) != anchor
    clicks, shown, by_slot = _informative(cells)
    logarithm = np.log(expected)
    for _ in range(_STEPS):
        examination = np.exp(logarithm)
        weighted = shown @ sparse.diags_array(examination)
        share = sparse.diags_array(1.0 / weighted.sum(axis=1)) @ weighted
        mean = share.T @ clicks
        slope = by_slot - mean + 1.0 - examination / expected
        curvature = np.diag(mean + examination / expected) - (share.T @ sparse.diags_array(clicks) @ share).toarray()
        step = np.linalg.solve(curvature[np.ix_(free, free)], slope[free]).clip(-_LONGEST_STEP, _LONGEST_STEP)
        logarithm[free] += step
        if np.abs(step).max(initial=0.0) < _CLOSE:
            break
    return np.minimum(np.exp(logarithm), 1.0)


def _click_rates(cells: Cells) -> Floats:
    """(slots,): click rates over that of the first slot shown, at most 1; 1/2 where a slot was never shown."""
    clicks, shown = cells.by_slot(cells.clicks), cells.by_slot(cells.impressions)
    rate = (clicks + 1.0) / (shown + 2.0)
    if not (shown > 0).any():
        return np.where(np.arange(cells.slots) == 0, 1.0, 0.5)
    first = rate[int(np.argmax(shown > 0))]
    return np.where(shown > 0, np.minimum(rate / first, 1.0), 0.5)


def _informative(cells: Cells) -> tuple[Floats, sparse.csr_array, Floats]:
    """Pairs with a click that were shown in two slots or more: clicks (m,), impressions (m, slots), clicks (slots,)."""
    clicked = cells.by_pair(cells.clicks)
    kept = ((clicked > 0) & (np.bincount(cells.pair, minlength=cells.pairs) > 1))[cells.pair]
    pairs, rows = np.unique(cells.pair[kept], return_inverse=True)
    shown = sparse.csr_array((cells.impressions[kept], (rows, cells.slot[kept])), shape=(len(pairs), cells.slots))
    return clicked[pairs], shown, sums(cells.slot[kept], cells.clicks[kept], cells.slots)
