"""Bots and click fraud: a score for each session, with its reasons, from how unusual what it did is in this log.

Nothing is learned from examples, and no signal decides alone. Signals that say the same kind of thing (how fast, where
and how much, after what, to what end) count once, by the strongest; each kind counts up to a bound; the kinds' weights
of evidence add up to the odds of a bot, from odds against it (Good 1985, Weight of Evidence: A Brief Survey). Sessions
are judged alone, and with all others of their shopper. What is usual is learned from the sessions that are not
suspected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from rerank.sessions.bot_features import (
    BotBaseline,
    SessionFeatures,
    coordinated_accounts,
    fit_baseline,
    session_features,
    suspect_products,
)

# Signals of bots and click fraud: how far what a session, or a source, did is from what is usual.
#
# Each signal is a weight of evidence in bans, powers of ten by which it speaks for a bot (Good 1985, Weight of
# Evidence: A Brief Survey). A probability of the upper tail, p, is worth -log10(-e p ln p), the most that it can be
# (Sellke, Bayarri & Berger 2001, Calibration of p Values for Testing Precise Null Hypotheses); a likelihood ratio is
# worth its logarithm. Little evidence gives little weight: every tail is that of as many acts as there were, of
# shoppers who differ from each other.

Array = NDArray[np.float64]


class Signal(StrEnum):
    """The signals, as a report names them."""

    FAST = "acts again sooner after a click than shoppers do"
    EVEN = "clicks at even intervals"
    MUCH = "clicks more of what is shown than shoppers do"
    DEEP = "clicks low positions as much as high ones"
    SWEEP = "clicks one position after the next"
    MANY = "searches much more in one session than shoppers do"
    AGAIN = "clicks the same products again and again"
    ALIKE = "clicks the same products as another shopper, where others do not"
    COMPANY = "clicks the products that suspects click, more than others"
    NEVER_BUYS = "clicks much and does not buy"


_VARIED = 8
"""Degrees of freedom of the variance of a shopper's pauses: how little shoppers agree in it."""
_RELIEF = 4.0
"""Bans against a bot, of who buys as often for their clicks as shoppers do: fraud that pays hardly pays."""
_STEADY = 5.0
"""Steps after which a shopper's own habit in going from click to click counts as much as the usual one."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What units (sessions, or sources) did, an array (n,) each; see `robot_acts.Acts`."""

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


_OF_SESSIONS = ("clicks", "purchases", "dwells", "dwell_sum", "dwell_ss", "dwell_degrees", "answers")


def sums_by(unit: str, units: pl.DataFrame, acts: SessionFeatures, usual: BotBaseline) -> Sums:
    """The sums of each of `units` (a column `unit`: "session" or "source"), in their order."""
    degrees = pl.max_horizontal(pl.col("dwells").cast(pl.Int64) - 1, pl.lit(0))
    sessions = acts.sessions.with_columns(dwell_degrees=degrees).group_by(unit).agg(pl.col(_OF_SESSIONS).sum())
    shown = (
        _priced(acts.shown, usual)
        .group_by(unit)
        .agg(expected=pl.col("_rate").sum(), seen=pl.col("clicked").sum(), flat=pl.col("_flat").sum())
    )
    steps = acts.steps.group_by(unit).agg(steps=pl.len(), next_steps=pl.col("next").sum())
    joined = units.select(unit)
    for part in (sessions, shown, steps):
        joined = joined.join(part, on=unit, how="left", maintain_order="left")
    filled = joined.fill_null(0)
    return Sums(**{name: filled[name].to_numpy().astype(float) for name in filled.columns if name != unit})


def _priced(shown: pl.DataFrame, usual: BotBaseline) -> pl.DataFrame:
    priced = shown.with_columns(_rate=pl.Series(usual.rates[shown["position"].to_numpy()]))
    share = pl.col("_rate") / pl.col("_rate").sum().over("answer")
    flat = (1 / pl.len().over("answer") / share).log10()
    return priced.with_columns(_flat=pl.when("clicked").then(flat).otherwise(0.0))


def signals(sums: Sums, usual: BotBaseline) -> dict[Signal, Array]:
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


def _fast(sums: Sums, usual: BotBaseline) -> Array:
    count = np.maximum(sums.dwells, 1)
    z = (usual.pace - sums.dwell_sum / count) / np.sqrt(usual.pace_between**2 + usual.pace_within**2 / count)
    return np.where(sums.dwells > 0, bans(stats.norm.sf(z)), 0.0)


def _even(sums: Sums, usual: BotBaseline) -> Array:
    degrees = np.maximum(sums.dwell_degrees, 1)
    tail = stats.f.cdf(sums.dwell_ss / degrees / usual.pace_within**2, degrees, _VARIED)
    return np.where(sums.dwell_degrees > 1, bans(tail), 0.0)


def _more(seen: Array, expected: Array, shape: float) -> Array:
    """More than expected, by a negative binomial distribution of this shape."""
    tail = stats.nbinom.sf(seen - 1, shape, shape / (shape + np.maximum(expected, 1e-9)))
    return np.where(seen > 0, bans(tail), 0.0)


def _sweep(sums: Sums, usual: BotBaseline) -> Array:
    share = usual.next_share
    tail = stats.betabinom.sf(sums.next_steps - 1, sums.steps, _STEADY * share, _STEADY * (1 - share))
    return np.where(sums.next_steps > 0, bans(tail), 0.0)


def _never_buys(sums: Sums, usual: BotBaseline) -> Array:
    """Fewer purchases than expected, by a geometric distribution; who buys as shoppers do is hardly a bot."""
    expected = usual.purchases * sums.clicks
    tail = stats.nbinom.cdf(sums.purchases, 1, 1 / (1 + expected))
    relief = _RELIEF * np.minimum(1.0, sums.purchases / np.maximum(expected, 1e-9))
    return np.asarray(bans(tail) - relief)


def many(sums: Sums, usual: BotBaseline) -> Array:
    """Of sessions: more searches than usual, by a geometric distribution."""
    return np.where(sums.answers > 1, bans((1 - 1 / usual.answers) ** np.maximum(sums.answers - 1, 0)), 0.0)


def again(units: pl.DataFrame, acts: SessionFeatures, usual: BotBaseline) -> Array:
    """Of sources: more clicks on the same products than usual, for so many clicks."""
    times = pl.col("times").cast(pl.Float64)
    sums = acts.clicked.group_by("source").agg(_all=times.sum(), _same=(times - 1).sum())
    joined = units.select("source").join(sums, on="source", how="left", maintain_order="left").fill_null(0.0)
    total, same = joined["_all"].to_numpy(), joined["_same"].to_numpy()
    return _more(same, usual.repeats * total * np.maximum(total - 1, 0) / 2, 1.0)


TOGETHER = "seen over all sessions of this shopper"
"""The last of the reasons, where they are the shopper's and not this session's alone."""

_KINDS: Mapping[str, tuple[Signal, ...]] = {
    "pace": (Signal.FAST, Signal.EVEN),
    "place": (Signal.MUCH, Signal.DEEP, Signal.SWEEP, Signal.MANY),
    "aim": (Signal.AGAIN, Signal.ALIKE, Signal.COMPANY),
    "end": (Signal.NEVER_BUYS,),
}
_PASSES = 3
_WORTH_SAYING = 0.5


@dataclass(frozen=True, slots=True)
class BotOptions:
    """How much it takes to call a session a bot's, in bans (powers of ten)."""

    against: float = 5.0
    """The odds against a bot, before anything is known. More than one kind of signal is needed to overcome them."""
    bound: float = 4.0
    """What one kind of signal can count at most."""
    threshold: float = 0.5
    """The score from which on a session is fraud."""


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """Evidence of units in bans: in all (n,), and by signal (n,) each."""

    total: Array
    by_signal: Mapping[Signal, Array]


def score_sessions(events: pl.DataFrame, options: BotOptions | None = None) -> pl.DataFrame:
    """Scores the sessions of a table of `CLEAN_SCHEMA`, ordered by session and time; session numbers are unique in it.

    Gives one row a session, ordered by session: session, shopper, session (both empty where not known), first (time),
    events, clicks (UInt32), score (Float32, 0 to 1), reasons (List[String]: `Signal` texts, strongest first), is_fraud.
    """
    options = options or BotOptions()
    case = _case(session_features(events))
    suspects = pl.Series("session_number", [], dtype=pl.UInt32)
    for _ in range(_PASSES):
        normal = fit_baseline(case.acts, suspects)
        together = _judged(_of_sources(case, normal, suspects), options)
        own = _judged(_of_sessions(case, normal, suspects, together), options)
        score = _score(np.maximum(own.total, together.total[case.source]), options)
        suspects = case.acts.sessions["session_number"].filter(pl.Series(score >= options.threshold))
    return _table(case, score, _reasons(own, together, case.source, score >= options.threshold), options)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """What stays the same over the passes: `source` (sessions,) is the row of each session's source in `sources`."""

    acts: SessionFeatures
    sources: pl.DataFrame
    source: NDArray[np.uint32]
    alike: Array


def _case(acts: SessionFeatures) -> _Case:
    sources = acts.sessions.select("source").unique().sort("source")
    return _Case(acts, sources, acts.sessions["source"].to_numpy(), coordinated_accounts(sources, acts))


def _of_sessions(case: _Case, normal: BotBaseline, suspects: pl.Series, together: _Judged) -> dict[Signal, Array]:
    sums = sums_by("session_number", case.acts.sessions, case.acts, normal)
    near = suspect_products("session_number", case.acts.sessions, case.acts, normal, suspects)
    found = {**signals(sums, normal), Signal.MANY: many(sums, normal), Signal.COMPANY: near}
    # Who buys on other sessions is trusted on this one.
    bought = together.by_signal[Signal.NEVER_BUYS][case.source]
    return {**found, Signal.NEVER_BUYS: np.minimum(found[Signal.NEVER_BUYS], bought)}


def _of_sources(case: _Case, normal: BotBaseline, suspects: pl.Series) -> dict[Signal, Array]:
    sums = sums_by("source", case.sources, case.acts, normal)
    near = suspect_products("source", case.sources, case.acts, normal, suspects)
    repeated = again(case.sources, case.acts, normal)
    return {**signals(sums, normal), Signal.AGAIN: repeated, Signal.ALIKE: case.alike, Signal.COMPANY: near}


def _judged(by_signal: Mapping[Signal, Array], options: BotOptions) -> _Judged:
    total = np.zeros(1)
    for kind in _KINDS.values():
        weights = [by_signal[signal] for signal in kind if signal in by_signal]
        if weights:
            total = total + np.minimum(np.max(weights, axis=0), options.bound)
    return _Judged(total, by_signal)


def _score(total: Array, options: BotOptions) -> Array:
    return np.asarray(1 / (1 + 10 ** (options.against - total)))


def _reasons(own: _Judged, together: _Judged, at: NDArray[np.uint32], flagged: NDArray[np.bool_]) -> list[list[str]]:
    """The signals of the judgment that weighs more; empty for who is not suspected."""
    found: list[list[str]] = []
    for session_number, (source, is_flagged) in enumerate(zip(at.tolist(), flagged.tolist(), strict=True)):
        if not is_flagged:
            found.append([])
        elif own.total[session_number] >= together.total[source]:
            found.append(list(_worth_saying(own, session_number)))
        else:
            found.append([*_worth_saying(together, source), TOGETHER])
    return found


def _worth_saying(judged: _Judged, unit: int) -> Iterable[str]:
    weights = {signal: float(values[unit]) for signal, values in judged.by_signal.items()}
    ordered = sorted(weights, key=lambda signal: -weights[signal])
    return [signal.value for signal in ordered if weights[signal] >= _WORTH_SAYING]


def _table(case: _Case, score: Array, reasons: list[list[str]], options: BotOptions) -> pl.DataFrame:
    told = case.acts.sessions.select(
        "session_number", "shopper", "session", "first", pl.col("events", "clicks").cast(pl.UInt32)
    )
    return told.with_columns(
        score=pl.Series(score, dtype=pl.Float32),
        reasons=pl.Series(reasons, dtype=pl.List(pl.String)),
        is_fraud=pl.Series(score >= options.threshold),
    )
