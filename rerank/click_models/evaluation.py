"""Held-out evaluation of click models: log-likelihood and perplexity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from rerank.click_models.base import DEFAULTS, ClickModel, FitOptions
from rerank.click_models.click_log import ClickLog, Flags, Floats, outcomes, shown_places
from rerank.click_models.labels import LabelOptions, fit_twice
from rerank.click_models.models import BASELINES, MODELS

_LEAST = 1e-10
"""No probability is taken for smaller: one click thought impossible would make every mean infinite."""


@dataclass(frozen=True, slots=True, eq=False)
class PredictionQuality:
    """A model's figures on a log."""

    log_likelihood: float
    """Natural logarithm of the probability of a session's clicks, each given those above it; the mean over sessions
    (Dupret & Piwowarski 2008, section 5; Chuklin et al. 2015, section 5.1). Nearer 0 is better."""
    perplexity: float
    """The mean of `position_perplexity` over the positions that were shown."""
    position_perplexity: Floats
    """(depth,): 2 to the mean binary surprise at clicks and their absence, each from its full probability (Chuklin et
    al. 2015, section 5.2). 1 is perfect, 2 a coin; NaN where nothing was shown."""


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
    """Every model fitted on one log and tried on another of the same pairs, the best log-likelihood first.

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
    """(n, depth): the natural logarithm of the probability of what happened."""
    happened = np.where(log.clicks, clicks, 1.0 - clicks)
    return np.log(np.maximum(happened, _LEAST))


@dataclass(frozen=True, slots=True)
class HeldOutFit:
    """A model's figures on later lists, as `PredictionQuality` has them; None where nothing was shown."""

    model: str
    """A name in `MODELS` or `BASELINES`."""
    perplexity: float | None
    log_likelihood: float | None

    def __str__(self) -> str:
        return f"{self.model} {'unknown' if self.perplexity is None else format(self.perplexity, '.4f')}"


def evaluate_later(earlier: pl.DataFrame, later: pl.DataFrame, options: LabelOptions) -> tuple[HeldOutFit, ...]:
    """The options' model and the baselines, each fitted to earlier events and evaluated on later ones.

    Pairs that only later lists show have the attractiveness that the model gives to a pair without clicks.
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
