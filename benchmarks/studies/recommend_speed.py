"""Time of a shopper's vector and of a whole recommendation, by the user tower that serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from benchmarks.studies import run_study
from benchmarks.tables import figure_table
from rerank.ranker.features import MOST_ACTS
from retrieval.errors import SettingError
from retrieval.records import PastAct
from service.cli.options import Index, SettingsFile, command
from service.cli.output import TerminalProgress, emit, show_table
from service.engine.engine import SearchEngine
from service.engine.models import ServedUserTower
from service.engine.recommend import ShopperVectors
from service.settings import load_settings

# How long a shopper's vector takes, and a whole answer, by the tower that serves: with as many acts as it reads.
#
# Histories are drawn from the catalog: what was done does not change how long it takes. One thread asks.

VECTOR, ANSWER = "a shopper's vector", "ten recommendations"
_WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """Milliseconds of one history."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class RecommendSpeed:
    """What of an answer takes how long."""

    products: int
    tower: str
    acts: int
    """Of each history."""
    histories: int
    parts: Mapping[str, Milliseconds]


def measure_recommend_speed(
    engine: SearchEngine, histories: int, seed: int = 1, advance: Callable[[int], None] = lambda _: None
) -> RecommendSpeed:
    """Times the tower that serves. The vector is of what a request brings, the products of its acts looked up; an
    answer begins with it. Raises SettingError where no tower serves."""
    snapshot, served = engine.snapshot, ServedUserTower(engine.root)
    served.reload_if_changed(snapshot)
    tower = served.of(snapshot)
    if tower is None:
        raise SettingError(f"no user tower serves {engine.root}: shelfwise train users {engine.root}")
    drawn = _drawn(engine, histories + _WARM_UP, seed)
    now = time.time()
    ways: Mapping[str, Callable[[Sequence[PastAct]], object]] = {
        VECTOR: lambda acts: ShopperVectors(snapshot, tower, acts, now),
        ANSWER: engine.recommend,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for acts in drawn:
        for name, way in ways.items():
            started = time.perf_counter()
            way(acts)
            spent[name].append(1_000 * (time.perf_counter() - started))
        advance(1)
    parts = {name: Milliseconds(*map(float, np.percentile(each[_WARM_UP:], (50, 99)))) for name, each in spent.items()}
    return RecommendSpeed(len(snapshot.products), tower.name, MOST_ACTS, histories, parts)


def _drawn(engine: SearchEngine, count: int, seed: int) -> list[list[PastAct]]:
    products = engine.snapshot.products
    rows = np.random.default_rng(seed).integers(0, len(products), (count, MOST_ACTS)).tolist()
    return [[PastAct(products.id_of(row)) for row in each] for each in rows]


def show_recommend_speed(report: RecommendSpeed) -> None:
    """Milliseconds by part."""
    title = f"{report.tower}, {report.products:,} products; {report.histories:,} histories of {report.acts} acts"
    table = figure_table(["", "p50 ms", "p99 ms"], title)
    for name, each in report.parts.items():
        table.add_row(name, f"{each.p50:.2f}", f"{each.p99:.2f}")
    show_table(table)


@command("recommend_speed store")
def recommend_speed(
    index: Index,
    histories: Annotated[int, typer.Option(help="How many, of 50 acts each.", min=20, max=100_000)] = 400,
    seed: Annotated[int, typer.Option(help="Another one draws other histories.", min=0)] = 1,
    settings: SettingsFile = None,
) -> None:
    """Time a shopper's vector and a whole recommendation, by the user tower that serves."""
    with (
        SearchEngine.open(index, settings=load_settings(settings), follow=False) as engine,
        TerminalProgress() as progress,
    ):
        progress.begin("timing", None, "histories")
        report = measure_recommend_speed(engine, histories, seed, progress.advance)
        progress.end(f"{report.histories:,} histories")
    emit(report, show_recommend_speed)


if __name__ == "__main__":
    run_study(recommend_speed)
