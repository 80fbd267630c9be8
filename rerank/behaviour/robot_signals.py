"""Signals of robots and click fraud: how far what a visit, or a source, did is from what is usual.

Each signal is a weight of evidence in bans, powers of ten by which it speaks for a robot (Good 1985, Weight of
Evidence: A Brief Survey). A probability of the upper tail, p, is worth -log10(-e p ln p), the most that it can be
(Sellke, Bayarri & Berger 2001, Calibration of p Values for Testing Precise Null Hypotheses); a likelihood ratio is
worth its logarithm. Little evidence gives little weight: every tail is that of as many acts as there were, of shoppers
who differ from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from rerank.behaviour.robot_acts import Acts
from rerank.behaviour.robot_usual import Usual

Array = NDArray[np.float64]


class Signal(StrEnum):
    """The signals, as a report names them."""

    FAST = "acts again sooner after a click than shoppers do"
    EVEN = "clicks at even intervals"
    MUCH = "clicks more of what is shown than shoppers do"
    DEEP = "clicks low positions as much as high ones"
    SWEEP = "clicks one position after the next"
    MANY = "searches much more in one visit than shoppers do"
    AGAIN = "clicks the same products again and again"
    ALIKE = "clicks the same products as another shopper, where others do not"
    COMPANY = "clicks the products that suspects click, more than others"
    NEVER_BUYS = "clicks much and does not buy"


_VARIED = 8
"""Degrees of freedom of the variance of a shopper's pauses: how little shoppers agree in it."""
_RELIEF = 4.0
"""Bans against a robot, of who buys as often for their clicks as shoppers do: fraud that pays hardly pays."""
_STEADY = 5.0
"""Steps after which a shopper's own habit in going from click to click counts as much as the usual one."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What units (visits, or sources) did, an array (n,) each; see `robot_acts.Acts`."""

    clicks: Array
    purchases: Array
    dwells: Array
    dwell_sum: Array
    dwell_ss: Array
    dwell_degrees: Array
    expected: Array
    """Clicks that what was shown would usually get."""
    seen: Array
    """Products that were clicked, of what was shown."""
    flat: Array
    """Log10 of the likelihood ratio of the clicks' positions: all alike, to the usual."""
    steps: Array
    next_steps: Array
    answers: Array


_OF_VISITS = ("clicks", "purchases", "dwells", "dwell_sum", "dwell_ss", "dwell_degrees", "answers")


def sums_by(unit: str, units: pl.DataFrame, acts: Acts, usual: Usual) -> Sums:
    """The sums of each of `units` (a column `unit`: "visit" or "source"), in their order."""
    degrees = pl.max_horizontal(pl.col("dwells").cast(pl.Int64) - 1, pl.lit(0))
    visits = acts.visits.with_columns(dwell_degrees=degrees).group_by(unit).agg(pl.col(_OF_VISITS).sum())
    shown = (
        _priced(acts.shown, usual)
        .group_by(unit)
        .agg(expected=pl.col("_rate").sum(), seen=pl.col("clicked").sum(), flat=pl.col("_flat").sum())
    )
    steps = acts.steps.group_by(unit).agg(steps=pl.len(), next_steps=pl.col("next").sum())
    joined = units.select(unit)
    for part in (visits, shown, steps):
        joined = joined.join(part, on=unit, how="left", maintain_order="left")
    filled = joined.fill_null(0)
    return Sums(**{name: filled[name].to_numpy().astype(float) for name in filled.columns if name != unit})


def _priced(shown: pl.DataFrame, usual: Usual) -> pl.DataFrame:
    priced = shown.with_columns(_rate=pl.Series(usual.rates[shown["position"].to_numpy()]))
    share = pl.col("_rate") / pl.col("_rate").sum().over("answer")
    flat = (1 / pl.len().over("answer") / share).log10()
    return priced.with_columns(_flat=pl.when("clicked").then(flat).otherwise(0.0))


def signals(sums: Sums, usual: Usual) -> dict[Signal, Array]:
    """The signals that sums tell, in bans (n,), at least 0; `NEVER_BUYS` is below 0 for who buys."""
    return {
        Signal.FAST: _fast(sums, usual),
        Signal.EVEN: _even(sums, usual),
        Signal.MUCH: _more(sums.seen, sums.expected, 1 / usual.spread),
        Signal.DEEP: np.maximum(sums.flat, 0),
        Signal.SWEEP: _sweep(sums, usual),
        Signal.NEVER_BUYS: _never_buys(sums, usual),
    }


def bans(tail: Array) -> Array:
    """The evidence in a probability of the tail."""
    p = np.clip(tail, 1e-300, np.exp(-1))
    return np.asarray(-np.log10(-np.e * p * np.log(p)))


def _fast(sums: Sums, usual: Usual) -> Array:
    count = np.maximum(sums.dwells, 1)
    z = (usual.pace - sums.dwell_sum / count) / np.sqrt(usual.pace_between**2 + usual.pace_within**2 / count)
    return np.where(sums.dwells > 0, bans(stats.norm.sf(z)), 0.0)


def _even(sums: Sums, usual: Usual) -> Array:
    degrees = np.maximum(sums.dwell_degrees, 1)
    tail = stats.f.cdf(sums.dwell_ss / degrees / usual.pace_within**2, degrees, _VARIED)
    return np.where(sums.dwell_degrees > 1, bans(tail), 0.0)


def _more(seen: Array, expected: Array, shape: float) -> Array:
    """More than expected, by a negative binomial distribution of this shape."""
    tail = stats.nbinom.sf(seen - 1, shape, shape / (shape + np.maximum(expected, 1e-9)))
    return np.where(seen > 0, bans(tail), 0.0)


def _sweep(sums: Sums, usual: Usual) -> Array:
    share = usual.next_share
    tail = stats.betabinom.sf(sums.next_steps - 1, sums.steps, _STEADY * share, _STEADY * (1 - share))
    return np.where(sums.next_steps > 0, bans(tail), 0.0)


def _never_buys(sums: Sums, usual: Usual) -> Array:
    """Fewer purchases than expected, by a geometric distribution; who buys as shoppers do is hardly a robot."""
    expected = usual.purchases * sums.clicks
    tail = stats.nbinom.cdf(sums.purchases, 1, 1 / (1 + expected))
    relief = _RELIEF * np.minimum(1.0, sums.purchases / np.maximum(expected, 1e-9))
    return np.asarray(bans(tail) - relief)


def many(sums: Sums, usual: Usual) -> Array:
    """Of visits: more searches than usual, by a geometric distribution."""
    return np.where(sums.answers > 1, bans((1 - 1 / usual.answers) ** np.maximum(sums.answers - 1, 0)), 0.0)


def again(units: pl.DataFrame, acts: Acts, usual: Usual) -> Array:
    """Of sources: more clicks on the same products than usual, for so many clicks."""
    times = pl.col("times").cast(pl.Float64)
    sums = acts.clicked.group_by("source").agg(_all=times.sum(), _same=(times - 1).sum())
    joined = units.select("source").join(sums, on="source", how="left", maintain_order="left").fill_null(0.0)
    total, same = joined["_all"].to_numpy(), joined["_same"].to_numpy()
    return _more(same, usual.repeats * total * np.maximum(total - 1, 0) / 2, 1.0)
