"""Statistics of differences and shares: paired bootstrap, delta method, confidence sequences, Wilson interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from shelfwise.rerank.click_models.click_log import Floats, sums
from shelfwise.retrieval.errors import InputError

ALPHA = 0.05
"""The probability with which a 95% interval misses the truth."""
_CHUNK_DRAWS = 1 << 21
"""The number of draws at a time: their indices and values take about 50 MB."""
_MAX_UNITS = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference over queries: the challenger's measure minus the other's, with a bootstrap interval."""

    mean: float
    low: float
    high: float
    better: float
    """The share of resamples in which the challenger is better; ties count half."""
    queries: int

    def __str__(self) -> str:
        return f"{self.mean:+z.4f} ({self.low:+z.4f} to {self.high:+z.4f})"


def paired_bootstrap(
    challenger: Floats, served: Floats, weights: Floats | None = None, *, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """The mean difference of two rankers' measures, (n,) each by query, with its 95% percentile interval.

    Queries are resampled with replacement, each with both its measures (Efron & Tibshirani 1993, An Introduction to the
    Bootstrap, sections 13.3 and 16; for rankings: Sakai 2006, Evaluating evaluation metrics based on the bootstrap,
    section 3). Sessions of one query depend on each other, so queries are resampled, and `weights` (n,) is the number
    of sessions of each: all means are weighted, including those of resamples. Queries of weight 0, or with NaN in
    either measure, are left out. More than 10,000 queries are resampled as that many random groups: the mean varies by
    as much, and a hundred thousand take no longer.

    Raises InputError for arrays of different lengths, infinite measures, negative weights, or if no query is left.
    """
    difference, weights = _measured(challenger, served, weights)
    random = np.random.default_rng(seed)
    means = _resampled_means(*_units(difference * weights, weights, random), resamples, random)
    low, high = np.quantile(means, (ALPHA / 2, 1.0 - ALPHA / 2))
    better = float((means > 0).mean() + (means == 0).mean() / 2)
    return Difference(float(np.average(difference, weights=weights)), float(low), float(high), better, len(weights))


def _measured(challenger: Floats, served: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    """Differences (m,) and weights (m,) of the queries that count."""
    weights = np.ones(challenger.shape) if weights is None else weights
    if not challenger.shape == served.shape == weights.shape:
        shapes = f"{challenger.shape}, {served.shape} and {weights.shape}"
        raise InputError(f"measures and weights have the shapes {shapes}: they need one entry per query")
    difference = challenger - served
    if np.isinf(difference).any() or not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError("a measure is infinite, or a weight infinite or negative: their mean is undefined")
    counts = ~np.isnan(difference) & (weights > 0)
    if not counts.any():
        raise InputError("no query has both measures and a weight: there is nothing to compare")
    return difference[counts], weights[counts].astype(np.float64)


def _units(weighted: Floats, weights: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """The resampled units: weighted differences (m,) and weights (m,) of queries, or of groups of them if they are
    many."""
    count = len(weights)
    if count <= _MAX_UNITS:
        return weighted, weights
    group = random.permutation(count) % _MAX_UNITS
    return sums(group, weighted, _MAX_UNITS), sums(group, weights, _MAX_UNITS)


def _resampled_means(weighted: Floats, weights: Floats, resamples: int, random: np.random.Generator) -> Floats:
    """(resamples,): weighted means of units (m,) drawn with replacement."""
    count = len(weighted)
    means = np.empty(resamples)
    step = max(_CHUNK_DRAWS // count, 1)
    for start in range(0, resamples, step):
        drawn = random.integers(count, size=(min(step, resamples - start), count), dtype=np.int32)
        means[start : start + step] = weighted[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    return means


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval from `low` to `high`."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @classmethod
    def around(cls, value: float, half_width: float) -> Interval:
        return cls(value - half_width, value + half_width)


@dataclass(frozen=True, slots=True, eq=False)
class RatioSums:
    """Each shopper's part in a figure that is a ratio of sums: (n,) each, zeros for shoppers who were not in it."""

    above: Floats
    below: Floats

    @property
    def figure(self) -> float:
        return float(self.above.sum() / self.below.sum())

    @property
    def influence(self) -> Floats:
        """(n,): the change of the figure by each shopper, times n; their mean is 0."""
        return np.asarray((self.above - self.figure * self.below) / self.below.mean())


@dataclass(frozen=True, slots=True)
class SequentialDifference:
    """The difference of two figures over shoppers, with an interval that is valid at every look."""

    value: float
    fixed: Interval
    """Valid for a single look at a time that was fixed in advance."""
    always: Interval
    """Valid for any number of looks at any time."""
    deviation: float
    """The standard deviation of a shopper's effect on it."""
    shoppers: int


def ratio_difference(
    control: RatioSums, challenger: RatioSums, *, planned: int, alpha: float = ALPHA
) -> SequentialDifference | None:
    """The challenger's figure minus the control's, over the same shoppers in both; None if a denominator is 0, or there
    are fewer than two shoppers.

    Figures are sums over sums, such as clicked searches over searches. Shoppers are independent of each other, searches
    of one shopper are not, so the error is that of the mean of the shoppers' influences (the delta method; Deng,
    Knoblich & Lu 2018, Applying the Delta Method in Metric Analytics). One shopper with all successes and one with none
    are added to each variant (Agresti & Caffo 2000, Simple and Effective Confidence Intervals for Proportions and
    Differences of Proportions), so that nothing seems certain just because nothing has happened yet.
    """
    if len(control.below) < 2 or not (control.below.sum() > 0 and challenger.below.sum() > 0):
        return None
    influence = _add_two_shoppers(challenger, 1, 2).influence - _add_two_shoppers(control, 0, 2).influence
    return _sequential(challenger.figure - control.figure, influence, len(control.below), planned, alpha)


def above_half(sums: RatioSums, *, planned: int, alpha: float = ALPHA) -> SequentialDifference | None:
    """A share minus one half; None as in `ratio_difference`."""
    if len(sums.below) < 2 or not sums.below.sum() > 0:
        return None
    return _sequential(sums.figure - 0.5, _add_two_shoppers(sums, 0, 1).influence, len(sums.below), planned, alpha)


def sequence_margin(deviation: float, shoppers: float, planned: int, alpha: float) -> float:
    """Half the width of the interval that is valid at every look.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021, Time-uniform central limit theory and asymptotic confidence
    sequences, theorem 2.2: with t observations of deviation s, and any r > 0 that was chosen in advance,

        s sqrt(2 (t r^2 + 1) / (t^2 r^2) log(sqrt(t r^2 + 1) / alpha))

    around the mean contains the truth at all t at once, with a probability that approaches 1 - alpha the later the
    first look is. It is narrowest near the t for which r^2 = (-2 log(alpha) + log(-2 log(alpha)) + 1) / t: that t is
    `planned`.
    """
    surprise = -2.0 * math.log(alpha)
    spread = shoppers * (surprise + math.log(surprise) + 1.0) / planned
    inside = 2.0 * (spread + 1.0) / (shoppers * spread) * math.log(math.sqrt(spread + 1.0) / alpha)
    return deviation * math.sqrt(inside)


def _add_two_shoppers(sums: RatioSums, place: int, places: int) -> RatioSums:
    """Adds the two shoppers of one of several variants; those of the other variants are not in it."""
    typical = sums.below[sums.below > 0].mean()
    above, below = np.zeros(2 * places), np.zeros(2 * places)
    above[2 * place], below[2 * place : 2 * place + 2] = typical, typical
    return RatioSums(np.append(sums.above, above), np.append(sums.below, below))


def _sequential(value: float, influence: Floats, shoppers: int, planned: int, alpha: float) -> SequentialDifference:
    deviation = float(np.std(influence, ddof=1))
    once = NormalDist().inv_cdf(1.0 - alpha / 2) * deviation / math.sqrt(shoppers)
    always = Interval.around(value, sequence_margin(deviation, shoppers, planned, alpha))
    return SequentialDifference(value, Interval.around(value, once), always, deviation, shoppers)
