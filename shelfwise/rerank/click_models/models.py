"""Click models: position-based (PBM) and user browsing (UBM), empirical Bayes priors of attractiveness, and position
bias from products shown in several slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import scipy  # loads each submodule at its first use: a service starts without them

from shelfwise.rerank.click_models.click_log import ClickLog, Floats, Indices, Ints, sums


@dataclass(frozen=True, slots=True, eq=False)
class PairPrior:
    """The beta prior of each pair's attractiveness."""

    mean: Floats
    """(pairs,)"""
    strength: float
    """The weight of the prior, in examinations."""

    @classmethod
    def ordinary(cls, hits: Floats, trials: Floats, strength: float) -> PairPrior:
        """The same prior for all pairs: the mean share of hits, in which pairs with more trials weigh more.

        An empirical Bayes prior, with one hit and one miss added for nearly empty logs.
        """
        reliable = 1.0 / (trials + strength)
        mean = (float(hits @ reliable) + 1.0) / (float(trials @ reliable) + 2.0)
        return cls(np.full(len(hits), mean), strength)

    def posterior(self, hits: Floats, trials: Floats) -> Floats:
        """(pairs,): the means after this many hits (pairs,) in this many trials (pairs,)."""
        return np.asarray((hits + self.strength * self.mean) / (trials + self.strength))


MAX_ITERATIONS = 200
"""The most iterations of a fit; a log needs a third of them."""
_STRENGTH = 2.0
"""The weight of the ordinary prior, in examinations."""


@dataclass(frozen=True, slots=True, eq=False)
class PairEstimates:
    """A model's estimate for each pair, and its evidence; arrays (pairs,), counts in sessions."""

    attractiveness: Floats
    """The probability that a shopper who examines the product clicks it."""
    impressions: Floats
    clicks: Floats
    examinations: Floats
    """The expected number of examined impressions, including all clicked ones."""
    effective: Floats
    """The number of certain examinations with the same information; fewer than `examinations` (the observed information
    of Louis 1982, Finding the observed information matrix when using the EM algorithm, section 3)."""
    strength: float
    """The weight of the prior, in examinations."""

    @property
    def click_share(self) -> Floats:
        """(pairs,): 0 to 1, how much of the attractiveness comes from clicks and not from the prior."""
        return self.effective / (self.effective + self.strength)

    def interval(self) -> tuple[Floats, Floats]:
        """The equal-tailed 95% credible interval of each attractiveness: lower and upper ends, (pairs,) each.

        It is that of the beta posterior with the estimate as its mean and effective examinations plus prior as its
        count, widened to contain the estimate. It does not cover the error of the estimated examination.
        """
        count = self.effective + self.strength
        shapes = self.attractiveness * count, (1.0 - self.attractiveness) * count
        tail = (1.0 - 0.95) / 2
        lower, upper = (scipy.special.betaincinv(*shapes, each) for each in (tail, 1.0 - tail))
        return np.minimum(lower, self.attractiveness), np.maximum(upper, self.attractiveness)


_ROUNDS = 20
_CLOSE = 0.01
_QUERY_CLICKS = 10.0
"""The number of clicks at which a query's own level counts as much as that of all queries."""
_PAST_THE_END = 1.1
_MEANS = (1e-4, 0.98)
_STRENGTHS = (0.5, 1_000.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Exposure:
    """The evidence to which the prior is fitted; arrays (pairs,)."""

    clicks: Floats
    looks: Floats
    """Sum of the probabilities that an impression is examined, without knowing whether it was clicked."""
    squares: Floats
    """The sum of their squares."""
    rank: Floats
    """Mean place in the query's lists since the pair was first shown, as a share of their length. Lists that lack the
    pair count as beyond their end; otherwise products shown only in shuffled lists would seem average."""


def rank_prior(log: ClickLog, model: ClickModel, query: Ints) -> PairPrior:
    """The empirical Bayes prior of attractiveness, for a second fit.

    `model` was fitted to the log; `query` (pairs,) is each pair's query number. The mean falls with the rank, by
    isotonic regression over all pairs, times the level of the query's products. The strength follows from how clicks
    vary around the mean (by moments, as for beta-binomial counts). A pair with few clicks about keeps its place in the
    ranking.
    """
    shown, examined = log.shown, model.conditional_examination(log)
    squares = log.by_pair(shown, examined**2)
    exposure = _Exposure(log.by_pair(log.clicks), log.by_pair(shown, examined), squares, _rank(log, query))
    strength = _STRENGTH
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


def _rank(log: ClickLog, query: Ints) -> Floats:
    shown = log.shown
    place = np.arange(1, log.depth + 1) / np.maximum(shown.sum(axis=1), 1)[:, None]
    pairs, row = log.pairs[shown], np.nonzero(shown)[0]
    count = sums(pairs, np.ones(len(pairs)), log.count)
    first = np.full(log.count, log.size)
    np.minimum.at(first, pairs, row)
    # The number of each list among its query's lists; a difference then counts the lists since the first.
    list_query = np.where(shown.any(axis=1), np.append(query, -1)[log.pairs.max(axis=1, initial=-1)], -1)
    order = np.argsort(list_query, kind="stable")
    total = np.bincount(list_query + 1, minlength=int(query.max(initial=-1)) + 2)
    number = np.empty(log.size + 1, np.int64)
    number[order] = np.arange(log.size) - np.repeat(np.cumsum(total) - total, total)
    number[log.size] = 0
    since = np.maximum(total[query + 1] - number[first], count)
    absent = (since - count) * _PAST_THE_END
    return np.asarray((sums(pairs, place[shown], log.count) + absent) / np.maximum(since, 1))


def _falling(exposure: _Exposure, level: Floats, strength: float) -> Floats:
    """(pairs,): attractiveness by rank; the mean for pairs that were never shown."""
    looks = exposure.looks * level
    known = looks > 0
    weights = looks / (looks + strength)
    rate = exposure.clicks[known] / looks[known]
    curve = falling_curve(exposure.rank[known], rate, weights[known])
    ordinary = float(rate @ weights[known] / weights[known].sum())
    mean = np.full(len(looks), ordinary)
    mean[known] = curve
    return mean


def falling_curve(rank: Floats, rate: Floats, weights: Floats) -> Floats:
    """(n,): the falling step function of the rank with the least weighted squared distance from the rates (n,)."""
    _, step = np.unique(rank, return_inverse=True)
    count = int(step.max(initial=-1)) + 1
    weight = sums(step, weights, count)
    mean = sums(step, rate * weights, count) / weight
    return np.asarray(scipy.optimize.isotonic_regression(mean, weights=weight, increasing=False).x[step])


def _query_level(exposure: _Exposure, by_rank: Floats, strength: float, query: Ints) -> Floats:
    """(pairs,): the factor by which the query's products are clicked more often than products of their ranks."""
    share = strength / (exposure.looks + strength)
    queries = int(query.max(initial=-1)) + 1
    clicks = sums(query, exposure.clicks * share, queries)
    expected = sums(query, exposure.looks * by_rank * share, queries)
    return np.asarray(((clicks + _QUERY_CLICKS) / (expected + _QUERY_CLICKS))[query])


def prior_strength(hits: Floats, trials: Floats, squares: Floats, mean: Floats) -> float:
    """The count of the beta distribution whose variance explains the distance of hits from `mean`; arrays (pairs,).

    A trial may have a probability: `squares` sums the squares of these probabilities, and equals `trials` if all are
    certain.
    """
    weights = 1.0 / (1.0 + trials) ** 2
    excess = (hits - mean * trials) ** 2 - mean * trials + mean**2 * squares
    scale = float(weights @ (mean * (1.0 - mean) * (trials**2 - squares)))
    correlation = float(weights @ excess) / scale if scale > 0 else 0.0
    return float(np.clip(1.0 / max(correlation, 1e-9) - 1.0, *_STRENGTHS))


_STEPS = 100
_LONGEST_STEP = 2.0
_SLOTS_CLOSE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Impressions by pair and slot: arrays (cells,), ordered by pair, then slot.

    A slot is what examination depends on: the position, or the position and the position of the last click above.
    """

    pair: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]
    clicks: Floats
    misses: Floats
    """Impressions that were not clicked."""
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
    cells, cell, total = np.unique(key, return_inverse=True, return_counts=True)
    clicks = sums(cell, clicked, len(cells))
    pair, slot = np.divmod(cells, max(count, 1))
    return Cells(pair, slot, clicks, total - clicks, log.count, count)


def slot_examination(cells: Cells) -> Floats:
    """(slots,): the examination of each slot, from 0 to 1.

    A log determines only the product of attractiveness and examination, so the first slot that was shown is set to 1.
    The others maximise the Poisson likelihood of each pair's clicks by slot, given their sum, which no longer depends
    on attractiveness. The only assumption is that expected clicks are attractiveness times examination (Wooldridge
    1999, Distribution-free estimation of some nonlinear panel data models, section 3), so few impressions or a good
    ranking do not bias it. Like Agarwal et al. 2019 (Estimating position bias without intrusive interventions, section
    4), it uses only pairs that were shown in several slots. The prior, with the weight of one click, is each slot's
    click rate.
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
        weighted = shown @ scipy.sparse.diags_array(examination)
        share = scipy.sparse.diags_array(1.0 / weighted.sum(axis=1)) @ weighted
        mean = share.T @ clicks
        slope = by_slot - mean + 1.0 - examination / expected
        curvature = (
            np.diag(mean + examination / expected) - (share.T @ scipy.sparse.diags_array(clicks) @ share).toarray()
        )
        step = np.linalg.solve(curvature[np.ix_(free, free)], slope[free]).clip(-_LONGEST_STEP, _LONGEST_STEP)
        logarithm[free] += step
        if np.abs(step).max(initial=0.0) < _SLOTS_CLOSE:
            break
    return np.minimum(np.exp(logarithm), 1.0)


def _click_rates(cells: Cells) -> Floats:
    """(slots,): click rates relative to the first slot shown, at most 1; 1/2 for a slot that was never shown."""
    clicks, shown = cells.by_slot(cells.clicks), cells.by_slot(cells.impressions)
    rate = (clicks + 1.0) / (shown + 2.0)
    if not (shown > 0).any():
        return np.where(np.arange(cells.slots) == 0, 1.0, 0.5)
    first = rate[int(np.argmax(shown > 0))]
    return np.where(shown > 0, np.minimum(rate / first, 1.0), 0.5)


def _informative(cells: Cells) -> tuple[Floats, scipy.sparse.csr_array, Floats]:
    """Pairs with a click that were shown in two slots or more: clicks (m,), impressions (m, slots), clicks (slots,)."""
    clicked = cells.by_pair(cells.clicks)
    kept = ((clicked > 0) & (np.bincount(cells.pair, minlength=cells.pairs) > 1))[cells.pair]
    pairs, rows = np.unique(cells.pair[kept], return_inverse=True)
    shown = scipy.sparse.csr_array((cells.impressions[kept], (rows, cells.slot[kept])), shape=(len(pairs), cells.slots))
    return clicked[pairs], shown, sums(cells.slot[kept], cells.clicks[kept], cells.slots)


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
    def fit(cls, log: ClickLog, prior: PairPrior | None = None, iterations: int = MAX_ITERATIONS) -> Self:
        """Fits to counts by pair and position: examination first, then attractiveness by expectation maximisation."""
        positions = np.broadcast_to(np.arange(log.depth), log.pairs.shape)
        return cls(*_fit_cells(fold(log, positions, log.depth), prior, iterations))

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
    def fit(cls, log: ClickLog, prior: PairPrior | None = None, iterations: int = MAX_ITERATIONS) -> Self:
        """Fits to counts by pair, position and last click: examination first, then attractiveness by EM."""
        depth = log.depth
        cells = fold(log, np.arange(depth) * depth + last_click(log), depth * depth)
        estimates, examined = _fit_cells(cells, prior, iterations)
        gamma = np.tril(examined.reshape(depth, depth))
        shown = cells.by_slot(cells.impressions).reshape(depth, depth)
        # A position that was never shown counts as one without a click above.
        shown[shown.sum(axis=1) == 0, :1] = 1.0
        return cls(estimates, (gamma * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1e-300), gamma)

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): the probability that each position is examined, given the clicks above it."""
        return self.gamma[np.arange(log.depth), last_click(log)]


ClickModel = PositionBased | UserBrowsing


def last_click(log: ClickLog) -> Indices:
    """(n, depth): the position, from 1, of the last click above each position; 0 if there is none."""
    clicked = np.where(log.clicks, np.arange(1, log.depth + 1), 0)
    last = np.zeros(clicked.shape, np.int64)
    np.maximum.accumulate(clicked[:, :-1], axis=1, out=last[:, 1:])
    return last


_TOLERANCE = 1e-5
"""Iteration ends when no estimate changes by more, averaged over its observations."""


def _fit_cells(cells: Cells, prior: PairPrior | None, iterations: int) -> tuple[PairEstimates, Floats]:
    """The pairs' estimates and the examination of each slot (slots,), by expectation maximisation.

    The missing data are the examinations of impressions that were not clicked. Unlike in Chuklin et al. 2015, section
    4.3, they do not include whether an unexamined product would have been attractive: the fixed points are the same,
    and fewer iterations are needed (Meng & van Dyk 1997, The EM algorithm: an old folk-song sung to a fast new tune).
    """
    examination = slot_examination(cells)
    clicked = cells.by_pair(cells.clicks)
    exposure = cells.by_pair(cells.impressions * examination[cells.slot])
    prior = prior or PairPrior.ordinary(clicked, exposure, _STRENGTH)
    attractiveness = prior.posterior(clicked, exposure)
    for _ in range(iterations):
        examined = cells.by_pair(cells.clicks + cells.misses * _unclicked(cells, attractiveness, examination))
        better = prior.posterior(clicked, examined)
        change = float(np.abs(better - attractiveness) @ examined) / max(float(examined.sum()), 1.0)
        attractiveness = better
        if change < _TOLERANCE:
            break
    seen = _unclicked(cells, attractiveness, examination)
    examined = cells.by_pair(cells.clicks + cells.misses * seen)
    # The variance of the number of examinations that were not clicked, given the log.
    spread = cells.by_pair(cells.misses * seen * (1.0 - seen))
    effective = np.maximum(examined - attractiveness / (1.0 - attractiveness) * spread, 0.0)
    shown = cells.by_pair(cells.impressions)
    return PairEstimates(attractiveness, shown, clicked, examined, effective, prior.strength), examination


def _unclicked(cells: Cells, attractiveness: Floats, examination: Floats) -> Floats:
    """(cells,): the probability that an impression without a click was examined."""
    attracted, examined = attractiveness[cells.pair], examination[cells.slot]
    return np.asarray(examined * (1.0 - attracted) / (1.0 - examined * attracted))
