"""The interface of click models: attractiveness with its evidence, and examination by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy  # loads each submodule at its first use: a service starts without them

from shelfwise.rerank.click_models.click_log import ClickLog, Floats


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
    iterations: int = 200
    """The most iterations; a log needs a third of them."""
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
    """A fitted click model; all arrays are of float64 probabilities."""

    @property
    def estimates(self) -> PairEstimates:
        """The estimates of all pairs."""
        ...

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): the probability that each position is examined, given the clicks above it."""
        ...
