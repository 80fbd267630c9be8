"""How well rankers foretell the clicks of real sessions that nothing was trained on, beside the order that was logged
and the merged one.

Lists are drawn, not divided by time: such logs often have none. All orders are told by the same interpolated click
likelihood (`rerank.gate.likelihood`), each by its own calibration on the lists that chose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.ranker_shapes import LAYERS, seed_spread, shape_without_history
from benchmarks.tables import difference_cells, plain_table
from rerank.clicks.click_log import click_log
from rerank.gate.bootstrap import Difference, paired_bootstrap
from rerank.gate.likelihood import ClickLikelihood
from rerank.training.click_batches import ClickData
from rerank.training.click_evidence import ClickEvidence, learned, queries_with_clicks
from rerank.training.click_lists import click_lists
from rerank.training.click_periods import by_list
from rerank.training.click_training import ClickOptions, Validation, Way, train_on_clicks
from rerank.training.loop import LoopOptions
from rerank.training.mixing import best_mixing
from rerank.training.propensity import propensities
from rerank.training.starting import new_network
from service.snapshot import Snapshot
from service.terminal import out
from service.training.candidate_lists import candidate_lists
from service.training.click_gate import merged_order, scored_by
from service.training.click_trials import Trial, TrialOptions, trial
from service.training.from_catalog import Progress, list_data

LOGGED, MERGED = "logged order", "merged order"
WAYS: tuple[Way, ...] = ("debiased", "naive")
LEAST_QUERIES = 2
REPEATS = 8
"""How often an epoch reads each list: of a few queries that are asked again and again, once is hardly a step."""
_TRAINING = ClickOptions(loop=LoopOptions(epochs=20, learning_rate=1e-3, warm_up=20, patience=5))
"""Of networks that begin from nothing."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What to train on, and how."""

    seeds: int = 3
    depth: int = 300
    """Candidates of each query: real logs list what our first stage has far behind."""
    candidates: int = 100
    """Of each query that are trained on: all that were shown, and some that were not."""
    training: ClickOptions = field(default_factory=lambda: _TRAINING)


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What one order foretells."""

    likelihood: float
    """The mean logarithm of the probability of a list's clicks; nearer 0 is better."""
    spread: float
    """Standard deviation over the seeds; 0 for what has none."""
    against_logged: Difference
    against_merged: Difference


@dataclass(frozen=True, slots=True)
class SessionsReport:
    """All orders on the same lists."""

    queries: int
    lists: int
    """Held out."""
    trained_on: int
    known: float
    """The share of what was shown on held-out lists that is among the candidates; the rest counts for no order."""
    orders: Mapping[str, OrderFigures]


@dataclass(frozen=True, slots=True, eq=False)
class _Material:
    data: ClickData
    validating: Trial
    held_out: Trial
    likelihood: ClickLikelihood

    def of(self, scores: NDArray[np.floating], earlier: NDArray[np.floating]) -> NDArray[np.float64]:
        """What scores of the held-out candidates foretell, list by list; `earlier` are of those that chose."""
        calibration = self.likelihood.calibration(self.validating.log, self.validating.shown_scores(earlier))
        return self.likelihood.of(self.held_out.log, self.held_out.shown_scores(scores), calibration)


def measure_sessions(
    snapshot: Snapshot, events: pl.DataFrame, options: SessionOptions, progress: Progress
) -> SessionsReport:
    """Trains every shape with every seed on events of `rerank.behaviour.derived.Derived.lists`, and measures."""
    material, evidence, known = _material(snapshot, events, options, progress)
    held = material.held_out
    logged = replace(material.likelihood, interpolation=1.0)
    reached = {LOGGED: [logged.of(held.log, np.zeros(held.log.pairs.shape), (0.0, 0.0))]}
    reached[MERGED] = [material.of(merged_order(held), merged_order(material.validating))]
    progress.begin("training", options.seeds * len(LAYERS) * len(WAYS), "networks")
    for seed in range(options.seeds):
        for name, layers in LAYERS.items():
            for way in WAYS:
                scores = _trained(material, layers, way, replace(options.training, seed=seed))
                reached.setdefault(f"{name}, {way}", []).append(scores)
                progress.advance(1)
    progress.end(f"{options.seeds} seeds")
    means = {name: np.mean(values, axis=0) for name, values in reached.items()}
    figures = {name: _figures(reached[name], means[name], means[LOGGED], means[MERGED]) for name in reached}
    return SessionsReport(len(held.traffic), held.log.size, evidence.log.size, known, figures)


def _figures(
    values: list[NDArray[np.float64]],
    mean: NDArray[np.float64],
    logged: NDArray[np.float64],
    merged: NDArray[np.float64],
) -> OrderFigures:
    spread = seed_spread(values)
    return OrderFigures(float(mean.mean()), spread, paired_bootstrap(mean, logged), paired_bootstrap(mean, merged))


def _material(
    snapshot: Snapshot, events: pl.DataFrame, options: SessionOptions, progress: Progress
) -> tuple[_Material, ClickEvidence, float]:
    now = snapshot.built
    progress.begin("labels", None, "")
    periods = by_list(events)
    evidence = learned(periods.training)
    queries = queries_with_clicks(evidence, 10_000)
    progress.end(f"{evidence.log.size:,} lists, {len(queries):,} queries with clicks")
    progress.begin("candidates", len(queries), "queries")
    found = candidate_lists(snapshot, queries, now, depth=options.depth, progress=progress.advance)
    row_of = snapshot.products.row_of
    clicks = click_lists(evidence, found, row_of, options.candidates, options.training.seed, least=LEAST_QUERIES)
    progress.end(f"{len(clicks.lists.rows):,} candidates")
    chances = propensities(evidence.examination, options.training.least_propensity)
    validating, held_out = (
        trial(snapshot, part, chances, TrialOptions(now, options.depth))
        for part in (periods.validation, periods.held_out)
    )
    shown = int(click_log(periods.held_out, len(chances))[0].shown.sum())
    repeated = replace(clicks, usable=np.repeat(clicks.usable, REPEATS))
    data = ClickData(repeated, list_data(snapshot, clicks.lists, clicks.gains[:, 0]))
    material = _Material(data, validating, held_out, ClickLikelihood.fit(evidence.log))
    return material, evidence, float(held_out.log.shown.sum()) / max(shown, 1)


def _trained(material: _Material, layers: int, way: Way, options: ClickOptions) -> NDArray[np.float64]:
    """The likelihoods of the held-out lists by a network that was trained on the others."""
    data = material.data.data
    shape = shape_without_history(data.states.dimension, layers)
    start = new_network(shape, data.shown_features(options.draw.dropped, options.seed), options.seed)
    validation = Validation(material.validating.data, material.validating.numbers)
    with tempfile.TemporaryDirectory() as folder:
        network, _ = train_on_clicks(start, material.data, validation, way, options, Path(folder))
    scores = scored_by(network, best_mixing(network, validation))
    return material.of(scores(material.held_out), scores(material.validating))


def show_sessions(report: SessionsReport) -> None:
    """Click likelihood by order."""
    title = (
        f"Click likelihood of {report.lists:,} held-out lists of {report.queries} queries; trained on "
        f"{report.trained_on:,} lists; {report.known:.1%} of what was shown are candidates"
    )
    columns = ["", "a list", "± seeds", "above logged", "from", "to", "above merged", "from", "to"]
    table = plain_table(columns, title)
    for name, each in report.orders.items():
        beside = (each.against_logged, each.against_merged)
        ends = (cell for found in beside for cell in difference_cells(found))
        table.add_row(name, f"{each.likelihood:.4f}", f"{each.spread:.4f}" if each.spread else "", *ends)
    out.print(table)
