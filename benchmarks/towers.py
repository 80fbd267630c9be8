"""What training the towers on judged queries gives on others, over the whole catalog: dense and merged, before and
after.

Queries are divided by the SHA-1 of their text, 80 to 20: the 20 are seen by nothing that trains or chooses; where the
towers learn from the catalog alone, all queries measure. The version that serves is what stands before; after, its
products are encoded anew, and all else is as it was.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.measures import measure, ndcg
from benchmarks.ranker_quality import part_of
from benchmarks.tables import plain_table
from rerank.gate.bootstrap import Difference, paired_bootstrap
from retrieval.encoder import Encoder
from retrieval.encoders import open_encoder
from retrieval.judgments import HEADER, Judgments
from retrieval.product_text import encoder_text
from retrieval.stored_vectors import create_vectors
from retrieval.vectors_faiss import build_index
from service.settings import Settings
from service.snapshot import Snapshot, serving_snapshot
from service.terminal import out
from service.training.from_catalog import Progress
from service.training.held_out_ranking import best_products
from service.training.towers import TowersRequest, WrittenTowers, train_text_towers

DEPTH = 100
STAGES = ("dense", "merged")
_CHUNK = 4_096
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
    ndcg: float
    """nDCG@10; what nobody judged counts 0."""
    recall: float
    """recall@100 of what has its query's top grade."""
    against: Difference | None
    """nDCG@10 less that of the same stage before, paired by query."""


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
    index: Path, judgments: Judgments, request: TowersRequest, runtimes: Sequence[str], progress: Progress
) -> TowersReport:
    """Trains on four fifths of the queries and measures on the others; `request` says how, but not on what,
    unless that is the catalog: then all judged queries measure."""
    queries = list(judgments.grades)
    test = queries if request.catalog else part_of(queries, "test")
    training = [] if request.catalog else part_of(queries, "train") + part_of(queries, "validation")
    held_out = Judgments({query: judgments.grades[query] for query in test}, judgments.lowest)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = [_written(judgments, training, folder)] if training else []
        request = replace(request, judgments=files, held_out=test)
        started = time.perf_counter()
        done = train_text_towers(index, Settings(), request, progress)
        seconds = time.perf_counter() - started
        with serving_snapshot(index) as snapshot:
            figures = list(
                _figures(snapshot, _ways(done, request, runtimes), held_out, request.cache, folder, progress)
            )
            products = len(snapshot.products)
    trained = done.spec.trained_on["training queries"] + done.spec.trained_on["validation queries"]
    return TowersReport(products, trained, len(test), str(done.folder), seconds, figures)


def _written(judgments: Judgments, queries: Sequence[str], folder: Path) -> Path:
    lines = ["\t".join(HEADER)]
    lines += [
        f"{query}\t{product}\t{grade!r}" for query in queries for product, grade in judgments.grades[query].items()
    ]
    path = folder / "judgments.tsv"
    path.write_text("\n".join(lines), "utf-8")
    return path


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
    snapshot: Snapshot,
    ways: Sequence[_Way],
    held_out: Judgments,
    cache: Path,
    folder: Path,
    progress: Progress,
) -> Iterator[TowerFigures]:
    before: dict[str, Mapping[str, Sequence[str]]] = {}
    taken = _query_ms(snapshot.encoder, held_out)
    for stage in STAGES:
        before[stage] = _run(snapshot, held_out, stage, f"before, {stage}", progress)
        found = _measured(before[stage], held_out, None)
        yield TowerFigures("before", snapshot.encoder.dimension, taken, stage, *found)
    for number, way in enumerate(ways):
        encoder = open_encoder(str(way.towers), way.runtime, cache, dimension=way.columns)
        after = _encoded(snapshot, encoder, folder / f"vectors-{number}", progress)
        taken = _query_ms(encoder, held_out)
        for stage in STAGES:
            run = _run(after, held_out, stage, f"{way.name}, {encoder.dimension} columns, {stage}", progress)
            yield TowerFigures(way.name, encoder.dimension, taken, stage, *_measured(run, held_out, before[stage]))


def _encoded(snapshot: Snapshot, encoder: Encoder, folder: Path, progress: Progress) -> Snapshot:
    """The same version with other vectors."""
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


def _run(snapshot: Snapshot, held_out: Judgments, stage: str, name: str, progress: Progress) -> dict[str, list[str]]:
    progress.begin(name, len(held_out.grades), "queries")
    run = best_products(snapshot, list(held_out.grades), stage, DEPTH, progress.advance)
    progress.end(f"nDCG@10 {measure(run, held_out)['nDCG@10']:.4f}")
    return run


def _measured(
    run: Mapping[str, Sequence[str]], held_out: Judgments, before: Mapping[str, Sequence[str]] | None
) -> tuple[float, float, Difference | None]:
    """nDCG@10, recall@100, and the difference of the first."""
    found = measure(run, held_out)
    against = None if before is None else paired_bootstrap(_by_query(run, held_out), _by_query(before, held_out))
    return found["nDCG@10"], found["R@100"], against


def _query_ms(encoder: Encoder, held_out: Judgments) -> float:
    """Of one query at a time, as when a shopper waits."""
    queries = list(held_out.grades)[:_TIMED]
    encoder.encode_queries(queries[:_WARMING])
    taken = []
    for query in queries:
        started = time.perf_counter()
        encoder.encode_queries([query])
        taken.append(time.perf_counter() - started)
    return 1_000 * float(np.median(taken))


def _by_query(run: Mapping[str, Sequence[str]], held_out: Judgments) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([ndcg(run[query], judged, held_out) for query, judged in held_out.grades.items()])


def show_towers(report: TowersReport) -> None:
    """nDCG@10, recall@100 and a query's time by encoder and stage."""
    title = (
        f"{report.test_queries:,} held-out queries over {report.products:,} products; trained on "
        f"{report.training_queries:,} others in {report.training_seconds / 60:.1f} minutes"
    )
    table = plain_table(
        ["", "columns", "ms a query", "stage", "nDCG@10", "recall@100", "against before", "from", "to"], title
    )
    for each in report.figures:
        found = each.against
        ends = [""] * 3 if found is None else [f"{value:+.4f}" for value in (found.mean, found.low, found.high)]
        made = [each.encoder, f"{each.dimension}", f"{each.query_ms:.2f}"]
        table.add_row(*made, each.stage, f"{each.ndcg:.4f}", f"{each.recall:.4f}", *ends)
    out.print(table)
    out.print(f"The towers are in {report.folder}", markup=False, highlight=False, soft_wrap=True)
