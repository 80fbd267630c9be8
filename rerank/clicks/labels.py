"""Weighted labels for each (query, product): clicks freed of their position, carts and purchases in one number."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from rerank.clicks.arrays import Floats, sums
from rerank.clicks.click_log import ClickLog
from rerank.clicks.label_weights import Foresight, LabelWeights, Later, fit_weights, foresight
from rerank.clicks.model import DEFAULTS, ClickModel, FitOptions, PairPrior
from rerank.clicks.models import BASELINES, MODELS
from rerank.clicks.outcomes import Outcomes, outcomes
from rerank.clicks.rank_prior import prior_strength, rank_prior

_FIRST_STRENGTH = 20.0
"""How many clicks the mean conversion is worth until that is estimated."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelOptions:
    """How labels are made."""

    model: str = "ubm"
    """The click model, by its name in MODELS or BASELINES. The user browsing model contains the position-based one,
    and takes clicks that follow on each other into account besides."""
    depth: int = 20
    """Positions further down are left out."""
    later: float = 0.3
    """The last share of lists, whose purchases the weights are fitted to."""
    fit: FitOptions = DEFAULTS


@dataclass(frozen=True, slots=True, eq=False)
class ClickLabels:
    """Labels, and how they came to be."""

    table: pl.DataFrame
    """query, product_id, impressions, examinations, clicks, carts, purchases, attractiveness, lower and upper (its 95%
    interval), ctr (clicks by impressions), label (0 to 1: the weighted sum as a share of the highest), weight
    (0 to 1: how much of the attractiveness comes from clicks, and not from what was supposed before)."""
    weights: LabelWeights
    foresight: Foresight | None
    """None where the weights were not fitted, or to too few queries to try them on others."""
    unattributed: int
    """Carts and purchases that no list led to, each once a list and product; they are not in the table."""


def click_labels(events: pl.DataFrame, options: LabelOptions = LabelOptions()) -> ClickLabels:
    """Makes labels from cleaned events (see `click_log` for the columns; kinds impression, click, cart, purchase).

    The weights are fitted to purchases of the last share of the lists by signals of those before, so none foretells
    what it has seen. The labels then take in everything.
    """
    happened = outcomes(events, options.depth)
    later = _later(happened, options)
    weights = fit_weights(later)
    model = fit_twice(happened.log, happened, options)
    signals = _signals(happened, model, 0, happened.log.size)
    return ClickLabels(
        _table(happened, model, signals @ weights.values),
        weights,
        foresight(later) if weights.fitted else None,
        happened.unattributed,
    )


def fit_twice(log: ClickLog, happened: Outcomes, options: LabelOptions) -> ClickModel:
    """The click model, fitted with the prior that its first fit and the ranking give."""
    model = {**MODELS, **BASELINES}[options.model]
    first = model.fit(log, options.fit)
    return model.fit(log, replace(options.fit, prior=rank_prior(log, first, happened.query)))


def _later(happened: Outcomes, options: LabelOptions) -> Later:
    log = happened.log
    cut = log.size - round(log.size * options.later)
    before, after = log.rows(slice(0, cut)), log.rows(slice(cut, None))
    model = fit_twice(before, happened, options)
    shown = after.shown
    looks = sums(after.pairs[shown], model.conditional_examination(after)[shown], log.count)
    return Later(_signals(happened, model, 0, cut), looks, happened.purchases(cut, log.size), happened.query)


def _signals(happened: Outcomes, model: ClickModel, begin: int, end: int) -> Floats:
    """(pairs, 3): attractiveness, and the rates of carts and purchases for a product that is looked at.

    A rate is attractiveness times the share of clicks that led so far: what is said against position bias holds for
    all three, and pairs with few clicks are taken for as persuasive as others that attract as much.
    """
    made = model.estimates
    led = (
        shares_of_clicks(counted, made.clicks)
        for counted in (happened.carts(begin, end), happened.purchases(begin, end))
    )
    return np.column_stack([made.attractiveness, *(made.attractiveness * share for share in led)])


def shares_of_clicks(hits: Floats, clicks: Floats) -> Floats:
    """(pairs,): hits by clicks, drawn towards the mean as far as clicks are few."""
    # A cart may come from a list without a click there, by a button beside the product.
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
        weight=made.effective / (made.effective + made.strength),
    )
