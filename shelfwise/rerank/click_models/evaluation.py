"""Held-out evaluation by click models: log-likelihood, perplexity, and how well a ranker predicts later clicks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from scipy.optimize import minimize
from scipy.special import expit

from shelfwise.rerank.click_models.base import DEFAULTS, ClickModel, FitOptions
from shelfwise.rerank.click_models.click_log import ClickLog, Flags, Floats, outcomes, shown_places
from shelfwise.rerank.click_models.labels import LabelOptions, fit_twice
from shelfwise.rerank.click_models.models import BASELINES, MODELS, PositionBased, PositionRate
from shelfwise.retrieval.errors import InputError

_LEAST = 1e-10
"""The lower bound of probabilities: one click considered impossible would make every mean infinite."""


@dataclass(frozen=True, slots=True, eq=False)
class PredictionQuality:
    """A model's figures on a log."""

    log_likelihood: float
    """Natural logarithm of the probability of a session's clicks, each given those above it; the mean over sessions
    (Dupret & Piwowarski 2008, section 5; Chuklin et al. 2015, section 5.1). Closer to 0 is better."""
    perplexity: float
    """The mean of `position_perplexity` over the positions that were shown."""
    position_perplexity: Floats
    """(depth,): 2 to the mean binary surprise at clicks and their absence, each from its full probability (Chuklin et
    al. 2015, section 5.2). 1 is perfect, 2 is a coin toss; NaN if nothing was shown."""


def evaluate(model: ClickModel, log: ClickLog) -> PredictionQuality:
    """Evaluates a model on a log that it was not fitted to."""
    shown = log.shown * log.row_weights[:, None]
    surprise = -_log_probability(model.click_probabilities(log), log) * shown
    total = shown.sum(axis=0)
    mean = np.divide(surprise.sum(axis=0), total, out=np.full(log.depth, np.nan), where=total > 0)
    by_position = np.exp(mean)
    known = by_position[total > 0]
    likelihood = (_log_probability(model.conditional_click_probabilities(log), log) * shown).sum()
    sessions = float(log.row_weights.sum())
    return PredictionQuality(
        float(likelihood) / sessions if sessions else float("nan"),
        float(known.mean()) if len(known) else float("nan"),
        by_position,
    )


def compare(
    train: ClickLog,
    test: ClickLog,
    options: FitOptions = DEFAULTS,
    models: Mapping[str, type[ClickModel]] = {**MODELS, **BASELINES},
) -> pl.DataFrame:
    """Fits every model to one log and evaluates it on another with the same pairs; best log-likelihood first.

    Columns: model, log_likelihood, perplexity, position_perplexity (an array a row).
    """
    tried = {name: evaluate(model.fit(train, options), test) for name, model in models.items()}
    table = pl.DataFrame(
        {
            "model": list(tried),
            "log_likelihood": [each.log_likelihood for each in tried.values()],
            "perplexity": [each.perplexity for each in tried.values()],
            "position_perplexity": [each.position_perplexity.tolist() for each in tried.values()],
        },
        schema_overrides={"position_perplexity": pl.List(pl.Float64)},
    )
    return table.sort("log_likelihood", descending=True, nulls_last=True)


def _log_probability(clicks: Floats, log: ClickLog) -> Floats:
    """(n, depth): the natural logarithm of the probability of the observed clicks."""
    happened = np.where(log.clicks, clicks, 1.0 - clicks)
    return np.log(np.maximum(happened, _LEAST))


@dataclass(frozen=True, slots=True)
class HeldOutFit:
    """A model's figures on later lists, as in `PredictionQuality`; None if nothing was shown."""

    model: str
    """A name in `MODELS` or `BASELINES`."""
    perplexity: float | None
    log_likelihood: float | None

    def __str__(self) -> str:
        return f"{self.model} {'unknown' if self.perplexity is None else format(self.perplexity, '.4f')}"


def evaluate_later(earlier: pl.DataFrame, later: pl.DataFrame, options: LabelOptions) -> tuple[HeldOutFit, ...]:
    """The options' model and the baselines, each fitted to earlier events and evaluated on later ones.

    Pairs that only later lists show get the attractiveness that the model gives to a pair without clicks.
    """
    happened = outcomes(pl.concat([earlier, later]), options.depth)
    is_later = _is_later(earlier, later, options.depth)
    before, after = happened.log.rows(~is_later), happened.log.rows(is_later)
    fitted = {options.model: fit_twice(before, happened, options)}
    fitted |= {name: model.fit(before, options.fit) for name, model in BASELINES.items()}
    tried = {name: evaluate(model, after) for name, model in fitted.items()}
    return tuple(HeldOutFit(name, _known(each.perplexity), _known(each.log_likelihood)) for name, each in tried.items())


def _is_later(earlier: pl.DataFrame, later: pl.DataFrame, depth: int) -> Flags:
    """(n,): which rows of the log of both are later ones."""
    lists = shown_places(pl.concat([earlier, later]), depth).unique("row").sort("row")["query_id"]
    return np.asarray(lists.is_in(later["query_id"].unique().to_list()).to_numpy(), np.bool_)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


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


@dataclass(frozen=True, slots=True, eq=False)
class ClickLikelihood:
    """The click model between scores and clicks, fitted to sessions before those that are evaluated."""

    examination: Floats
    """(depth,)"""
    rates: Floats
    """(depth,): click-through by position of the logged order."""
    interpolation: float = INTERPOLATION
    """The weight of those rates, 0 to 1."""

    @classmethod
    def fit(cls, earlier: ClickLog, interpolation: float = INTERPOLATION) -> Self:
        """Fits examination and rates to earlier sessions."""
        order = PositionRate.fit(earlier)
        rates = order.estimates.attractiveness.max(initial=0.0) * order.examination
        return cls(PositionBased.fit(earlier).examination, rates, interpolation)

    def calibration(self, earlier: ClickLog, scores: Floats) -> Calibration:
        """The most likely calibration of a ranker's scores (n, depth) to the clicks of their lists.

        The slope is not negative: a ranker that puts the worst first must not gain by being reversed. It has a standard
        normal prior in deviations of the scores, which keeps it finite if a few clicks all agree.
        """
        examined, shown = self._examined(earlier, scores), earlier.shown
        values, clicks = scores[shown].astype(np.float64), earlier.clicks[shown]
        weights = np.broadcast_to(earlier.row_weights[:, None], shown.shape)[shown]
        if not len(values):
            return 0.0, 0.0
        mean, deviation = float(values.mean()), float(values.std()) or 1.0
        fitted = _fitted((values - mean) / deviation, clicks, examined[shown], weights)
        return fitted[0] / deviation, fitted[1] - fitted[0] * mean / deviation

    def of(self, log: ClickLog, scores: Floats, calibration: Calibration) -> Floats:
        """(n,): the natural logarithm of the probability of each session's clicks; closer to 0 is better.

        `scores` (n, depth) are those of the product that the log shows at each place; empty places do not count. Raises
        InputError for scores of another shape, or more positions than this was fitted on.
        """
        slope, intercept = calibration
        attracted = self._examined(log, scores) * expit(slope * scores + intercept)
        clicked = (1.0 - self.interpolation) * attracted + self.interpolation * self.rates[: log.depth]
        happened = np.where(log.clicks, clicked, 1.0 - clicked)
        return np.asarray(np.where(log.shown, np.log(np.maximum(happened, _LEAST)), 0.0).sum(axis=1))

    def _examined(self, log: ClickLog, scores: Floats) -> Floats:
        """(n, depth): the examinations, after checking the shapes."""
        if scores.shape != log.pairs.shape:
            raise InputError(f"scores have shape {scores.shape}, but the log has {log.pairs.shape}: one score a place")
        if log.depth > len(self.examination):
            known = len(self.examination)
            raise InputError(f"the log has {log.depth} positions, examination was fitted to {known}: fit it on as many")
        return np.broadcast_to(self.examination[: log.depth], scores.shape)


def _fitted(values: Floats, clicks: Flags, examined: Floats, weights: Floats) -> tuple[float, float]:
    """Slope and intercept for standardised scores (m,)."""

    def loss(parameters: Floats) -> tuple[float, Floats]:
        fits = expit(parameters[0] * values + parameters[1])
        clicked = np.clip(examined * fits, _LEAST, 1.0 - _LEAST)
        likelihood = np.where(clicks, np.log(clicked), np.log1p(-clicked))
        slope = weights * np.where(clicks, 1.0 - fits, -clicked * (1.0 - fits) / (1.0 - clicked))
        total = parameters[0] ** 2 / 2 - float(weights @ likelihood)
        return total, np.array([parameters[0] - float(slope @ values), -float(slope.sum())])

    start = np.array([0.5, -1.0])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=((0.0, None), (-30.0, 30.0)))
    return float(found.x[0]), float(found.x[1])
