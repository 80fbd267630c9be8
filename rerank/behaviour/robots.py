"""Robots and click fraud: a score for each visit, with its reasons, from how unusual what it did is in this log.

Nothing is learned from examples, and no signal decides alone. Signals that say the same kind of thing (how fast, where
and how much, after what, to what end) count once, by the strongest; each kind counts up to a bound; the kinds' weights
of evidence add up to the odds of a robot, from odds against it (Good 1985, Weight of Evidence: A Brief Survey). Visits
are judged alone, and with all others of their shopper. What is usual is learned from the visits that are not suspected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rerank.behaviour.robot_acts import Acts, acts_of
from rerank.behaviour.robot_likeness import company, likeness
from rerank.behaviour.robot_signals import Signal, again, many, signals, sums_by
from rerank.behaviour.robot_usual import Usual, usual

Array = NDArray[np.float64]

TOGETHER = "seen over all visits of this shopper"
"""The last of the reasons, where they are the shopper's and not this visit's alone."""

_KINDS: Mapping[str, tuple[Signal, ...]] = {
    "pace": (Signal.FAST, Signal.EVEN),
    "place": (Signal.MUCH, Signal.DEEP, Signal.SWEEP, Signal.MANY),
    "aim": (Signal.AGAIN, Signal.ALIKE, Signal.COMPANY),
    "end": (Signal.NEVER_BUYS,),
}
_PASSES = 3
_WORTH_SAYING = 0.5


@dataclass(frozen=True, slots=True)
class RobotOptions:
    """How much it takes to call a visit a robot's, in bans (powers of ten)."""

    against: float = 5.0
    """The odds against a robot, before anything is known. More than one kind of signal is needed to overcome them."""
    bound: float = 4.0
    """What one kind of signal can count at most."""
    threshold: float = 0.5
    """The score from which on a visit is fraud."""


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """Evidence of units in bans: in all (n,), and by signal (n,) each."""

    total: Array
    by_signal: Mapping[Signal, Array]


def score_visits(events: pl.DataFrame, options: RobotOptions | None = None) -> pl.DataFrame:
    """Scores the visits of a table of `CLEAN_SCHEMA`, ordered by visit and time; visit numbers are unique in it.

    Gives one row a visit, ordered by visit: visit, shopper, session (both empty where not known), first (time), events,
    clicks (UInt32), score (Float32, 0 to 1), reasons (List[String]: `Signal` texts, strongest first), is_fraud.
    """
    options = options or RobotOptions()
    case = _case(acts_of(events))
    suspects = pl.Series("visit", [], dtype=pl.UInt32)
    for _ in range(_PASSES):
        normal = usual(case.acts, suspects)
        together = _judged(_of_sources(case, normal, suspects), options)
        own = _judged(_of_visits(case, normal, suspects, together), options)
        score = _score(np.maximum(own.total, together.total[case.source]), options)
        suspects = case.acts.visits["visit"].filter(pl.Series(score >= options.threshold))
    return _table(case, score, _reasons(own, together, case.source, score >= options.threshold), options)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """What stays the same over the passes: `source` (visits,) is the row of each visit's source in `sources`."""

    acts: Acts
    sources: pl.DataFrame
    source: NDArray[np.uint32]
    alike: Array


def _case(acts: Acts) -> _Case:
    sources = acts.visits.select("source").unique().sort("source")
    return _Case(acts, sources, acts.visits["source"].to_numpy(), likeness(sources, acts))


def _of_visits(case: _Case, normal: Usual, suspects: pl.Series, together: _Judged) -> dict[Signal, Array]:
    sums = sums_by("visit", case.acts.visits, case.acts, normal)
    near = company("visit", case.acts.visits, case.acts, normal, suspects)
    found = {**signals(sums, normal), Signal.MANY: many(sums, normal), Signal.COMPANY: near}
    # Who buys on other visits is trusted on this one.
    bought = together.by_signal[Signal.NEVER_BUYS][case.source]
    return {**found, Signal.NEVER_BUYS: np.minimum(found[Signal.NEVER_BUYS], bought)}


def _of_sources(case: _Case, normal: Usual, suspects: pl.Series) -> dict[Signal, Array]:
    sums = sums_by("source", case.sources, case.acts, normal)
    near = company("source", case.sources, case.acts, normal, suspects)
    repeated = again(case.sources, case.acts, normal)
    return {**signals(sums, normal), Signal.AGAIN: repeated, Signal.ALIKE: case.alike, Signal.COMPANY: near}


def _judged(by_signal: Mapping[Signal, Array], options: RobotOptions) -> _Judged:
    total = np.zeros(1)
    for kind in _KINDS.values():
        weights = [by_signal[signal] for signal in kind if signal in by_signal]
        if weights:
            total = total + np.minimum(np.max(weights, axis=0), options.bound)
    return _Judged(total, by_signal)


def _score(total: Array, options: RobotOptions) -> Array:
    return np.asarray(1 / (1 + 10 ** (options.against - total)))


def _reasons(own: _Judged, together: _Judged, at: NDArray[np.uint32], flagged: NDArray[np.bool_]) -> list[list[str]]:
    """The signals of the judgment that weighs more; empty for who is not suspected."""
    found: list[list[str]] = []
    for visit, (source, is_flagged) in enumerate(zip(at.tolist(), flagged.tolist(), strict=True)):
        if not is_flagged:
            found.append([])
        elif own.total[visit] >= together.total[source]:
            found.append(list(_worth_saying(own, visit)))
        else:
            found.append([*_worth_saying(together, source), TOGETHER])
    return found


def _worth_saying(judged: _Judged, unit: int) -> Iterable[str]:
    weights = {signal: float(values[unit]) for signal, values in judged.by_signal.items()}
    ordered = sorted(weights, key=lambda signal: -weights[signal])
    return [signal.value for signal in ordered if weights[signal] >= _WORTH_SAYING]


def _table(case: _Case, score: Array, reasons: list[list[str]], options: RobotOptions) -> pl.DataFrame:
    told = case.acts.visits.select("visit", "shopper", "session", "first", pl.col("events", "clicks").cast(pl.UInt32))
    return told.with_columns(
        score=pl.Series(score, dtype=pl.Float32),
        reasons=pl.Series(reasons, dtype=pl.List(pl.String)),
        is_fraud=pl.Series(score >= options.threshold),
    )
