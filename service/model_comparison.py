"""Two rankers' measures side by side."""

from __future__ import annotations

import msgspec

from rerank.ranker.registry import Published


class ComparedMeasure(msgspec.Struct, frozen=True):
    """One measure of two rankers; None where it was not taken."""

    measure: str
    before: float | None
    after: float | None
    difference: float | None
    """After less before."""


class ComparedRankers(msgspec.Struct, frozen=True):
    """What two rankers have and reach."""

    before: str
    after: str
    measures: tuple[ComparedMeasure, ...]
    settings: dict[str, tuple[str, str]]
    """What they differ in, of what running them takes: before and after."""
    same_data: bool
    """Whether both were measured on the same held-out data; else differences tell of the data too."""


_SETTINGS = ("encoder", "state_dimension", "features", "layers", "precision", "mix", "event_weights", "calibration")


def compare_rankers(before: Published, after: Published) -> ComparedRankers:
    """Every measure that either has, in the later one's order first."""
    one, other = before.report.measures, after.report.measures
    measures = tuple(_measure(name, one.get(name), other.get(name)) for name in dict.fromkeys((*other, *one)))
    pairs = {name: (_text(getattr(before.spec, name)), _text(getattr(after.spec, name))) for name in _SETTINGS}
    settings = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    same = before.report.measured_on == after.report.measured_on != ""
    return ComparedRankers(before.name, after.name, measures, settings, same)


def _measure(name: str, before: float | None, after: float | None) -> ComparedMeasure:
    difference = None if before is None or after is None else after - before
    return ComparedMeasure(name, before, after, difference)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
