"""What a click, a cart and a purchase are worth: fitted so that their weighted sum foretells later purchases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr

from rerank.clicks.arrays import Floats, Ints

SIGNALS = ("attractiveness", "cart rate", "purchase rate")
"""The columns of the signals: each a probability for a product that is looked at."""
DEFAULT_WEIGHTS = np.array([1.0, 10.0, 25.0]) / 36.0
"""Where there are too few purchases to fit: a convention that has not been measured."""
LEAST_PURCHASES = 50
_FOLDS = 5
_LEAST_RATE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class LabelWeights:
    """The weights of `SIGNALS`, whose sum is the expected purchases for each time that the product is looked at."""

    values: Floats
    """(3,), none negative."""
    errors: Floats
    """(3,): standard errors; NaN where the weights were not fitted."""
    fitted: bool
    """False for `DEFAULT_WEIGHTS`, which are no rates: only what they order by means something."""
    purchases: int
    """How many later purchases there were to fit to."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """How well purchases of queries that the weights were not fitted to are foretold, and by clicks alone.

    Log-likelihoods are of Poisson counts, in the mean over the pairs that were looked at later, without the part that
    no prediction changes; correlations are Spearman's, of predicted with actual rates over the same pairs,
    None where one of both does not vary.
    """

    log_likelihood: float
    clicks_log_likelihood: float
    rank_correlation: float | None
    clicks_rank_correlation: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Later:
    """What labels are to foretell; arrays of pairs in the first dimension."""

    signals: Floats
    """(pairs, 3): `SIGNALS` of the earlier part."""
    looks: Floats
    """(pairs,): how often each was looked at in the later part."""
    purchases: Floats
    """(pairs,): how often it was bought then."""
    query: Ints
    """(pairs,)"""


def fit_weights(later: Later) -> LabelWeights:
    """Weights by Poisson regression without a link, none negative, so that each is in purchases for one look.

    Standard errors are those of the expected information, widened by the square root of Pearson's dispersion where
    purchases vary more than Poisson counts do (McCullagh & Nelder 1989, Generalized Linear Models, section 6.2.3).
    With fewer than `LEAST_PURCHASES`, or where nothing was looked at, the default weights are given, and said to be
    those.
    """
    purchases = round(float(later.purchases.sum()))
    if purchases < LEAST_PURCHASES or not later.looks.any():
        return LabelWeights(DEFAULT_WEIGHTS, np.full(len(SIGNALS), np.nan), fitted=False, purchases=purchases)
    weights = _regression(later.signals, later.looks, later.purchases)
    rate = np.maximum(later.signals @ weights, _LEAST_RATE)
    information = (later.signals * (later.looks / rate)[:, None]).T @ later.signals
    seen = later.looks > 0
    expected = rate[seen] * later.looks[seen]
    dispersion = float((((later.purchases[seen] - expected) ** 2) / expected).sum()) / max(int(seen.sum()) - 3, 1)
    errors = np.sqrt(np.diag(np.linalg.pinv(information)) * max(dispersion, 1.0))
    return LabelWeights(weights, errors, fitted=True, purchases=purchases)


def foresight(later: Later) -> Foresight | None:
    """Fits weights to four fifths of the queries and tries them on the others, five times.

    None where all that was looked at and bought later is of one fifth: nothing is left to fit weights to.
    """
    fold = later.query % _FOLDS
    seen = later.looks > 0
    bought = seen & (later.purchases > 0)
    if not all(bool(bought[fold != number].any()) for number in range(_FOLDS)):
        return None
    joined, clicks = np.zeros(len(fold)), np.zeros(len(fold))
    for number in range(_FOLDS):
        out = fold == number
        for predicted, columns in ((joined, slice(0, 3)), (clicks, slice(0, 1))):
            signals = later.signals[:, columns]
            weights = _regression(signals[~out], later.looks[~out], later.purchases[~out])
            predicted[out] = signals[out] @ weights
    rate = later.purchases[seen] / later.looks[seen]
    return Foresight(
        _mean_log_likelihood(joined[seen], later.looks[seen], later.purchases[seen]),
        _mean_log_likelihood(clicks[seen], later.looks[seen], later.purchases[seen]),
        _rank_correlation(joined[seen], rate),
        _rank_correlation(clicks[seen], rate),
    )


def _rank_correlation(predicted: Floats, actual: Floats) -> float | None:
    if not np.ptp(predicted) or not np.ptp(actual):
        return None
    return float(spearmanr(predicted, actual)[0])


def _regression(signals: Floats, looks: Floats, purchases: Floats) -> Floats:
    """(signals,): the non-negative weights of the highest Poisson likelihood."""
    # Signals on a scale of their own, so that one step length fits all of them.
    scale = np.maximum(looks @ signals, 1e-12) / max(float(purchases.sum()), 1.0)

    def loss(scaled: Floats) -> tuple[float, Floats]:
        rate = np.maximum(signals @ (scaled / scale), _LEAST_RATE)
        slope = signals.T @ (looks - purchases / rate) / scale
        return float(looks @ rate - purchases @ np.log(rate)), slope

    start = np.full(signals.shape[1], 1.0 / signals.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start))
    return np.asarray(found.x / scale)


def _mean_log_likelihood(rate: Floats, looks: Floats, purchases: Floats) -> float:
    rate = np.maximum(rate, _LEAST_RATE)
    return float((purchases * np.log(rate * looks) - rate * looks).mean())
