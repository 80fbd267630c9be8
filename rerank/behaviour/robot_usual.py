"""What is usual: how fast, how much and where the shoppers of this log click, by which the unusual is told.

Each source has one voice, whatever it does: its clicks weigh less the more they are. Medians are used where there are
some, and everything is drawn to stated values where there is little to go by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rerank.behaviour.robot_acts import LAST_POSITION, Acts

Array = NDArray[np.float64]

_TO_DEVIATION = 1.4826
"""From the median absolute deviation to the standard deviation of normal values."""
_VOICE = 10
"""Clicks that a source may have before each weighs less."""
_WORTH = 20
"""As many sources as the stated values weigh."""
_PACE, _PACE_BETWEEN, _PACE_WITHIN = float(np.log(20_000)), 0.7, 1.0
_RATE, _PURCHASES, _NEXT, _ANSWERS, _REPEATS = 0.1, 0.03, 0.3, 2.0, 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Usual:
    """What shoppers usually do.

    `pace`, `pace_between` and `pace_within`: the natural logarithm of the milliseconds from a click to the next act,
    its deviation between sources and within a visit. `rates` (LAST_POSITION + 1,): clicks for each time a product is
    shown there; the place of position 0 is not used. `spread`: how much sources differ in clicking, as the inverse
    shape of a negative binomial distribution. `next_share`: of steps between clicks those to the next position.
    `answers`: a visit. `purchases`: for each click. `repeats`: chance that two clicks of a source are on one product.
    """

    pace: float
    pace_between: float
    pace_within: float
    rates: Array
    spread: float
    next_share: float
    answers: float
    purchases: float
    repeats: float


def usual(acts: Acts, suspects: pl.Series) -> Usual:
    """What is usual among the visits that are not suspects (visit numbers)."""
    visits = acts.visits.filter(~pl.col("visit").is_in(suspects.implode()))
    voices = visits.group_by("source").agg(_weight=pl.col("clicks").sum())
    voices = voices.select("source", weight=_VOICE / pl.max_horizontal("_weight", pl.lit(_VOICE)))
    kept = visits.select("visit").join(acts.visits.select("visit", "source"), on="visit").join(voices, on="source")
    shown = acts.shown.join(kept.select("visit", "weight"), on="visit")
    steps = acts.steps.join(kept.select("visit", "weight"), on="visit")
    weighed = visits.join(voices, on="source")
    rates = _rates(shown)
    pace, between, within = _pace(visits)
    weight, bought = weighed["weight"].to_numpy(), weighed["purchases"].to_numpy()
    return Usual(
        pace=pace,
        pace_between=between,
        pace_within=within,
        rates=rates,
        spread=_spread(shown, rates),
        next_share=_share(float((steps["next"] * steps["weight"]).sum()), float(steps["weight"].sum()), _NEXT),
        answers=max(1.0, _share(float(visits["answers"].sum()), len(visits), _ANSWERS)),
        purchases=_share(float(weight @ bought), float(weight @ weighed["clicks"].to_numpy()), _PURCHASES),
        repeats=_repeats(acts.clicked.join(voices, on="source")),
    )


def _share(count: float, of: float, stated: float) -> float:
    return (count + _WORTH * stated) / (of + _WORTH)


def _pace(visits: pl.DataFrame) -> tuple[float, float, float]:
    paced = visits.filter(pl.col("dwells") > 0)
    sums = paced.group_by("source").agg(pl.col("dwells", "dwell_sum").sum())
    within = _within(paced)
    if sums.is_empty():
        return _PACE, _PACE_BETWEEN, within
    counts = sums["dwells"].to_numpy()
    means = sums["dwell_sum"].to_numpy() / counts
    middle = float(np.median(means))
    # Robots are among the fast, so the slower half tells how shoppers differ.
    seen = (_TO_DEVIATION * float(np.median(means[means >= middle] - middle))) ** 2
    between = max(seen - within**2 * float(np.mean(1 / counts)), 0.1)
    return _drawn(middle, len(sums), _PACE), _drawn(between, len(sums), _PACE_BETWEEN**2) ** 0.5, within


def _within(paced: pl.DataFrame) -> float:
    """Of the median visit, whose variance is a little less than the true one: as much as the chi-squared distribution's
    median is below its mean (Wilson & Hilferty 1931)."""
    several = paced.filter(pl.col("dwells") >= 3)
    if several.is_empty():
        return _PACE_WITHIN
    degrees = several["dwells"].to_numpy() - 1
    middle = (1 - 2 / (9 * degrees)) ** 3
    variance = float(np.median(several["dwell_ss"].to_numpy() / degrees / middle))
    return float(np.sqrt(max(_drawn(variance, len(several), _PACE_WITHIN**2), 0.01)))


def _drawn(value: float, count: int, stated: float) -> float:
    return (value * count + stated * _WORTH) / (count + _WORTH)


def _rates(shown: pl.DataFrame) -> Array:
    position, weight = shown["position"].to_numpy(), shown["weight"].to_numpy()
    counts = np.bincount(position, weight, LAST_POSITION + 1)
    clicks = np.bincount(position, weight * shown["clicked"].to_numpy(), LAST_POSITION + 1)
    overall = _share(float(clicks.sum()), float(counts.sum()), _RATE)
    return np.asarray((clicks + _WORTH * overall) / (counts + _WORTH))


def _spread(shown: pl.DataFrame, rates: Array) -> float:
    """By moments over visits (Cameron & Trivedi 2013, Regression Analysis of Count Data)."""
    expected = shown.select("visit", "clicked", "weight", _rate=pl.Series(rates[shown["position"].to_numpy()]))
    by_visit = expected.group_by("visit").agg(pl.col("clicked", "_rate").sum(), pl.col("weight").first())
    mean, seen, weight = (by_visit[name].to_numpy().astype(float) for name in ("_rate", "clicked", "weight"))
    extra = float(weight @ ((seen - mean) ** 2 - mean)) + _WORTH * 0.5
    return float(np.clip(extra / (float(weight @ mean**2) + _WORTH), 0.1, 4.0))


def _repeats(clicked: pl.DataFrame) -> float:
    sums = clicked.group_by("source").agg(
        _all=pl.col("times").sum().cast(pl.Float64),
        _same=(pl.col("times") * (pl.col("times") - 1) / 2).sum(),
        weight=pl.col("weight").first() ** 2,
    )
    same = float((sums["_same"] * sums["weight"]).sum())
    return _share(same, float((sums["_all"] * (sums["_all"] - 1) / 2 * sums["weight"]).sum()), _REPEATS)
