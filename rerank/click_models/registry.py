"""The click models by name, baselines among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from rerank.click_models.base import (
    DEFAULTS,
    ClickModel,
    FitOptions,
    PairEstimates,
    PairPrior,
    Progress,
    attraction,
    pair_estimates,
)
from rerank.click_models.click_log import ClickLog, Floats, sums
from rerank.click_models.dcm_sdbn import DependentClick, SimplifiedDBN
from rerank.click_models.pbm_ubm import PositionBased, UserBrowsing

# The click models to beat: plain click rates, by product or by position, as if nobody overlooked anything.


@dataclass(frozen=True, slots=True, eq=False)
class ProductRate:
    """The naive model: every pair has its click rate, at every position (DCTR; Chuklin et al. 2015, section 3.2.2)."""

    name: ClassVar[str] = "ctr"
    estimates: PairEstimates
    examination: Floats
    """(depth,): ones."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:  # noqa: ARG003
        """Counts; nothing is iterated."""
        impressions, clicks = _counts(log)
        prior = options.prior or PairPrior.ordinary(clicks, impressions, options.strength)
        rate = prior.posterior(clicks, impressions)
        return cls(_certain(rate, impressions, clicks, prior.strength), np.ones(log.depth))

    def click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return attraction(self.estimates, log, len(self.examination))

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return np.broadcast_to(self.examination[: log.depth], log.pairs.shape)

    def conditional_click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): the same."""
        return self.click_probabilities(log)


@dataclass(frozen=True, slots=True, eq=False)
class PositionRate:
    """Every position has its click rate, whatever it shows (RCTR; Chuklin et al. 2015, section 3.2.1).

    Products are all alike to it, so their attractiveness is that of the first position.
    """

    name: ClassVar[str] = "position"
    estimates: PairEstimates
    examination: Floats
    """(depth,): click rates as shares of the highest."""

    @classmethod
    def fit(cls, log: ClickLog, options: FitOptions = DEFAULTS, progress: Progress | None = None) -> Self:  # noqa: ARG003
        """Counts; nothing is iterated."""
        weights = log.row_weights
        clicks, shown = weights @ log.clicks, weights @ log.shown
        rate = (clicks + 1.0) / (shown + 2.0)
        highest = float(rate.max(initial=0.0)) or 0.5
        alike = np.full(log.count, highest)
        return cls(_certain(alike, *_counts(log), options.strength), rate / highest)

    def click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return attraction(self.estimates, log, len(self.examination)) * self.examination[: log.depth]

    def conditional_examination(self, log: ClickLog) -> Floats:
        """(n, depth): see ClickModel."""
        return np.broadcast_to(self.examination[: log.depth], log.pairs.shape)

    def conditional_click_probabilities(self, log: ClickLog) -> Floats:
        """(n, depth): the same."""
        return self.click_probabilities(log)


def _counts(log: ClickLog) -> tuple[Floats, Floats]:
    """(pairs,) each: impressions and clicks."""
    shown = log.shown
    weights = np.broadcast_to(log.row_weights[:, None], shown.shape)
    impressions = sums(log.pairs[shown], weights[shown], log.count)
    return impressions, sums(log.pairs[log.clicks], weights[log.clicks], log.count)


def _certain(rate: Floats, impressions: Floats, clicks: Floats, strength: float) -> PairEstimates:
    """Estimates where every impression counts as an examination."""
    return pair_estimates(rate, impressions, clicks, impressions, np.zeros(len(rate)), strength)


MODELS: Mapping[str, type[ClickModel]] = {
    each.name: each for each in (PositionBased, DependentClick, SimplifiedDBN, UserBrowsing)
}
"""Those that tell attractiveness from position."""
BASELINES: Mapping[str, type[ClickModel]] = {each.name: each for each in (ProductRate, PositionRate)}
"""Those that a model must beat to be worth its while."""
