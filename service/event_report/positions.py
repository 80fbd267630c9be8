"""Click rates by position: as they are, how often each position is looked at, and what is left without that.

A click needs a look (Craswell et al. 2008, An Experimental Comparison of Click Position-Bias Models), and the
position-based model tells the two apart. A click rate divided by the examination of its position is that of products
that were looked at: where it falls, worse products stand lower; that fewer people look is no longer in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from rerank.clicks.answer_words import words_of_answers
from rerank.clicks.arrays import Floats
from rerank.clicks.click_log import ClickLog, click_log
from rerank.clicks.model import FitOptions
from rerank.clicks.pbm import PositionBased
from rerank.clicks.ubm import UserBrowsing
from service.event_report.intervals import Estimate, Z, wilson

_ROUGHLY = FitOptions(iterations=200, tolerance=1e-4)
"""For resamples, of which only the spread counts."""


@dataclass(frozen=True, slots=True)
class PositionOptions:
    """What is told of positions, and from how much."""

    depth: int = 20
    """The last position."""
    least_impressions: int = 100
    """Positions that were shown less often are left out."""
    most_answers: int = 25_000
    """The latest answers to searches that models are fitted to."""
    resamples: int = 30
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One position, from 1."""

    position: int
    impressions: int
    clicks: int
    """Impressions that were clicked."""
    ctr: Estimate
    """Clicks by impressions, with the Wilson interval."""
    examination: Estimate
    """How often it is looked at, by the position-based model; the first position always is, which sets the scale."""
    debiased: Estimate
    """The click rate of what is looked at: `ctr` by `examination`."""
    browsing_examination: float
    """How often it is looked at by the user browsing model, to compare."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Of answers to searches, without flagged visits.

    The intervals of what models tell are normal on the logarithm, from the spread over Poisson bootstrap resamples of
    the answers (Chamandy et al. 2012, Estimating Uncertainty for Massive Data Streams).
    """

    answers: int
    """The latest ones, that all of this is about."""
    least_impressions: int
    rows: tuple[PositionRow, ...]


def positions(events: pl.DataFrame, options: PositionOptions = PositionOptions()) -> Positions:
    """Fits the models to the answers in a table of cleaned events; without any position that was shown often enough,
    there are no rows."""
    log, _ = click_log(_latest_searches(events, options.most_answers), options.depth)
    impressions, clicks = log.shown.sum(axis=0), log.clicks.sum(axis=0)
    told = [at for at in range(log.depth) if impressions[at] >= max(1, options.least_impressions)]
    if not told:
        return Positions(log.size, options.least_impressions, ())
    counts = pl.DataFrame({"clicks": clicks, "impressions": impressions})
    lower, upper = wilson(pl.col("clicks"), pl.col("impressions"))
    bounds = counts.select(lower=lower, upper=upper).rows()
    position_based, browsing = PositionBased.fit(log).examination, UserBrowsing.fit(log).examination
    spread_examination, spread_rate = _spreads(log, options)
    rows = []
    for at in told:
        rate = float(clicks[at] / impressions[at])
        looked = _estimate(float(position_based[at]), spread_examination[at])
        debiased = _estimate(rate / float(position_based[at]), spread_rate[at])
        counted = (at + 1, int(impressions[at]), int(clicks[at]))
        rows.append(PositionRow(*counted, Estimate(rate, *bounds[at]), looked, debiased, float(browsing[at])))
    return Positions(log.size, options.least_impressions, tuple(rows))


def _latest_searches(events: pl.DataFrame, most: int) -> pl.DataFrame:
    """The events of the latest answers to queries."""
    impressions = events.filter(pl.col("kind") == "impression")
    searched = impressions.join(words_of_answers(events), on="query_id", how="semi")
    starts = searched.group_by("query_id").agg(start=pl.col("time").min()).sort("start", "query_id")
    return events.join(starts.tail(most), on="query_id", how="semi")


def _spreads(log: ClickLog, options: PositionOptions) -> tuple[Floats, Floats]:
    """(depth,) each: standard deviations of the logarithm of examination, and of the click rate by it; not finite
    where a resample has no click."""
    draw = np.random.default_rng(options.seed)
    found = np.empty((options.resamples, 2, log.depth))
    for resample in found:
        weights = draw.poisson(1.0, log.size).astype(np.float32)
        examination = PositionBased.fit(ClickLog(log.pairs, log.clicks, log.count, weights), _ROUGHLY).examination
        rate = (weights @ log.clicks) / np.maximum(weights @ log.shown, 1.0)
        resample[:] = examination, rate / examination
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log(found).std(axis=0, ddof=1)
    return spread[0], spread[1]


def _estimate(share: float, spread: float) -> Estimate:
    share = min(share, 1.0)
    if not math.isfinite(spread):
        return Estimate(share)
    factor = math.exp(Z * float(spread))
    return Estimate(share, share / factor, min(share * factor, 1.0))
