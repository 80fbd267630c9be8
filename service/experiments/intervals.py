"""How sure a difference is: an interval for one look at a planned time, and one that may be looked at at any time.

Figures are sums over sums, such as clicked searches over searches, and shoppers are independent of each other, while
searches of one shopper are not. So each shopper gets what it alone moves the difference by (the delta method; Deng,
Knoblich & Lu 2018, Applying the Delta Method in Metric Analytics): the difference's error is their mean. How much they
differ is told with one shopper more of each variant of whom all came to pass and one of whom nothing did (Agresti &
Caffo 2000, Simple and Effective Confidence Intervals for Proportions and Differences of Proportions): so nothing is
certain because nothing has happened yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from rerank.clicks.arrays import Floats

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether there is a difference, whichever."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What each shopper adds to a figure: (n,) each, zeros of who was not in it."""

    above: Floats
    below: Floats

    @property
    def figure(self) -> float:
        """The sum above over the sum below."""
        return float(self.above.sum() / self.below.sum())

    @property
    def influence(self) -> Floats:
        """(n,): by how much each shopper moves the figure, times n; their mean is 0."""
        return np.asarray((self.above - self.figure * self.below) / self.below.mean())


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much one figure is above another."""

    value: float
    fixed: Interval
    """Right for one look, at a time that was fixed before."""
    always: Interval
    """Right however often and whenever it is looked at."""
    deviation: float
    """The standard deviation of what a shopper moves it by."""
    shoppers: int


def difference(control: Sums, challenger: Sums, *, planned: int, alpha: float = ALPHA) -> Difference | None:
    """The challenger's figure less the control's, over the same shoppers in both; None where either has nothing below,
    or there are not two shoppers."""
    if len(control.below) < 2 or not (control.below.sum() > 0 and challenger.below.sum() > 0):
        return None
    influence = _with_two_more(challenger, 1, 2).influence - _with_two_more(control, 0, 2).influence
    return _around(challenger.figure - control.figure, influence, len(control.below), planned, alpha)


def above_half(sums: Sums, *, planned: int, alpha: float = ALPHA) -> Difference | None:
    """A share less one half."""
    if len(sums.below) < 2 or not sums.below.sum() > 0:
        return None
    return _around(sums.figure - 0.5, _with_two_more(sums, 0, 1).influence, len(sums.below), planned, alpha)


def margin(deviation: float, shoppers: float, planned: int, alpha: float) -> float:
    """Half the width of the interval that may be looked at at any time.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021, Time-uniform central limit theory and asymptotic confidence
    sequences, theorem 2.2: with t observations of deviation s, and any r > 0 that was chosen before,

        s sqrt(2 (t r^2 + 1) / (t^2 r^2) log(sqrt(t r^2 + 1) / alpha))

    around the mean has the truth in it at all t at once with a probability that comes near 1 - alpha as the first look
    comes later. It is narrowest near the t for which r^2 = (-2 log(alpha) + log(-2 log(alpha)) + 1) / t: that t is
    `planned`.
    """
    surprise = -2.0 * math.log(alpha)
    spread = shoppers * (surprise + math.log(surprise) + 1.0) / planned
    inside = 2.0 * (spread + 1.0) / (shoppers * spread) * math.log(math.sqrt(spread + 1.0) / alpha)
    return deviation * math.sqrt(inside)


def _with_two_more(sums: Sums, place: int, places: int) -> Sums:
    """With the two more shoppers of one of several variants; those of the others are not in it."""
    usual = sums.below[sums.below > 0].mean()
    above, below = np.zeros(2 * places), np.zeros(2 * places)
    above[2 * place], below[2 * place : 2 * place + 2] = usual, usual
    return Sums(np.append(sums.above, above), np.append(sums.below, below))


def _around(value: float, influence: Floats, shoppers: int, planned: int, alpha: float) -> Difference:
    deviation = float(np.std(influence, ddof=1))
    once = NormalDist().inv_cdf(1.0 - alpha / 2) * deviation / math.sqrt(shoppers)
    ever = margin(deviation, shoppers, planned, alpha)
    return Difference(
        value, Interval(value - once, value + once), Interval(value - ever, value + ever), deviation, shoppers
    )
