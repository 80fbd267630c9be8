"""Inverse propensity weighting: an act counts the more, the less likely its position was looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerank.clicks.arrays import Floats, Ints, sums
from rerank.clicks.click_log import NOTHING as NOTHING_SHOWN

LEAST_PROPENSITY = 0.1
"""Rarer looks count as this: one act far down a list would outweigh all others (clipping: Strehl et al. 2010, Learning
from logged implicit exploration data, section 2)."""


def propensities(examination: Floats, least: float = LEAST_PROPENSITY) -> Floats:
    """(depth,): the probabilities that positions are looked at, by a click model's examination (depth,), clipped."""
    return np.clip(np.nan_to_num(examination, nan=least), least, 1.0)


def unbiased_gains(pairs: Ints, acts: NDArray[np.bool_], chances: Floats, worth: Floats, count: int) -> Floats:
    """(count,): what each pair was worth for an impression that is looked at, freed of position.

    Each act counts 1 / the propensity of its position (Joachims, Swaminathan & Schnabel 2017, Unbiased learning-to-rank
    with biased feedback, section 4), so that nothing is supposed of a pair but what was done with it. `pairs` (n,
    depth) is what was shown, `acts` (n, depth, 3) what was done, `chances` (depth,) are propensities, `worth` (3,) says
    what a click, a cart and a purchase count for.
    """
    shown = pairs != NOTHING_SHOWN
    gained = (acts @ worth) / chances[: pairs.shape[1]]
    impressions = sums(pairs[shown], np.ones(int(shown.sum())), count)
    return np.asarray(sums(pairs[shown], gained[shown], count) / np.maximum(impressions, 1.0))
