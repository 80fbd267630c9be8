"""What is known of a pair before its clicks: how high the store ranked it, and how its query's products do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from rerank.clicks.arrays import Floats, Ints, sums
from rerank.clicks.click_log import ClickLog
from rerank.clicks.model import ClickModel, PairPrior

_ROUNDS = 20
_CLOSE = 0.01
_QUERY_CLICKS = 10.0
"""How many clicks it takes until a query's own level counts as much as that of all."""
_PAST_THE_END = 1.1
_MEANS = (1e-4, 0.98)
_STRENGTHS = (0.5, 1_000.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Exposure:
    """What the prior is fitted to; arrays (pairs,)."""

    clicks: Floats
    looks: Floats
    """Sum of the probabilities that an impression is examined, before it is known whether it was clicked."""
    squares: Floats
    """The sum of their squares."""
    rank: Floats
    """Mean place in the query's lists since the pair was first shown, as a share of their length; past the end where
    it was left out, or what only a shuffled list shows would pass for middling."""


def rank_prior(log: ClickLog, model: ClickModel, query: Ints) -> PairPrior:
    """The empirical Bayes prior of attractiveness, for a second fit.

    `model` was fitted to the log, `query` (pairs,) numbers each pair's query. The mean falls with the rank, by isotonic
    regression over all pairs, times what the query's own products do beside those; the strength is that with which
    clicks vary around it (by moments, as for beta-binomial counts). So a pair with few clicks keeps about the place
    that the ranking gave it, and one with many leaves it: a ranking is evidence too, and plain click rates owe it much
    of what they get right.
    """
    exposure = _exposure(log, model, query)
    strength = PairPrior.ordinary(exposure.clicks, exposure.looks, 2.0).strength
    mean = np.full(log.count, 0.5)
    level = np.ones(log.count)
    if not exposure.looks.any():
        return PairPrior(mean, strength)
    for _ in range(_ROUNDS):
        by_rank = _falling(exposure, level, strength)
        level = _query_level(exposure, by_rank, strength, query)
        mean = np.clip(by_rank * level, *_MEANS)
        before, strength = strength, prior_strength(exposure.clicks, exposure.looks, exposure.squares, mean)
        if abs(strength - before) < _CLOSE * strength:
            break
    return PairPrior(mean, strength)


def _exposure(log: ClickLog, model: ClickModel, query: Ints) -> _Exposure:
    shown, weights = log.shown, np.broadcast_to(log.row_weights[:, None], log.pairs.shape)
    pairs, weight = log.pairs[shown], weights[shown]
    looked = model.conditional_examination(log)[shown]
    return _Exposure(
        sums(log.pairs[log.clicks], weights[log.clicks], log.count),
        sums(pairs, looked * weight, log.count),
        sums(pairs, looked**2 * weight, log.count),
        _rank(log, query),
    )


def _rank(log: ClickLog, query: Ints) -> Floats:
    shown = log.shown
    place = np.arange(1, log.depth + 1) / np.maximum(shown.sum(axis=1), 1)[:, None]
    pairs, row = log.pairs[shown], np.nonzero(shown)[0]
    count = sums(pairs, np.ones(len(pairs)), log.count)
    first = np.full(log.count, log.size)
    np.minimum.at(first, pairs, row)
    # The number that each list has among its query's, so that those since the first are counted by a difference.
    asked = np.where(shown.any(axis=1), np.append(query, -1)[log.pairs.max(axis=1, initial=-1)], -1)
    order = np.argsort(asked, kind="stable")
    total = np.bincount(asked + 1, minlength=int(query.max(initial=-1)) + 2)
    number = np.empty(log.size + 1, np.int64)
    number[order] = np.arange(log.size) - np.repeat(np.cumsum(total) - total, total)
    number[log.size] = 0
    since = np.maximum(total[query + 1] - number[first], count)
    absent = (since - count) * _PAST_THE_END
    return np.asarray((sums(pairs, place[shown], log.count) + absent) / np.maximum(since, 1))


def _falling(exposure: _Exposure, level: Floats, strength: float) -> Floats:
    """(pairs,): attractiveness by rank; what was never shown is taken for an ordinary pair."""
    looks = exposure.looks * level
    known = looks > 0
    weights = looks / (looks + strength)
    rate = exposure.clicks[known] / looks[known]
    curve = IsotonicRegression(increasing=False).fit(exposure.rank[known], rate, weights[known])
    ordinary = float(rate @ weights[known] / weights[known].sum())
    mean = np.full(len(looks), ordinary)
    mean[known] = curve.predict(exposure.rank[known])
    return mean


def _query_level(exposure: _Exposure, by_rank: Floats, strength: float, query: Ints) -> Floats:
    """(pairs,): the factor by which the query's products are clicked more than their ranks say."""
    share = strength / (exposure.looks + strength)
    queries = int(query.max(initial=-1)) + 1
    clicks = sums(query, exposure.clicks * share, queries)
    expected = sums(query, exposure.looks * by_rank * share, queries)
    return np.asarray(((clicks + _QUERY_CLICKS) / (expected + _QUERY_CLICKS))[query])


def prior_strength(hits: Floats, trials: Floats, squares: Floats, mean: Floats) -> float:
    """The count of the beta distribution whose variance explains how far hits lie from `mean`; arrays (pairs,).

    A trial may be there by a probability only: `squares` sums those probabilities' squares, so it is `trials` again
    where all are certain.
    """
    weights = 1.0 / (1.0 + trials) ** 2
    excess = (hits - mean * trials) ** 2 - mean * trials + mean**2 * squares
    scale = float(weights @ (mean * (1.0 - mean) * (trials**2 - squares)))
    correlation = float(weights @ excess) / scale if scale > 0 else 0.0
    return float(np.clip(1.0 / max(correlation, 1e-9) - 1.0, *_STRENGTHS))
