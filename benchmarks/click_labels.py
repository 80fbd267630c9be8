"""Labels from simulated clicks against the grades that the shoppers went by, at several strengths of position bias."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.stats import kendalltau

from benchmarks.tables import plain_table
from rerank.clicks.arrays import Floats, Ints
from rerank.clicks.click_log import ClickLog
from rerank.clicks.model import DEFAULTS
from rerank.clicks.models import BASELINES, MODELS
from rerank.clicks.rank_prior import rank_prior
from rerank.clicks.shoppers import PositionShopper, falling_examination
from rerank.clicks.simulated_store import SimulatedStore, graded_store
from rerank.clicks.simulator import USUAL, Conditions, simulate
from service.terminal import out

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One strength of bias. Kendall's tau-b with the grades, in the mean over queries and seeds."""

    strength: float
    """Position p is examined with probability 1 / p^strength."""
    debiased: float
    """The attractiveness that `click_labels` gives, from clicks alone."""
    naive: float
    """Clicks by impressions."""
    smoothed: float
    """The same with the prior that the debiased labels have: what the prior alone is worth."""
    ranking: float
    """The order in which the store showed the products."""
    gain: float
    """Debiased less naive."""
    low: float
    """Of the gain's 95% interval, by bootstrap over queries."""
    high: float


@dataclass(frozen=True, slots=True)
class ClickLabelsReport:
    """All strengths, over the same queries."""

    model: str
    queries: int
    sessions: int
    seeds: int
    strengths: tuple[LabelFigures, ...]


def measure_click_labels(
    grades: Mapping[str, Mapping[str, float]],
    sessions: int = 300_000,
    seeds: Sequence[int] = (0, 1, 2),
    model: str = "ubm",
    conditions: Conditions = USUAL,
    done: Callable[[], None] = lambda: None,
) -> ClickLabelsReport:
    """Simulates shoppers from judgments (query to product to grade); `done` is called after each log.

    Every query with two grades or more counts, with all its products that were shown at least once, however seldom.
    """
    told = {query: judged for query, judged in grades.items() if len(set(judged.values())) > 1}
    measured = []
    for strength in STRENGTHS:
        taus = []
        for seed in seeds:
            store, pairs = graded_store(told, seed=seed)
            taus.append(_taus(store, pairs, strength, sessions, model, conditions, seed))
            done()
        # A query counts once, by its mean over the seeds: those are no queries of their own.
        measured.append(_figures(strength, np.nanmean(np.stack(taus), axis=0)))
    return ClickLabelsReport(model, len(told), sessions, len(seeds), tuple(measured))


def _taus(
    store: SimulatedStore,
    pairs: pl.DataFrame,
    strength: float,
    sessions: int,
    model: str,
    conditions: Conditions,
    seed: int,
) -> Floats:
    """(4, queries): debiased, naive, smoothed, ranking."""
    shopper = PositionShopper(falling_examination(strength, conditions.depth))
    log = simulate(store, shopper, sessions, conditions, seed).log
    query = pairs["query"].rle_id().to_numpy().astype(np.int32)
    debiased = _fitted_twice(log, model, query)
    plain = BASELINES["ctr"].fit(log).estimates
    naive = plain.clicks / np.maximum(plain.impressions, 1.0)
    scores = np.stack([debiased, naive, _fitted_twice(log, "ctr", query), -_mean_position(log)])
    return taus_by_query(scores, pairs["grade"].to_numpy(), query, plain.impressions > 0)


def _fitted_twice(log: ClickLog, name: str, query: Ints) -> Floats:
    model = {**MODELS, **BASELINES}[name]
    prior = rank_prior(log, model.fit(log), query)
    return model.fit(log, replace(DEFAULTS, prior=prior)).estimates.attractiveness


def _mean_position(log: ClickLog) -> Floats:
    shown = log.shown
    places = np.broadcast_to(np.arange(1.0, log.depth + 1), shown.shape)[shown]
    total = np.bincount(log.pairs[shown], places, log.count)
    return np.asarray(total / np.maximum(np.bincount(log.pairs[shown], minlength=log.count), 1))


def taus_by_query(
    scores: Floats, grades: Floats, query: Ints, seen: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Floats:
    """(kinds, queries): Kendall's tau-b of each row of `scores` (kinds, pairs) with `grades` (pairs,), over what was
    seen; pairs are ordered by query.

    NaN where what was seen has one grade. Scores that are all the same order nothing: 0.
    """
    starts = np.flatnonzero(np.diff(query, prepend=-1, append=query.max() + 1))
    taus = np.full((len(scores), len(starts) - 1), np.nan)
    for number, (begin, end) in enumerate(itertools.pairwise(starts)):
        chosen = np.arange(begin, end)[seen[begin:end]]
        if len(np.unique(grades[chosen])) < 2:
            continue
        for kind, each in enumerate(scores):
            taus[kind, number] = np.nan_to_num(kendalltau(each[chosen], grades[chosen]).statistic)
    return taus


def _figures(strength: float, taus: Floats) -> LabelFigures:
    taus = taus[:, ~np.isnan(taus).any(axis=0)]
    gain = taus[0] - taus[1]
    random = np.random.default_rng(0)
    resampled = [gain[random.integers(0, len(gain), len(gain))].mean() for _ in range(_RESAMPLES)]
    debiased, naive, smoothed, ranking = taus.mean(axis=1).tolist()
    low, high = np.percentile(resampled, (2.5, 97.5)).tolist()
    return LabelFigures(strength, debiased, naive, smoothed, ranking, float(gain.mean()), low, high)


def show_click_labels(report: ClickLabelsReport) -> None:
    """Taus by strength of bias."""
    title = (
        f"Kendall's tau-b with the grades: {report.queries:,} queries, {report.sessions:,} sessions, "
        f"{report.seeds} seeds, labels of {report.model}"
    )
    columns = ["bias", "debiased", "CTR", "CTR with prior", "ranking", "gain on CTR", "from", "to"]
    table = plain_table(columns, title)
    for each in report.strengths:
        taus = (f"{tau:.4f}" for tau in (each.debiased, each.naive, each.smoothed, each.ranking))
        table.add_row(f"{each.strength}", *taus, f"{each.gain:+.4f}", f"{each.low:+.4f}", f"{each.high:+.4f}")
    out.print(table)
