"""Click models fitted to sessions simulated under each of them: recovered parameters, time, held-out likelihood."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from benchmarks.studies import run_study
from benchmarks.tables import figure_table
from rerank.click_models.click_log import Floats, held_out
from rerank.click_models.evaluation import compare
from rerank.click_models.models import MODELS
from rerank.click_models.simulation import (
    BrowsingShopper,
    Conditions,
    DependentShopper,
    PositionShopper,
    SatisfiedShopper,
    SimulatedShopper,
    SimulatedStore,
    falling_examination,
    falling_gamma,
    graded_store,
    simulate,
)
from service.cli.options import command
from service.cli.output import TerminalProgress, emit, show_table

# Click models on sessions simulated under each of them: what is recovered of the truth, how fast, and who foretells
# whose clicks best.

DEPTH = 10
PRODUCTS = 15
ENOUGH = 200
"""Impressions from which on a pair's attractiveness is judged."""
SHOPPERS: Mapping[str, SimulatedShopper] = {
    "pbm": PositionShopper(falling_examination(1.0, DEPTH)),
    "dcm": DependentShopper(np.linspace(0.8, 0.4, DEPTH)),
    "sdbn": SatisfiedShopper(),
    "ubm": BrowsingShopper(falling_gamma(0.7, DEPTH)),
}
"""By the model that says how they click."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A model's figures on the last fifth of the sessions."""

    model: str
    log_likelihood: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """A model fitted to sessions that were simulated under it."""

    model: str
    seconds: float
    """To fit all sessions."""
    iterations: int
    pairs: int
    """With at least `ENOUGH` impressions."""
    attractiveness_rmse: float
    """Over those."""
    covered: float
    """The share of those whose 95% interval holds the truth."""
    examination_error: float
    """The largest over the positions."""
    held_out: tuple[HeldOut, ...]
    """Every model and baseline, the best first."""


@dataclass(frozen=True, slots=True)
class ClickModelsReport:
    """All models, on logs of the same store."""

    sessions: int
    queries: int
    models: tuple[ModelFigures, ...]


def measure_click_models(
    sessions: int = 1_000_000,
    queries: int = 1_000,
    seed: int = 0,
    models: Sequence[str] = tuple(MODELS),
    done: Callable[[], None] = lambda: None,
) -> ClickModelsReport:
    """Simulates a log under each model and fits it; `done` is called after each.

    A store of `queries` queries of 15 products with grades 0 to 3, which a fair ranker orders anew twice; one session
    in twenty sees a shuffled list.
    """
    random = np.random.default_rng(seed)
    drawn = random.choice(4, (queries, PRODUCTS), p=(0.4, 0.3, 0.2, 0.1))
    grades = {
        f"q{row}": {f"p{column}": float(grade) for column, grade in enumerate(each)} for row, each in enumerate(drawn)
    }
    store, _ = graded_store(grades, seed=seed)
    measured = []
    for name in models:
        measured.append(_measure(name, store, sessions, seed))
        done()
    return ClickModelsReport(sessions, queries, tuple(measured))


def _measure(name: str, store: SimulatedStore, sessions: int, seed: int) -> ModelFigures:
    simulation = simulate(store, SHOPPERS[name], sessions, Conditions(depth=DEPTH), seed)
    counted: list[int] = []
    started = time.perf_counter()
    model = MODELS[name].fit(simulation.log, progress=lambda iteration, _: counted.append(iteration))
    seconds = time.perf_counter() - started
    enough = model.estimates.impressions >= ENOUGH
    truth = store.attractiveness[enough]
    lower, upper = model.estimates.interval()
    table = compare(*held_out(simulation.log))
    return ModelFigures(
        name,
        seconds,
        len(counted),
        int(enough.sum()),
        _root_mean_square(model.estimates.attractiveness[enough] - truth),
        float(np.mean((lower[enough] <= truth) & (truth <= upper[enough]))),
        float(np.abs(model.examination - simulation.examination).max()),
        tuple(HeldOut(*row) for row in table.select("model", "log_likelihood", "perplexity").rows()),
    )


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def show_click_models(report: ClickModelsReport) -> None:
    """What each model recovers, then each log's held-out figures, the best first."""
    title = f"{report.sessions:,} sessions of {DEPTH} results each, {report.queries:,} queries"
    table = figure_table(["model", "seconds", "iterations", "pairs", "RMSE", "in 95%", "examination"], title)
    for each in report.models:
        figures = (f"{each.attractiveness_rmse:.4f}", f"{each.covered:.1%}", f"{each.examination_error:.4f}")
        table.add_row(each.model, f"{each.seconds:.1f}", f"{each.iterations:,}", f"{each.pairs:,}", *figures)
    show_table(table)
    for each in report.models:
        table = figure_table([f"clicks of {each.model}", "log-likelihood", "perplexity"], "")
        for held in each.held_out:
            table.add_row(held.model, f"{held.log_likelihood:.4f}", f"{held.perplexity:.4f}")
        show_table(table)


@command("click_models --sessions 100000")
def click_models(
    sessions: Annotated[int, typer.Option(help="Sessions of ten results.", min=1_000)] = 1_000_000,
) -> None:
    """Fit each click model to sessions simulated under it: time, planted parameters recovered, held-out likelihood."""
    with TerminalProgress() as progress:
        progress.begin("click models", len(SHOPPERS), "logs")
        report = measure_click_models(sessions, done=lambda: progress.advance(1))
        progress.end(f"{sessions:,} sessions each")
    emit(report, show_click_models)


if __name__ == "__main__":
    run_study(click_models)
