"""The dependent click model: after a click, the position decides whether the shopper looks on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from rerank.clicks.arrays import Floats
from rerank.clicks.cascade_em import examined, examined_given_clicks, fit_cascade, gather, mean_examination
from rerank.clicks.click_log import ClickLog
from rerank.clicks.model import DEFAULTS, FitOptions, PairEstimates, Progress, attraction


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
