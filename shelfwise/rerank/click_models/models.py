"""The click models and their baselines: PBM, UBM, DCM, simplified DBN, and plain click rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from shelfwise.rerank.click_models.base import (
    DEFAULTS,
    ClickModel,
    FitOptions,
    PairEstimates,
    PairPrior,
    Progress,
    attraction,
    pair_estimates,
)
from shelfwise.rerank.click_models.click_log import ClickLog, Floats, sums
from shelfwise.rerank.click_models.priors import Cells, fold, slot_examination

Indices = npt.NDArray[np.int64]


class _BaseModel:
    """Methods that all models share."""

    estimates: PairEstimates
    examination: Floats

    def attraction(self, log: ClickLog) -> Floats:
        """(n, depth): see `shelfwise.rerank.click_models.base.attraction`."""
        return attraction(self.estimates, log, len(self.examination))

    def conditional_examination(self, log: ClickLog) -> Floats:
        """See `ClickModel`; depends only on the position unless a model overrides it."""
        return np.broadcast_to(self.examination[: log.depth], log.pairs.shape)

    def conditional_click_probabilities(self, log: ClickLog) -> Floats:
        return self.attraction(log) * self.conditional_examination(log)

    def click_probabilities(self, log: ClickLog) -> Floats:
        """See `ClickModel`; clicks are independent of each other unless a model overrides it."""
        return self.conditional_click_probabilities(log)


@dataclass(frozen=True, slots=True, eq=False)
class PositionBased(_BaseModel):
    """PBM: Craswell et al. 2008; Chuklin, Markov & de Rijke 2015 (Click Models for Web Search, sections 3.3, 4.3).

    A click needs an examined position and an attractive product. The first position is always examined, which sets the
    scale of the others: a product's attractiveness is its click rate there.
    """

    name: ClassVar[str] = "pbm"
    estimates: PairEstimates
    examination: Floats
    """(depth,)"""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:
        """Fits to counts by pair and position: examination first, then attractiveness by expectation maximisation."""
        positions = np.broadcast_to(np.arange(log.depth), log.pairs.shape)
        return cls(*_fit_cells(fold(log, positions, log.depth), options, progress))


@dataclass(frozen=True, slots=True, eq=False)
class UserBrowsing(_BaseModel):
    """UBM: Dupret & Piwowarski 2008 (A user browsing model to predict search engine click data, section 3.2).

    Examination depends on the position and on that of the last click above. The first position is always examined.
    """

    name: ClassVar[str] = "ubm"
    estimates: PairEstimates
    examination: Floats
    """(depth,)"""
    gamma: Floats
    """(depth, depth): the examination of position r + 1 if the last click above was at position c, or nowhere for c =
    0; 0 for c > r."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:
        """Fits to counts by pair, position and last click: examination first, then attractiveness by EM."""
        depth = log.depth
        cells = fold(log, np.arange(depth) * depth + last_click(log), depth * depth)
        estimates, examined = _fit_cells(cells, options, progress)
        gamma = np.tril(examined.reshape(depth, depth))
        shown = cells.by_slot(cells.impressions).reshape(depth, depth)
        # A position that was never shown counts as one without a click above.
        shown[shown.sum(axis=1) == 0, :1] = 1.0
        return cls(estimates, (gamma * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1e-300), gamma)

    def click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): averaged over all possible clicks above."""
        attracted = self.attraction(log)
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
        return self.gamma[np.arange(log.depth), last_click(log)]


def last_click(log: ClickLog) -> Indices:
    """(n, depth): the position, from 1, of the last click above each position; 0 if there is none."""
    clicked = np.where(log.clicks, np.arange(1, log.depth + 1), 0)
    last = np.zeros(clicked.shape, np.int64)
    np.maximum.accumulate(clicked[:, :-1], axis=1, out=last[:, 1:])
    return last


def _fit_cells(cells: Cells, options: FitOptions, progress: Progress | None) -> tuple[PairEstimates, Floats]:
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
    for iteration in range(1, options.iterations + 1):
        examined = cells.by_pair(cells.clicks + cells.misses * _unclicked(cells, attractiveness, examination))
        better = prior.posterior(clicked, examined)
        change = float(np.abs(better - attractiveness) @ examined) / max(float(examined.sum()), 1.0)
        attractiveness = better
        if progress:
            progress(iteration, change)
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


class _Cascade(_BaseModel):
    """Models in which shoppers go down the list and may stop at a click."""

    def stopping(self, log: ClickLog) -> Floats:
        """(n, depth): the probability of ending the search after a click at each position."""
        raise NotImplementedError

    def click_probabilities(self, log: ClickLog) -> Floats:
        attracted = self.attraction(log)
        return attracted * examined(attracted, self.stopping(log))

    def conditional_examination(self, log: ClickLog) -> Floats:
        return examined_given_clicks(self.attraction(log), self.stopping(log), log)


@dataclass(frozen=True, slots=True, eq=False)
class DependentClick(_Cascade):
    """DCM: Guo, Liu & Wang 2009 (Efficient multiple-click models in web search, section 3).

    Shoppers go down the list, and stop only after a click, with a probability that depends on the position.
    `FitOptions(iterations=0)` gives the estimator of the paper's section 3.2, which maximises a lower bound; iterations
    increase the likelihood up to its maximum.
    """

    name: ClassVar[str] = "dcm"
    estimates: PairEstimates
    examination: Floats
    """(depth,)"""
    continuation: Floats
    """(depth,): the probability of continuing after a click at each position."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:
        """Fits by expectation maximisation over the ends of sessions."""
        slots = np.broadcast_to(np.arange(log.depth), log.pairs.shape)
        estimates, continuation = fit_cascade(gather(log, slots, log.depth), options, progress)
        seen = examined(attraction(estimates, log, log.depth), 1.0 - continuation)
        return cls(estimates, mean_examination(seen, log), continuation)

    def stopping(self, log: ClickLog) -> Floats:
        return np.broadcast_to(1.0 - self.continuation[: log.depth], log.pairs.shape)


@dataclass(frozen=True, slots=True, eq=False)
class SimplifiedDBN(_Cascade):
    """SDBN: Chapelle & Zhang 2009 (A dynamic Bayesian network click model for web search ranking, section 5).

    Shoppers go down the list until a product that they clicked satisfies them. `FitOptions(iterations=0)` gives the
    counts of the paper's algorithm 1, which assumes that every last click satisfied; iterations increase the likelihood
    up to its maximum.
    """

    name: ClassVar[str] = "sdbn"
    estimates: PairEstimates
    examination: Floats
    """(depth,)"""
    satisfaction: Floats
    """(pairs,): the probability that a click on the product ends the search."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:
        """Fits by expectation maximisation over the ends of sessions."""
        estimates, continuation = fit_cascade(gather(log, log.pairs.astype(np.int64), log.count), options, progress)
        satisfaction = 1.0 - continuation
        seen = examined(attraction(estimates, log, log.depth), _at_places(satisfaction, log))
        return cls(estimates, mean_examination(seen, log), satisfaction)

    def stopping(self, log: ClickLog) -> Floats:
        return _at_places(self.satisfaction, log)


def _at_places(values: Floats, log: ClickLog) -> Floats:
    """(n, depth): the value (pairs,) of the pair at each position, 0 if there is none."""
    return np.append(values, 0.0)[log.pairs]


@dataclass(frozen=True, slots=True, eq=False)
class CascadeEvidence:
    """A log's sufficient statistics for models in which shoppers go down the list and may stop at a click.

    Everything down to the last click was certainly examined; without clicks, the whole list was. Below the last click,
    the shopper either had stopped, or continued and found nothing: that is the missing datum of a session. Continuing
    after a click depends on its slot: the position, or the pair.
    """

    impressions: Floats
    """(pairs,)"""
    clicks: Floats
    """(pairs,)"""
    certain: Floats
    """(pairs,): impressions that were certainly examined."""
    went_on: Floats
    """(slots,): clicks that were followed by another."""
    tail_pair: Indices
    """(tail,): the pairs below the last clicks, session by session."""
    tail_start: Indices
    """(sessions,): the start of each session in `tail_pair`; sessions without a tail are left out."""
    tail_length: Indices
    """(sessions,)"""
    tail_slot: Indices
    """(sessions,): the slot of the last click."""
    tail_weight: Floats
    """(sessions,)"""


def gather(log: ClickLog, slots: Indices, count: int) -> CascadeEvidence:
    """The evidence of a log; `slots` (n, depth) are below `count` wherever there is a click."""
    shown, positions = log.shown, np.arange(log.depth)
    last = np.where(log.clicks, positions, -1).max(axis=1, initial=-1)
    tail = shown & (positions > last[:, None]) & (last >= 0)[:, None]
    length = tail.sum(axis=1)
    ending = np.flatnonzero(length)
    earlier = log.clicks & (positions < last[:, None])
    return CascadeEvidence(
        log.by_pair(shown),
        log.by_pair(log.clicks),
        log.by_pair(shown & ~tail),
        sums(slots[earlier], log.place_weights[earlier], count),
        log.pairs[tail].astype(np.int64),
        np.cumsum(length[ending]) - length[ending],
        length[ending],
        slots[ending, last[ending]],
        log.row_weights[ending],
    )


def fit_cascade(
    evidence: CascadeEvidence, options: FitOptions, progress: Progress | None = None
) -> tuple[PairEstimates, Floats]:
    """The pairs' estimates, and the probability of continuing after a click in each slot (slots,).

    Begins with the estimators of the models' papers, which assume that every shopper stopped after the last click: this
    overestimates stops and attractiveness. Iterations increase the likelihood itself up to its maximum (with beta
    priors, whose means are the log's own).
    """
    clicks, slots = evidence.clicks, len(evidence.went_on)
    tails = sums(evidence.tail_slot, evidence.tail_weight, slots)
    prior = options.prior or PairPrior.ordinary(clicks, evidence.certain, options.strength)
    attractiveness = prior.posterior(clicks, evidence.certain)
    continuation = _continuation(evidence.went_on, evidence.went_on + tails, options)
    for iteration in range(1, options.iterations + 1):
        went_on = _continued(evidence, attractiveness, continuation)
        examinations = evidence.certain + _by_pair(evidence, went_on)
        prior = options.prior or PairPrior.ordinary(clicks, examinations, options.strength)
        better = prior.posterior(clicks, examinations)
        onward = evidence.went_on + sums(evidence.tail_slot, went_on * evidence.tail_weight, slots)
        further = _continuation(onward, evidence.went_on + tails, options)
        change = max(_mean_change(better, attractiveness, clicks), _mean_change(further, continuation, tails))
        attractiveness, continuation = better, further
        if progress:
            progress(iteration, change)
        if change < options.tolerance:
            break
    went_on = _continued(evidence, attractiveness, continuation)
    examinations = evidence.certain + _by_pair(evidence, went_on)
    spread = _by_pair(evidence, went_on * (1.0 - went_on))
    impressions = evidence.impressions
    return pair_estimates(attractiveness, impressions, clicks, examinations, spread, prior.strength), continuation


def _continuation(onward: Floats, clicks: Floats, options: FitOptions) -> Floats:
    """(slots,)"""
    return PairPrior.ordinary(onward, clicks, options.stop_strength).posterior(onward, clicks)


def _mean_change(after: Floats, before: Floats, weights: Floats) -> float:
    return float(np.abs(after - before) @ weights) / max(float(weights.sum()), 1.0)


def _continued(evidence: CascadeEvidence, attractiveness: Floats, continuation: Floats) -> Floats:
    """(sessions,): the probability that the shopper continued after the last click, given no further click."""
    if not len(evidence.tail_start):
        return np.zeros(0)
    silence = np.exp(np.add.reduceat(np.log1p(-attractiveness)[evidence.tail_pair], evidence.tail_start))
    on = continuation[evidence.tail_slot]
    return np.asarray(on * silence / (1.0 - on + on * silence))


def _by_pair(evidence: CascadeEvidence, sessions: Floats) -> Floats:
    """(pairs,): the sum over the tails that contain each pair."""
    spread = np.repeat(sessions * evidence.tail_weight, evidence.tail_length)
    return sums(evidence.tail_pair, spread, len(evidence.impressions))


def examined(attracted: Floats, stopping: Floats) -> Floats:
    """(n, depth): the probability that each position is examined, over all clicks.

    `attracted` (n, depth) is each position's attractiveness, `stopping` (n, depth) the probability of stopping there
    after a click.
    """
    onward = np.ones(attracted.shape)
    np.cumprod((1.0 - attracted * stopping)[:, :-1], axis=1, out=onward[:, 1:])
    return onward


def examined_given_clicks(attracted: Floats, stopping: Floats, log: ClickLog) -> Floats:
    """(n, depth): the probability that each position is examined, given the clicks above it."""
    seen = np.ones(attracted.shape)
    for position in range(log.depth - 1):
        here, above = attracted[:, position], seen[:, position]
        missed = above * (1.0 - here) / (1.0 - above * here)
        seen[:, position + 1] = np.where(log.clicks[:, position], 1.0 - stopping[:, position], missed)
    return seen


def mean_examination(seen: Floats, log: ClickLog) -> Floats:
    """(depth,): the mean of `seen` (n, depth) over the lists that show a product at each position; 1 if none does."""
    shown = log.shown * log.row_weights[:, None]
    total = shown.sum(axis=0)
    return np.where(total > 0, (seen * shown).sum(axis=0) / np.where(total > 0, total, 1.0), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class ProductRate(_BaseModel):
    """The naive model: every pair has its click rate, at every position (DCTR; Chuklin et al. 2015, section 3.2.2)."""

    name: ClassVar[str] = "ctr"
    estimates: PairEstimates
    examination: Floats
    """(depth,): ones."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:  # noqa: ARG003
        """Counts clicks, without iterations."""
        impressions, clicks = log.by_pair(log.shown), log.by_pair(log.clicks)
        prior = options.prior or PairPrior.ordinary(clicks, impressions, options.strength)
        rate = prior.posterior(clicks, impressions)
        return cls(_certain_estimates(rate, impressions, clicks, prior.strength), np.ones(log.depth))


@dataclass(frozen=True, slots=True, eq=False)
class PositionRate(_BaseModel):
    """Every position has its click rate, for any product (RCTR; Chuklin et al. 2015, section 3.2.1).

    It does not distinguish products, so their attractiveness is that of the first position.
    """

    name: ClassVar[str] = "position"
    estimates: PairEstimates
    examination: Floats
    """(depth,): click rates as shares of the highest."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:  # noqa: ARG003
        """Counts clicks, without iterations."""
        weights = log.row_weights
        clicks, shown = weights @ log.clicks, weights @ log.shown
        rate = (clicks + 1.0) / (shown + 2.0)
        highest = float(rate.max(initial=0.0)) or 0.5
        alike = np.full(log.count, highest)
        counts = log.by_pair(log.shown), log.by_pair(log.clicks)
        return cls(_certain_estimates(alike, *counts, options.strength), rate / highest)


def _certain_estimates(rate: Floats, impressions: Floats, clicks: Floats, strength: float) -> PairEstimates:
    """Estimates in which every impression counts as an examination."""
    return pair_estimates(rate, impressions, clicks, impressions, np.zeros(len(rate)), strength)


MODELS: Mapping[str, type[ClickModel]] = {
    each.name: each for each in (PositionBased, DependentClick, SimplifiedDBN, UserBrowsing)
}
"""Models that separate attractiveness from position."""
BASELINES: Mapping[str, type[ClickModel]] = {each.name: each for each in (ProductRate, PositionRate)}
"""Plain click rates, which a model must beat."""
