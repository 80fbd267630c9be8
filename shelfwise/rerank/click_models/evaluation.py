"""The click likelihood of a ranker: how well its scores predict the clicks of later sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from shelfwise.rerank.click_models.click_log import ClickLog, Flags, Floats
from shelfwise.rerank.click_models.models import PositionBased
from shelfwise.retrieval.errors import InputError

_MIN_PROBABILITY = 1e-10
"""The lower bound of probabilities: one click considered impossible would make every mean infinite."""


# Interpolated click likelihood: how well a ranker's scores predict the clicks of later sessions.  For a session whose
# list showed the products d_1 ... d_K, with c_k = 1 where position k was clicked:      P_k = (1 - m) * e_k * sigmoid(a
# * s(d_k) + b) + m * r_k     likelihood = sum over k of  c_k ln P_k + (1 - c_k) ln(1 - P_k)  e_k is the examination of
# position k by the position-based model (Craswell et al. 2008, section 4.2), s the ranker's score, (a, b) its
# calibration to clicks, r_k the click-through rate of position k in the logged order, for any product. The weight m
# interpolates the two linearly (Jelinek & Mercer 1980), so that one confident mistake of a calibration cannot outweigh
# a thousand sessions. The sum over positions is the log-likelihood of Chuklin, Markov & de Rijke 2015 (Click Models for
# Web Search, section 5.1). With m = 1 it is that of the logged order, the reference.  Everything except s and its
# calibration is fitted to earlier sessions, and is the same for all compared rankers.

Calibration = tuple[float, float]
"""Slope and intercept: sigmoid(slope * score + intercept) is the probability that an examined product is clicked."""

INTERPOLATION = 0.1
"""The weight m of the rates of positions."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickLikelihood:
    """The click model between scores and clicks, fitted to sessions before those that are evaluated."""

    examination: Floats
    """(depth,)"""
    rates: Floats
    """(depth,): click-through by position of the logged order."""

    @classmethod
    def fit(cls, earlier: ClickLog) -> Self:
        """Fits examination and rates to earlier sessions."""
        rates = (earlier.clicks.sum(axis=0) + 1.0) / (earlier.shown.sum(axis=0) + 2.0)
        return cls(PositionBased.fit(earlier).examination, rates)

    def calibration(self, earlier: ClickLog, scores: Floats) -> Calibration:
        """The most likely calibration of a ranker's scores (n, depth) to the clicks of their lists.

        The slope is not negative: a ranker that puts the worst first must not gain by being reversed. It has a standard
        normal prior in deviations of the scores, which keeps it finite if a few clicks all agree.
        """
        examined, shown = self._examined(earlier, scores), earlier.shown
        values, clicks = scores[shown].astype(np.float64), earlier.clicks[shown]
        if not len(values):
            return 0.0, 0.0
        mean, deviation = float(values.mean()), float(values.std()) or 1.0
        fitted = _fitted((values - mean) / deviation, clicks, examined[shown])
        return fitted[0] / deviation, fitted[1] - fitted[0] * mean / deviation

    def of(self, log: ClickLog, scores: Floats, calibration: Calibration) -> Floats:
        """(n,): the natural logarithm of the probability of each session's clicks; closer to 0 is better.

        `scores` (n, depth) are those of the product that the log shows at each place; empty places do not count. Raises
        InputError for scores of another shape, or more positions than this was fitted on.
        """
        slope, intercept = calibration
        attracted = self._examined(log, scores) * expit(slope * scores + intercept)
        clicked = (1.0 - INTERPOLATION) * attracted + INTERPOLATION * self.rates[: log.depth]
        happened = np.where(log.clicks, clicked, 1.0 - clicked)
        return np.asarray(np.where(log.shown, np.log(np.maximum(happened, _MIN_PROBABILITY)), 0.0).sum(axis=1))

    def _examined(self, log: ClickLog, scores: Floats) -> Floats:
        """(n, depth): the examinations, after checking the shapes."""
        if scores.shape != log.pairs.shape:
            raise InputError(f"scores have shape {scores.shape}, but the log has {log.pairs.shape}: one score a place")
        if log.depth > len(self.examination):
            known = len(self.examination)
            raise InputError(f"the log has {log.depth} positions, examination was fitted to {known}: fit it on as many")
        return np.broadcast_to(self.examination[: log.depth], scores.shape)


def _fitted(values: Floats, clicks: Flags, examined: Floats) -> tuple[float, float]:
    """Slope and intercept for standardised scores (m,)."""

    def loss(parameters: Floats) -> tuple[float, Floats]:
        fits = expit(parameters[0] * values + parameters[1])
        clicked = np.clip(examined * fits, _MIN_PROBABILITY, 1.0 - _MIN_PROBABILITY)
        likelihood = np.where(clicks, np.log(clicked), np.log1p(-clicked))
        slope = np.where(clicks, 1.0 - fits, -clicked * (1.0 - fits) / (1.0 - clicked))
        total = parameters[0] ** 2 / 2 - float(likelihood.sum())
        return total, np.array([parameters[0] - float(slope @ values), -float(slope.sum())])

    start = np.array([0.5, -1.0])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=((0.0, None), (-30.0, 30.0)))
    return float(found.x[0]), float(found.x[1])
