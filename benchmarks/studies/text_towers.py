"""Evaluation of trained text towers on held-out judged queries, over the whole catalog encoded anew."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.quality import Run, measure, ndcg
from benchmarks.studies import run_study
from benchmarks.studies.rankers import part_of
from benchmarks.tables import difference_cells, figure_table
from rerank.evaluation.statistics import Difference, paired_bootstrap
from retrieval.encoders.base import Encoder
from retrieval.encoders.registry import open_encoder, parse_runtime
from retrieval.index.faiss import build_index
from retrieval.index.vectors import create_vectors
from retrieval.judgments import HEADER, Judgments, read_judgments
from retrieval.progress import Progress
from retrieval.store.products import encoder_text
from service.cli.options import Index, JudgmentsFile, SettingsFile, TowerTrainingOptions, command
from service.cli.output import TerminalProgress, emit, say, show_table
from service.engine.snapshot import Snapshot, serving_snapshot
from service.settings import Settings, cache_folder, load_settings
from service.training.ranker_dataset import best_products
from service.training.text_towers import TextTowersRequest, TextTowersResult, train_text_towers

DEPTH = 100
STAGES = ("dense", "merged")
_CHUNK = 4_096


@dataclass(frozen=True, slots=True)
class StageQuality:
    """What one stage reaches on held-out queries."""

    ndcg: float
    """nDCG@10; what nobody judged counts 0."""
    recall: float
    """recall@100 of what has its query's top grade."""
    against: Difference | None
    """nDCG@10 less that of another run, paired by query; None where there is none."""


def written(judgments: Judgments, queries: Sequence[str], folder: Path) -> Path:
    """A judgments file of these queries, in a folder."""
    lines = ["\t".join(HEADER)]
    lines += [
        f"{query}\t{product}\t{grade!r}" for query in queries for product, grade in judgments.grades[query].items()
    ]
    path = folder / "judgments.tsv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def held_out(judgments: Judgments, *, everything: bool = False) -> Judgments:
    """The fifth of the queries that nothing trains on or chooses by, or all of them."""
    queries = list(judgments.grades)
    kept = queries if everything else part_of(queries, "test")
    return Judgments({query: judgments.grades[query] for query in kept}, judgments.lowest)


def encoded(snapshot: Snapshot, encoder: Encoder, folder: Path, progress: Progress) -> Snapshot:
    """The same version with vectors of another encoder, which are written to a new folder."""
    size = len(snapshot.products)
    progress.begin("encoding", size, "products")
    vectors = create_vectors(folder, size, encoder.dimension)
    for start in range(0, size, _CHUNK):
        rows = range(start, min(start + _CHUNK, size))
        texts = [encoder_text(snapshot.products[row]) for row in rows]
        vectors[start : rows.stop] = encoder.encode_products(texts, progress.advance)
    progress.end(f"{size:,} products by {encoder.identity}")
    build_index(folder)
    return snapshot.encoded_by(encoder, folder)


def found_by(snapshot: Snapshot, judged: Judgments, stage: str, name: str, progress: Progress) -> Run:
    """The best of a stage over the whole catalog; `name` is that of the phase."""
    progress.begin(name, len(judged.grades), "queries")
    run = best_products(snapshot, list(judged.grades), stage, DEPTH, progress.advance)
    progress.end(f"nDCG@10 {measure(run, judged)['nDCG@10']:.4f}")
    return run


def measure_stage(run: Run, judged: Judgments, before: Run | None = None) -> StageQuality:
    """How good a run is, and how much better than the one before."""
    found = measure(run, judged)
    against = None if before is None else paired_bootstrap(_by_query(run, judged), _by_query(before, judged))
    return StageQuality(found["nDCG@10"], found["R@100"], against)


def _by_query(run: Run, judged: Judgments) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([ndcg(run[query], grades, judged) for query, grades in judged.grades.items()])


# What training the towers on judged queries gives on others, over the whole catalog: dense and merged, before and
# after.
#
# Queries are divided by the SHA-1 of their text, 80 to 20: the 20 are seen by nothing that trains or chooses; where the
# towers learn from the catalog alone, all queries measure. The version that serves is what stands before; after, its
# products are encoded anew, and all else is as it was.

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
    quality: StageQuality
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
    request: TextTowersRequest,
    runtimes: Sequence[str],
    progress: Progress,
) -> TowersReport:
    """Trains on four fifths of the queries and measures on the others; `request` says how, but not on what,
    unless that is the catalog: then all judged queries measure.

    Raises SettingError for a runtime that does not exist, before the training, and what that raises."""
    for runtime in runtimes:
        parse_runtime(runtime)
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
            figures = list(
                _tower_figures(snapshot, _variants(done, request, runtimes), test, request.cache, folder, progress)
            )
            products = len(snapshot.products)
    trained = done.spec.trained_on["training queries"] + done.spec.trained_on["validation queries"]
    return TowersReport(products, trained, len(test.grades), str(done.folder), seconds, figures)


@dataclass(frozen=True, slots=True)
class _EncoderVariant:
    """One of the variants in which what was trained may serve."""

    name: str
    towers: Path
    runtime: str
    columns: int | None = None
    """None for all of them."""


def _variants(done: TextTowersResult, request: TextTowersRequest, runtimes: Sequence[str]) -> list[_EncoderVariant]:
    """In each runtime all of it, the first columns that do alone, and the layers that were kept."""
    columns = (None, *request.options.loss.dimensions)
    variants = [
        _EncoderVariant(runtime, done.whole or done.folder, runtime, each) for runtime in runtimes for each in columns
    ]
    if done.whole is not None:
        variants += [
            _EncoderVariant(f"{runtime}, layers: {done.spec.layers}", done.folder, runtime) for runtime in runtimes
        ]
    return variants


def _tower_figures(
    snapshot: Snapshot,
    variants: Sequence[_EncoderVariant],
    test: Judgments,
    cache: Path,
    folder: Path,
    progress: Progress,
) -> Iterator[TowerFigures]:
    query_ms, columns = _query_ms(snapshot.encoder, test), snapshot.encoder.dimension
    before = {stage: found_by(snapshot, test, stage, f"before, {stage}", progress) for stage in STAGES}
    for stage, run in before.items():
        yield TowerFigures("before", columns, query_ms, stage, measure_stage(run, test))
    for number, variant in enumerate(variants):
        encoder = open_encoder(str(variant.towers), variant.runtime, cache, dimension=variant.columns)
        after = encoded(snapshot, encoder, folder / f"vectors-{number}", progress)
        query_ms, columns = _query_ms(encoder, test), encoder.dimension
        for stage in STAGES:
            run = found_by(after, test, stage, f"{variant.name}, {columns} columns, {stage}", progress)
            yield TowerFigures(variant.name, columns, query_ms, stage, measure_stage(run, test, before[stage]))


def _query_ms(encoder: Encoder, test: Judgments) -> float:
    """Of one query at a time, as when a shopper waits."""
    queries = list(test.grades)[:_TIMED]
    encoder.encode_queries(queries[:_WARMING])
    query_ms = []
    for query in queries:
        started = time.perf_counter()
        encoder.encode_queries([query])
        query_ms.append(time.perf_counter() - started)
    return 1_000 * float(np.median(query_ms))


def show_towers(report: TowersReport) -> None:
    """nDCG@10, recall@100 and a query's time by encoder and stage."""
    title = (
        f"{report.test_queries:,} held-out queries over {report.products:,} products; trained on "
        f"{report.training_queries:,} others in {report.training_seconds / 60:.1f} minutes"
    )
    columns = ["", "columns", "ms a query", "stage", "nDCG@10", "recall@100", "against before", "from", "to"]
    table = figure_table(columns, title)
    for each in report.figures:
        found = each.quality
        made = [each.encoder, f"{each.dimension}", f"{each.query_ms:.2f}", each.stage]
        table.add_row(*made, f"{found.ndcg:.4f}", f"{found.recall:.4f}", *difference_cells(found.against))
    show_table(table)
    say(f"The towers are in {report.folder}")


@command("text_towers store judgments.tsv --runtime onnx-int8,onnx-fp32")
def towers(
    index: Index,
    judgments: JudgmentsFile,
    how: TowerTrainingOptions,
    runtimes: Annotated[
        str, typer.Option("--runtime", help="Of what was trained; several are separated by commas.")
    ] = "auto",
    settings: SettingsFile = None,
) -> None:
    """Train the encoder on four fifths of the judged queries, and measure it on the others over the whole catalog.

    The index stays as it is; the trained towers stay where they were written.
    """
    request = TextTowersRequest(
        catalog=how.from_catalog,
        synthetic=how.synthetic,
        encoder=how.encoder,
        teacher=how.teacher,
        out=how.out,
        cache=cache_folder(),
        options=how.options(),
        tune=how.tune,
    )
    names = [each.strip() for each in runtimes.split(",")]
    with TerminalProgress() as progress:
        report = measure_towers(index, load_settings(settings), read_judgments(judgments), request, names, progress)
    emit(report, show_towers)


if __name__ == "__main__":
    run_study(towers)
