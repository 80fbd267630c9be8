"""Training labels for each (query, product): debiased clicks, carts and purchases as one weighted sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy  # loads each submodule at its first use: a service starts without them

from shelfwise.rerank.click_models.click_log import ClickLog, Floats, Ints, Outcomes, outcomes
from shelfwise.rerank.click_models.models import ClickModel, PairPrior, UserBrowsing, prior_strength, rank_prior

SIGNALS = ("attractiveness", "cart rate", "purchase rate")
"""The columns of the signals, each a probability for a product that is examined."""
DEFAULT_WEIGHTS = np.array([1.0, 10.0, 25.0]) / 36.0
"""Used if there are too few purchases to fit weights: a convention that has not been measured."""
MIN_PURCHASES = 50
_MIN_RATE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class LabelWeights:
    """The weights of `SIGNALS`, whose weighted sum is the expected number of purchases per examination."""

    values: Floats
    """(3,), none negative."""
    fitted: bool
    """False for `DEFAULT_WEIGHTS`, which are not rates: only their order has a meaning."""
    purchases: int
    """The number of later purchases to which they were fitted."""


@dataclass(frozen=True, slots=True, eq=False)
class LaterPurchases:
    """The later purchases that labels predict; the first dimension of the arrays is the pairs."""

    signals: Floats
    """(pairs, 3): `SIGNALS` in the earlier part."""
    examinations: Floats
    """(pairs,): expected examinations in the later part."""
    purchases: Floats
    """(pairs,): purchases in the later part."""
    query: Ints
    """(pairs,)"""


def fit_weights(later: LaterPurchases) -> LabelWeights:
    """Non-negative weights by Poisson regression with an identity link, each in purchases per examination. With fewer
    than `MIN_PURCHASES`, or without examinations, returns the default weights, marked as not fitted."""
    purchases = round(float(later.purchases.sum()))
    if purchases < MIN_PURCHASES or not later.examinations.any():
        return LabelWeights(DEFAULT_WEIGHTS, fitted=False, purchases=purchases)
    weights = _regression(later.signals, later.examinations, later.purchases)
    return LabelWeights(weights, fitted=True, purchases=purchases)


def _regression(signals: Floats, looks: Floats, purchases: Floats) -> Floats:
    """(signals,): the non-negative weights with the highest Poisson likelihood."""
    # Scaled signals, so that one step length fits all of them.
    scale = np.maximum(looks @ signals, 1e-12) / max(float(purchases.sum()), 1.0)

    def loss(scaled: Floats) -> tuple[float, Floats]:
        rate = np.maximum(signals @ (scaled / scale), _MIN_RATE)
        slope = signals.T @ (looks - purchases / rate) / scale
        return float(looks @ rate - purchases @ np.log(rate)), slope

    start = np.full(signals.shape[1], 1.0 / signals.shape[1])
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start))
    return np.asarray(found.x / scale)


_FIRST_STRENGTH = 20.0
"""The weight of the mean conversion, in clicks, before its strength is estimated."""


LIST_DEPTH = 20
"""Positions further down are left out."""
_LATER_SHARE = 0.3
"""The share of lists, the last ones, to whose purchases the weights are fitted."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickLabels:
    """Labels, and the weights with which they were made."""

    table: pl.DataFrame
    """query, product_id, impressions, examinations, clicks, carts, purchases, attractiveness, lower and upper (its 95%
    interval), ctr (clicks by impressions), label (0 to 1: the weighted sum as a share of the highest), weight
    (0 to 1: how much of the attractiveness comes from clicks and not from the prior)."""
    weights: LabelWeights
    unattributed: int
    """Carts and purchases without a list, counted once per list and product; they are not in the table."""


def click_labels(events: pl.DataFrame) -> ClickLabels:
    """Makes labels from cleaned events (see `click_log` for the columns; kinds impression, click, cart, purchase).

    The weights are fitted to purchases of the last lists by signals of the earlier lists; the labels use all lists.
    """
    happened = outcomes(events, LIST_DEPTH)
    weights = fit_weights(_later(happened))
    model = fit_twice(happened.log, happened)
    signals = signal_rates(happened, model, 0, happened.log.size)
    return ClickLabels(_table(happened, model, signals @ weights.values), weights, happened.unattributed)


def fit_twice(log: ClickLog, happened: Outcomes) -> UserBrowsing:
    """The user browsing model, fitted again with the prior from its first fit and the ranking."""
    return UserBrowsing.fit(log, rank_prior(log, UserBrowsing.fit(log), happened.query))


def _later(happened: Outcomes) -> LaterPurchases:
    log = happened.log
    cut = log.size - round(log.size * _LATER_SHARE)
    before, after = log.rows(slice(0, cut)), log.rows(slice(cut, None))
    model = fit_twice(before, happened)
    looks = after.by_pair(after.shown, model.conditional_examination(after))
    signals = signal_rates(happened, model, 0, cut)
    return LaterPurchases(signals, looks, happened.purchases(cut, log.size), happened.query)


def signal_rates(happened: Outcomes, model: ClickModel, begin: int, end: int) -> Floats:
    """(pairs, 3): attractiveness, and the rates of carts and purchases, for a product that is examined.

    A rate is attractiveness times the share of clicks with that outcome, so all three are free of position bias. Pairs
    with few clicks convert like the mean.
    """
    made = model.estimates
    counts = happened.carts(begin, end), happened.purchases(begin, end)
    conversions = (_shares_of_clicks(counted, made.clicks) for counted in counts)
    return np.column_stack([made.attractiveness, *(made.attractiveness * share for share in conversions)])


def _shares_of_clicks(hits: Floats, clicks: Floats) -> Floats:
    """(pairs,): hits per click, smoothed towards the mean for few clicks."""
    # A cart may come from a list without a click, by a button next to the product.
    trials = np.maximum(clicks, hits)
    first = PairPrior.ordinary(hits, trials, _FIRST_STRENGTH)
    strength = prior_strength(hits, trials, trials, first.mean)
    return PairPrior.ordinary(hits, trials, strength).posterior(hits, trials)


def _table(happened: Outcomes, model: ClickModel, scores: Floats) -> pl.DataFrame:
    made, end = model.estimates, happened.log.size
    lower, upper = made.interval()
    highest = float(scores.max(initial=0.0))
    return happened.pairs.select("query", "product_id").with_columns(
        impressions=made.impressions,
        examinations=made.examinations,
        clicks=made.clicks,
        carts=happened.carts(0, end),
        purchases=happened.purchases(0, end),
        attractiveness=made.attractiveness,
        lower=lower,
        upper=upper,
        ctr=made.clicks / np.maximum(made.impressions, 1e-300),
        label=scores / highest if highest > 0 else scores,
        weight=made.click_share,
    )
