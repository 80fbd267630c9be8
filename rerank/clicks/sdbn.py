"""The simplified dynamic Bayesian network: after a click, the product decides whether the shopper looks on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from rerank.clicks.arrays import Floats
from rerank.clicks.cascade_em import examined, examined_given_clicks, fit_cascade, gather, mean_examination
from rerank.clicks.click_log import ClickLog
from rerank.clicks.model import DEFAULTS, FitOptions, PairEstimates, Progress, attraction


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
