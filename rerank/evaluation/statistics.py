"""The paired bootstrap: by how much one ranker does better than another on the same queries, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerank.click_models.click_log import Floats, sums
from retrieval.errors import InputError

_CHUNK_DRAWS = 1 << 21
"""Draws at a time: their indices and values take about 50 MB."""
_MOST_UNITS = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """The challenger's measure less the served ranker's, in the measure's own unit."""

    mean: float
    low: float
    high: float
    """The ends of the interval."""
    better: float
    """The share of resamples in which the challenger is better; those in which both are equal count half."""
    queries: int

    def __str__(self) -> str:
        return f"{self.mean:+z.4f} ({self.low:+z.4f} to {self.high:+z.4f})"


def paired_bootstrap(
    challenger: Floats,
    served: Floats,
    weights: Floats | None = None,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The mean difference of two rankers' measures, (n,) each by query, with its percentile interval.

    Queries are drawn again with replacement, each with both its measures (Efron & Tibshirani 1993, An Introduction to
    the Bootstrap, sections 13.3 and 16; for rankings: Sakai 2006, Evaluating evaluation metrics based on the bootstrap,
    section 3). Sessions of one query depend on each other, so queries are what is drawn, and `weights` (n,) says
    how many sessions each stands for: all means are weighted, those of resamples too. Queries of weight 0, or in which
    either measure is NaN, are left out. More than 10,000 queries are drawn as that many random groups: the mean varies
    by as much, and a hundred thousand take no longer.

    Raises InputError for arrays of different lengths, infinite measures, negative weights, or where no query is left.
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise InputError(f"{resamples} resamples at confidence {confidence}: at least 1, and between 0 and 1")
    difference, weights = _measured(challenger, served, weights)
    random = np.random.default_rng(seed)
    means = _resampled_means(*_units(difference * weights, weights, random), resamples, random)
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(means, (tail, 1.0 - tail))
    better = float((means > 0).mean() + (means == 0).mean() / 2)
    return Difference(float(np.average(difference, weights=weights)), float(low), float(high), better, len(difference))


def _measured(challenger: Floats, served: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    """(m,) each: differences and weights of the queries that count."""
    weights = np.ones(len(challenger)) if weights is None else weights
    if not challenger.shape == served.shape == weights.shape or challenger.ndim != 1:
        shapes = f"{challenger.shape}, {served.shape} and {weights.shape}"
        raise InputError(f"measures and weights have the shapes {shapes}: one entry a query in each")
    if not (weights >= 0).all():
        raise InputError("a query has a negative weight: weights count sessions")
    difference = challenger - served
    if np.isinf(difference).any() or not np.isfinite(weights).all():
        raise InputError("a measure or a weight is infinite: nothing can be said of its mean")
    counts = ~np.isnan(difference) & (weights > 0)
    if not counts.any():
        raise InputError("no query has both measures and a weight: there is nothing to compare")
    return difference[counts], weights[counts].astype(np.float64)


def _units(weighted: Floats, weights: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """What is drawn: (m,) each, weighted sums and weights of queries, or of groups of them where they are many."""
    count = len(weights)
    if count <= _MOST_UNITS:
        return weighted, weights
    group = random.permutation(count) % _MOST_UNITS
    return sums(group, weighted, _MOST_UNITS), sums(group, weights, _MOST_UNITS)


def _resampled_means(weighted: Floats, weights: Floats, resamples: int, random: np.random.Generator) -> Floats:
    """(resamples,): weighted means of units (m,) drawn with replacement."""
    count = len(weights)
    means = np.empty(resamples)
    step = max(_CHUNK_DRAWS // count, 1)
    for start in range(0, resamples, step):
        drawn = random.integers(count, size=(min(step, resamples - start), count), dtype=np.int32)
        means[start : start + step] = weighted[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    return means
