"""The interface of click models: attractiveness with its evidence, examination by position, click probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
import scipy  # loads each submodule at its first use: a service starts without them

from shelfwise.rerank.click_models.click_log import ClickLog, Floats
from shelfwise.retrieval.errors import InputError

Progress = Callable[[int, float], None]
"""Called after each iteration with its number, from 1, and the change."""


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


@dataclass(frozen=True, slots=True, eq=False)
class FitOptions:
    """Options of fitting click models."""

    prior: PairPrior | None = None
    """The prior of attractiveness; None means the ordinary one."""
    strength: float = 2.0
    """The weight of the ordinary prior, in examinations."""
    stop_strength: float = 1.0
    """The same for stopping at a click; less, because most of what follows a click is hidden."""
    iterations: int = 200
    """The most iterations. Models that fit the log need a third of them; the DCM and the SDBN converge slowly if
    shoppers stop after no click at all."""
    tolerance: float = 1e-5
    """Iteration ends when no estimate changes by more, averaged over its observations."""


DEFAULTS = FitOptions()


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

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """The equal-tailed credible interval of each attractiveness: lower and upper ends, (pairs,) each.

        It is that of the beta posterior with the estimate as its mean and effective examinations plus prior as its
        count, widened to contain the estimate. It does not cover the error of the estimated examination.
        """
        count = self.effective + self.strength
        shapes = self.attractiveness * count, (1.0 - self.attractiveness) * count
        tail = (1.0 - level) / 2
        lower, upper = scipy.special.betaincinv(*shapes, tail), scipy.special.betaincinv(*shapes, 1.0 - tail)
        return np.minimum(lower, self.attractiveness), np.maximum(upper, self.attractiveness)


def pair_estimates(
    attractiveness: Floats, impressions: Floats, clicks: Floats, examinations: Floats, spread: Floats, strength: float
) -> PairEstimates:
    """Estimates with their effective examinations; `spread` (pairs,) is the variance of the number of examinations
    that were not clicked, given the log."""
    lost = attractiveness / (1.0 - attractiveness) * spread
    effective = np.maximum(examinations - lost, 0.0)
    return PairEstimates(attractiveness, impressions, clicks, examinations, effective, strength)


class ClickModel(Protocol):
    """A fitted click model. All arrays are of float64 probabilities.

    The methods raise InputError for a log of more pairs or positions than the model was fitted on.
    """

    name: ClassVar[str]

    @property
    def estimates(self) -> PairEstimates:
        """The estimates of all pairs."""
        ...

    @property
    def examination(self) -> Floats:
        """(depth,): the mean examination of each position over the lists on which the model was fitted."""
        ...

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = ..., progress: Progress | None = None) -> Self:
        """Fits the model to a log; the same log gives the same model."""
        ...

    def click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): the marginal probability of a click at each position; 0 if nothing was shown."""
        ...

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): the probability that each position is examined, given the clicks above it."""
        ...

    def conditional_click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): the probability of a click, given the clicks above each position."""
        ...


def attraction(estimates: PairEstimates, log: ClickLog, depth: int) -> Floats:
    """(n, depth): the attractiveness of the product at each position, 0 if there is none.

    Raises InputError for a log of more pairs or positions than the model was fitted on.
    """
    known = len(estimates.attractiveness)
    if log.count > known:
        raise InputError(f"the log has {log.count:,} pairs, the model was fitted on {known:,}: number them alike")
    if log.depth > depth:
        raise InputError(f"the log has {log.depth} positions, the model was fitted on {depth}: fit it on as many")
    # The pair -1 of an empty place reads the last entry, which is this 0.
    return np.append(estimates.attractiveness, 0.0)[log.pairs]
