"""Cascade click models: the dependent click model (DCM) and the simplified dynamic Bayesian network (SDBN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from rerank.click_models.base import (
    DEFAULTS,
    FitOptions,
    PairEstimates,
    PairPrior,
    Progress,
    attraction,
    pair_estimates,
)
from rerank.click_models.click_log import ClickLog, Floats, sums

# The dependent click model: after a click, the position decides whether the shopper looks on.


@dataclass(frozen=True, slots=True, eq=False)
class DependentClick:
    """DCM: Guo, Liu & Wang 2009 (Efficient multiple-click models in web search, section 3).

    Shoppers go down the list, and stop only after a click. `FitOptions(iterations=0)` gives the estimator of the
    paper's section 3.2, which maximises a lower bound; the iterations climb to the likelihood's maximum.
    """

    name: ClassVar[str] = "dcm"
    estimates: PairEstimates
    examination: Floats
    """(depth,)"""
    continuation: Floats
    """(depth,): the probability of looking on after a click at each position."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:
        """Fits by expectation maximisation over the sessions' ends."""
        slots = np.broadcast_to(np.arange(log.depth), log.pairs.shape)
        estimates, continuation = fit_cascade(gather(log, slots, log.depth), options, progress)
        looked = examined(attraction(estimates, log, log.depth), 1.0 - continuation)
        return cls(estimates, mean_examination(looked, log), continuation)

    def click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        attracted = attraction(self.estimates, log, len(self.examination))
        return attracted * examined(attracted, 1.0 - self.continuation[: log.depth])

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        attracted = attraction(self.estimates, log, len(self.examination))
        return examined_given_clicks(
            attracted, np.broadcast_to(1.0 - self.continuation[: log.depth], attracted.shape), log
        )

    def conditional_click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return attraction(self.estimates, log, len(self.examination)) * self.conditional_examination(log)


# The simplified dynamic Bayesian network: after a click, the product decides whether the shopper looks on.


@dataclass(frozen=True, slots=True, eq=False)
class SimplifiedDBN:
    """SDBN: Chapelle & Zhang 2009 (A dynamic Bayesian network click model for web search ranking, section 5).

    Shoppers go down the list until a product that they clicked satisfies them. `FitOptions(iterations=0)` gives the
    counts of the paper's algorithm 1, which takes everybody who clicked for satisfied in the end; the iterations climb
    to the likelihood's maximum.
    """

    name: ClassVar[str] = "sdbn"
    estimates: PairEstimates
    examination: Floats
    """(depth,)"""
    satisfaction: Floats
    """(pairs,): the probability that a click on the product ends the search."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:
        """Fits by expectation maximisation over the sessions' ends."""
        evidence = gather(log, log.pairs.astype(np.int64), log.count)
        estimates, continuation = fit_cascade(evidence, options, progress)
        satisfaction = 1.0 - continuation
        looked = examined(attraction(estimates, log, log.depth), _stopping(satisfaction, log))
        return cls(estimates, mean_examination(looked, log), satisfaction)

    def click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        attracted = attraction(self.estimates, log, len(self.examination))
        return attracted * examined(attracted, _stopping(self.satisfaction, log))

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        attracted = attraction(self.estimates, log, len(self.examination))
        return examined_given_clicks(attracted, _stopping(self.satisfaction, log), log)

    def conditional_click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return attraction(self.estimates, log, len(self.examination)) * self.conditional_examination(log)


def _stopping(satisfaction: Floats, log: ClickLog) -> Floats:
    """(n, depth): the satisfaction of what stands at each position, 0 where nothing does."""
    return np.append(satisfaction, 0.0)[log.pairs]


# Expectation maximisation where shoppers go down the list and may stop at a click: the DCM and the simplified DBN.
#
# All down to the last click was examined for certain, and everything where nothing was clicked. Below the last click
# either the shopper had stopped, or looked on and found nothing: that is the missing datum of a session.

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """A log's sufficient statistics. Going on after a click depends on its slot: the position, or the pair."""

    impressions: Floats
    """(pairs,)"""
    clicks: Floats
    """(pairs,)"""
    certain: Floats
    """(pairs,): impressions that were examined for certain."""
    went_on: Floats
    """(slots,): clicks after which there was another."""
    tail_pair: Indices
    """(tail,): what stood below the last clicks, session by session."""
    tail_start: Indices
    """(sessions,): where each session begins in `tail_pair`; sessions without a tail are left out."""
    tail_length: Indices
    """(sessions,)"""
    tail_slot: Indices
    """(sessions,): the slot of the last click."""
    tail_weight: Floats
    """(sessions,)"""


def gather(log: ClickLog, slots: Indices, count: int) -> Evidence:
    """The evidence of a log; `slots` (n, depth) are below `count` wherever there is a click."""
    shown, positions = log.shown, np.arange(log.depth)
    weights = np.broadcast_to(log.row_weights[:, None], shown.shape)
    last = np.where(log.clicks, positions, -1).max(axis=1, initial=-1)
    tail = shown & (positions > last[:, None]) & (last >= 0)[:, None]
    length = tail.sum(axis=1)
    ending = np.flatnonzero(length)
    earlier = log.clicks & (positions < last[:, None])

    def counted(chosen: npt.NDArray[np.bool_]) -> Floats:
        return sums(log.pairs[chosen], weights[chosen], log.count)

    return Evidence(
        counted(shown),
        counted(log.clicks),
        counted(shown & ~tail),
        sums(slots[earlier], weights[earlier], count),
        log.pairs[tail].astype(np.int64),
        np.cumsum(length[ending]) - length[ending],
        length[ending],
        slots[ending, last[ending]],
        log.row_weights[ending],
    )


def fit_cascade(
    evidence: Evidence, options: FitOptions, progress: Progress | None = None
) -> tuple[PairEstimates, Floats]:
    """The pairs' estimates, and the probability of going on after a click in each slot (slots,).

    Begins with the estimators of the models' papers, which take every shopper for gone after the last click: too many
    stops, and too much attractiveness. Iterating from there climbs to the maximum of the likelihood itself (with beta
    priors, whose means are the log's own).
    """
    clicks, slots = evidence.clicks, len(evidence.went_on)
    tails = sums(evidence.tail_slot, evidence.tail_weight, slots)
    prior = options.prior or PairPrior.ordinary(clicks, evidence.certain, options.strength)
    attractiveness = prior.posterior(clicks, evidence.certain)
    continuation = _continuation(evidence.went_on, evidence.went_on + tails, options)
    for iteration in range(1, options.iterations + 1):
        went_on = _looked_on(evidence, attractiveness, continuation)
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
    return _estimates(evidence, attractiveness, continuation, prior.strength), continuation


def _continuation(onward: Floats, clicks: Floats, options: FitOptions) -> Floats:
    """(slots,)"""
    return PairPrior.ordinary(onward, clicks, options.stop_strength).posterior(onward, clicks)


def _mean_change(after: Floats, before: Floats, weights: Floats) -> float:
    return float(np.abs(after - before) @ weights) / max(float(weights.sum()), 1.0)


def _looked_on(evidence: Evidence, attractiveness: Floats, continuation: Floats) -> Floats:
    """(sessions,): the probability that the shopper looked on after the last click, as nothing more was clicked."""
    if not len(evidence.tail_start):
        return np.zeros(0)
    silence = np.exp(np.add.reduceat(np.log1p(-attractiveness)[evidence.tail_pair], evidence.tail_start))
    on = continuation[evidence.tail_slot]
    return np.asarray(on * silence / (1.0 - on + on * silence))


def _by_pair(evidence: Evidence, sessions: Floats) -> Floats:
    """(pairs,): the sum over the tails in which each pair stands."""
    spread = np.repeat(sessions * evidence.tail_weight, evidence.tail_length)
    return sums(evidence.tail_pair, spread, len(evidence.impressions))


def _estimates(evidence: Evidence, attractiveness: Floats, continuation: Floats, strength: float) -> PairEstimates:
    went_on = _looked_on(evidence, attractiveness, continuation)
    return pair_estimates(
        attractiveness,
        evidence.impressions,
        evidence.clicks,
        evidence.certain + _by_pair(evidence, went_on),
        _by_pair(evidence, went_on * (1.0 - went_on)),
        strength,
    )


def examined(attracted: Floats, stopping: Floats) -> Floats:
    """(n, depth): the probability that each position is examined, whatever is clicked.

    `attracted` (n, depth) is each position's attractiveness, `stopping` (n, depth) the probability of ending there once
    it was clicked.
    """
    onward = np.ones(attracted.shape)
    np.cumprod((1.0 - attracted * stopping)[:, :-1], axis=1, out=onward[:, 1:])
    return onward


def examined_given_clicks(attracted: Floats, stopping: Floats, log: ClickLog) -> Floats:
    """(n, depth): the same, given the clicks above each position."""
    looked = np.ones(attracted.shape)
    for position in range(log.depth - 1):
        here, before = attracted[:, position], looked[:, position]
        missed = before * (1.0 - here) / (1.0 - before * here)
        looked[:, position + 1] = np.where(log.clicks[:, position], 1.0 - stopping[:, position], missed)
    return looked


def mean_examination(looked: Floats, log: ClickLog) -> Floats:
    """(depth,): the mean of `looked` (n, depth) over the lists that show something at each position; 1 where none
    does."""
    shown = log.shown * log.row_weights[:, None]
    total = shown.sum(axis=0)
    return np.where(total > 0, (looked * shown).sum(axis=0) / np.where(total > 0, total, 1.0), 1.0)
