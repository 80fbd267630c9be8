"""What a training found, taken from what it worked with."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rerank.training.click_evidence import ClickEvidence
from service.learning.report import Curve, Findings, Gain, Position
from service.training.click_material import ClickTraining


def findings(done: ClickTraining) -> Findings:
    """The values of a report; nothing of the training is kept."""
    made, report = done.material, done.added.ranker.report
    return Findings(
        lists=made.evidence.log.size,
        queries=len(made.clicks.usable),
        judging_lists=made.held_out.log.size,
        left_out=made.clicks.left_out.counts(),
        borrowed=made.evidence.borrowed,
        models=made.foretold,
        positions=_positions(made.evidence),
        curves=tuple(Curve(way, tuple(each.curve), each.mixing.ndcg) for way, each in done.taught.items()),
        orders=report.orders,
        above_naive=_gain(report.measures),
        comparisons=report.verdict.comparisons if report.verdict else (),
    )


def _positions(evidence: ClickEvidence) -> tuple[Position, ...]:
    """Those that anything was shown at."""
    shown, clicks = evidence.log.shown.sum(axis=0), evidence.acts[..., 0].sum(axis=0)
    return tuple(
        Position(at + 1, int(shown[at]), int(clicks[at]), _known(float(evidence.examination[at])))
        for at in np.flatnonzero(shown).tolist()
    )


def _gain(measures: Mapping[str, float]) -> Gain | None:
    named = ("above naive", "above naive, at least", "above naive, at most")
    return Gain(*(measures[name] for name in named)) if all(name in measures for name in named) else None


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
