"""What training the towers on judged queries gives on others, over the whole catalog: dense and merged, before and
after.

Queries are divided by the SHA-1 of their text, 80 to 20: the 20 are seen by nothing that trains or chooses; where the
towers learn from the catalog alone, all queries measure. The version that serves is what stands before; after, its
products are encoded anew, and all else is as it was.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.tables import difference_cells, plain_table
from benchmarks.tower_measures import STAGES, Measured, encoded, found_by, held_out, measured, written
from retrieval.encoder import Encoder
from retrieval.encoders import named_runtime, open_encoder
from retrieval.judgments import Judgments
from service.settings import Settings
from service.snapshot import Snapshot, serving_snapshot
from service.terminal import out
from service.training.from_catalog import Progress
from service.training.towers import TowersRequest, WrittenTowers, train_text_towers

_TIMED, _WARMING = 300, 20
"""Queries whose vectors are timed, and those before them."""


@dataclass(frozen=True, slots=True)
class TowerFigures:
    """What one stage reaches with one encoder."""

    encoder: str
    """before, or the runtime that the trained towers ran in, and how many layers they had where not all."""
    dimension: int
    """Columns of its vectors."""
    query_ms: float
    """The median query's vector, in the calling thread."""
    stage: str
    measured: Measured
    """Against the same stage before."""


@dataclass(frozen=True, slots=True)
class TowersReport:
    """All of them, over the same queries."""

    products: int
    training_queries: int
    test_queries: int
    folder: str
    training_seconds: float
    figures: Sequence[TowerFigures]


def measure_towers(
    index: Path,
    settings: Settings,
    judgments: Judgments,
    request: TowersRequest,
    runtimes: Sequence[str],
    progress: Progress,
) -> TowersReport:
    """Trains on four fifths of the queries and measures on the others; `request` says how, but not on what,
    unless that is the catalog: then all judged queries measure.

    Raises SettingError for a runtime that does not exist, before the training, and what that raises."""
    for runtime in runtimes:
        named_runtime(runtime)
    test = held_out(judgments, everything=bool(request.catalog))
    training = [query for query in judgments.grades if query not in test.grades]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = [written(judgments, training, folder)] if training else []
        request = replace(request, judgments=files, held_out=list(test.grades))
        started = time.perf_counter()
        done = train_text_towers(index, settings, request, progress)
        seconds = time.perf_counter() - started
        with serving_snapshot(index, settings) as snapshot:
            figures = list(_figures(snapshot, _ways(done, request, runtimes), test, request.cache, folder, progress))
            products = len(snapshot.products)
    trained = done.spec.trained_on["training queries"] + done.spec.trained_on["validation queries"]
    return TowersReport(products, trained, len(test.grades), str(done.folder), seconds, figures)


@dataclass(frozen=True, slots=True)
class _Way:
    """One of the ways in which what was trained may serve."""

    name: str
    towers: Path
    runtime: str
    columns: int | None = None
    """None for all of them."""


def _ways(done: WrittenTowers, request: TowersRequest, runtimes: Sequence[str]) -> list[_Way]:
    """In each runtime all of it, the first columns that do alone, and the layers that were kept."""
    columns = (None, *request.options.loss.dimensions)
    ways = [_Way(runtime, done.whole or done.folder, runtime, each) for runtime in runtimes for each in columns]
    if done.whole is not None:
        ways += [_Way(f"{runtime}, layers: {done.spec.layers}", done.folder, runtime) for runtime in runtimes]
    return ways


def _figures(
    snapshot: Snapshot, ways: Sequence[_Way], test: Judgments, cache: Path, folder: Path, progress: Progress
) -> Iterator[TowerFigures]:
    taken, columns = _query_ms(snapshot.encoder, test), snapshot.encoder.dimension
    before = {stage: found_by(snapshot, test, stage, f"before, {stage}", progress) for stage in STAGES}
    for stage, run in before.items():
        yield TowerFigures("before", columns, taken, stage, measured(run, test))
    for number, way in enumerate(ways):
        encoder = open_encoder(str(way.towers), way.runtime, cache, dimension=way.columns)
        after = encoded(snapshot, encoder, folder / f"vectors-{number}", progress)
        taken, columns = _query_ms(encoder, test), encoder.dimension
        for stage in STAGES:
            run = found_by(after, test, stage, f"{way.name}, {columns} columns, {stage}", progress)
            yield TowerFigures(way.name, columns, taken, stage, measured(run, test, before[stage]))


def _query_ms(encoder: Encoder, test: Judgments) -> float:
    """Of one query at a time, as when a shopper waits."""
    queries = list(test.grades)[:_TIMED]
    encoder.encode_queries(queries[:_WARMING])
    taken = []
    for query in queries:
        started = time.perf_counter()
        encoder.encode_queries([query])
        taken.append(time.perf_counter() - started)
    return 1_000 * float(np.median(taken))


def show_towers(report: TowersReport) -> None:
    """nDCG@10, recall@100 and a query's time by encoder and stage."""
    title = (
        f"{report.test_queries:,} held-out queries over {report.products:,} products; trained on "
        f"{report.training_queries:,} others in {report.training_seconds / 60:.1f} minutes"
    )
    columns = ["", "columns", "ms a query", "stage", "nDCG@10", "recall@100", "against before", "from", "to"]
    table = plain_table(columns, title)
    for each in report.figures:
        found = each.measured
        made = [each.encoder, f"{each.dimension}", f"{each.query_ms:.2f}", each.stage]
        table.add_row(*made, f"{found.ndcg:.4f}", f"{found.recall:.4f}", *difference_cells(found.against))
    out.print(table)
    out.print(f"The towers are in {report.folder}", markup=False, highlight=False, soft_wrap=True)
