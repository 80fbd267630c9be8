"""How well the click model of a training foretells the clicks of later lists, beside plain click rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from rerank.clicks.arrays import Flags
from rerank.clicks.click_log import shown_places
from rerank.clicks.evaluation import evaluate
from rerank.clicks.labels import LabelOptions, fit_twice
from rerank.clicks.models import BASELINES
from rerank.clicks.outcomes import outcomes


@dataclass(frozen=True, slots=True)
class Foretold:
    """A model's figures on later lists; see `rerank.clicks.evaluation.Prediction`. None where nothing was shown."""

    model: str
    """A name in `rerank.clicks.models`."""
    perplexity: float | None
    """1 is perfect, 2 a coin."""
    log_likelihood: float | None
    """Of a list, the mean; nearer 0 is better."""

    def __str__(self) -> str:
        return f"{self.model} {'unknown' if self.perplexity is None else format(self.perplexity, '.4f')}"


def foretold(earlier: pl.DataFrame, later: pl.DataFrame, options: LabelOptions) -> tuple[Foretold, ...]:
    """The model that `rerank.training.click_evidence.learned` fits to earlier events, then the baselines, each tried on
    later ones.

    Pairs that only later lists show are what the model supposes of a pair without clicks.
    """
    happened = outcomes(pl.concat([earlier, later]), options.depth)
    is_later = _is_later(earlier, later, options.depth)
    before, after = happened.log.rows(~is_later), happened.log.rows(is_later)
    fitted = {options.model: fit_twice(before, happened, options)}
    fitted |= {name: model.fit(before, options.fit) for name, model in BASELINES.items()}
    tried = {name: evaluate(model, after) for name, model in fitted.items()}
    return tuple(Foretold(name, _known(each.perplexity), _known(each.log_likelihood)) for name, each in tried.items())


def _is_later(earlier: pl.DataFrame, later: pl.DataFrame, depth: int) -> Flags:
    """(n,): of the rows of their log together, which are later ones."""
    lists = shown_places(pl.concat([earlier, later]), depth).unique("row").sort("row")["query_id"]
    return np.asarray(lists.is_in(later["query_id"].unique().to_list()).to_numpy(), np.bool_)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
