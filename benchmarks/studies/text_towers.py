"""Evaluation of trained text towers on held-out judged queries, over the whole re-encoded catalog."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from rerank.text_towers.dataset import TowerSources, is_validation_query
from retrieval.encoders.base import Encoder
from retrieval.encoders.registry import open_encoder, parse_runtime
from retrieval.index.faiss import VectorIndexKind, build_index
from retrieval.index.vectors import Rows, Vectors, create_vectors
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
    """The quality of one stage on held-out queries."""

    ndcg: float
    """nDCG@10; unjudged products count 0."""
    recall: float
    """recall@100 of the products with the highest grade of their query."""
    against: Difference | None
    """nDCG@10 minus that of another run, paired by query; None without another run."""


def written(judgments: Judgments, queries: Sequence[str], folder: Path) -> Path:
    """A judgments file of these queries, in a folder."""
    lines = ["\t".join(HEADER)]
    lines += [
        f"{query}\t{product}\t{grade!r}" for query in queries for product, grade in judgments.grades[query].items()
    ]
    path = folder / "judgments.tsv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def judged_part(judgments: Judgments, part: str) -> Judgments:
    """The queries of a part (`benchmarks.studies.rankers.PARTS`)."""
    return _only(judgments, part_of(list(judgments.grades), part))


def _only(judgments: Judgments, queries: Iterable[str]) -> Judgments:
    return Judgments({query: judgments.grades[query] for query in queries}, judgments.lowest)


def encoded(snapshot: Snapshot, encoder: Encoder, folder: Path, progress: Progress) -> Snapshot:
    """The same version with vectors of another encoder, which are written to a new folder."""
    progress.begin("encoding", len(snapshot.products), "products")

    def vectors_of(rows: Rows) -> Vectors:
        texts = [encoder_text(snapshot.products[row]) for row in rows.tolist()]
        return encoder.encode_products(texts, progress.advance)

    made = _with_vectors(snapshot, encoder, vectors_of, folder)
    progress.end(f"{len(snapshot.products):,} products by {encoder.identity}")
    return made


def _with_vectors(
    snapshot: Snapshot,
    encoder: Encoder,
    vectors_of: Callable[[Rows], Vectors],
    folder: Path,
    kind: VectorIndexKind | None = None,
) -> Snapshot:
    size = len(snapshot.products)
    vectors = create_vectors(folder, size, encoder.dimension)
    for rows in np.array_split(np.arange(size), range(_CHUNK, size, _CHUNK)):
        vectors[rows] = vectors_of(rows)
    build_index(folder, kind)
    return snapshot.encoded_by(encoder, folder)


def found_by(snapshot: Snapshot, judged: Judgments, stage: str, name: str, progress: Progress) -> Run:
    """The best products of a stage over the whole catalog; `name` is the name of the phase."""
    progress.begin(name, len(judged.grades), "queries")
    run = best_products(snapshot, list(judged.grades), stage, DEPTH, progress.advance)
    progress.end(f"nDCG@10 {measure(run, judged)['nDCG@10']:.4f}")
    return run


def measure_stage(run: Run, judged: Judgments, before: Run | None = None) -> StageQuality:
    """The quality of a run, and its difference from the run before."""
    found = measure(run, judged)
    return StageQuality(found["nDCG@10"], found["R@100"], None if before is None else _difference(run, before, judged))


def _difference(run: Run, before: Run, judged: Judgments) -> Difference:
    return paired_bootstrap(_by_query(run, judged), _by_query(before, judged))


def _by_query(run: Run, judged: Judgments) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([ndcg(run[query], grades, judged) for query, grades in judged.grades.items()])


# The effect of training the towers on judged queries on other queries, over the whole catalog: dense and merged, before
# and after.
#
# Queries are divided 80 to 20 by the SHA-1 of their text; the 20 are used by nothing that trains or chooses. If the
# towers learn from the catalog alone, all queries measure. "Before" is the serving version; "after", its products are
# encoded anew, and all else stays the same.

_TIMED, _WARMING = 300, 20
"""The number of queries whose vectors are timed, and of warm-up queries before them."""


@dataclass(frozen=True, slots=True)
class TowerFigures:
    """The figures of one stage with one encoder."""

    encoder: str
    """"before", or the runtime of the trained towers, and the number of layers if not all."""
    dimension: int
    """The number of columns of its vectors."""
    query_ms: float
    """Median milliseconds of a query's vector, in the calling thread."""
    stage: str
    quality: StageQuality
    """The quality, compared with the same stage before."""


@dataclass(frozen=True, slots=True)
class TowersReport:
    """All figures, over the same queries."""

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
    """Trains on four fifths of the queries and measures on the others; `request` has the options, but the training data
    only if that is the catalog: then all judged queries measure.

    Raises SettingError for an unknown runtime, before the training, and what the training raises."""
    for runtime in runtimes:
        parse_runtime(runtime)
    test = judged_part(judgments, "all" if request.catalog else "test")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        training = [query for query in judgments.grades if query not in test.grades]
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
    """A variant in which the trained towers may serve."""

    name: str
    towers: Path
    runtime: str
    columns: int | None = None
    """The number of columns; None for all."""


def _variants(done: TextTowersResult, request: TextTowersRequest, runtimes: Sequence[str]) -> list[_EncoderVariant]:
    """Encoders to measure with each runtime: the whole encoder, its first columns alone, and the kept layers."""
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
    """Median milliseconds of a query that is encoded alone, as in a search."""
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


# Whether two encoders together find more than the better one. The vector of a text is the concatenation of its vectors
# by both, each multiplied by the square root of its weight: a cosine is then the weighted mean of both cosines.

_WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
_TIMED_PRODUCTS = 1_000


@dataclass(frozen=True, slots=True)
class _Pair:
    """An encoder made of two encoders."""

    first: Encoder
    second: Encoder
    weight: float
    """The weight of the second encoder."""

    @property
    def identity(self) -> str:
        return f"{self.first.identity} and {self.weight} of {self.second.identity}"

    @property
    def dimension(self) -> int:
        return self.first.dimension + self.second.dimension

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.joined(self.first.encode_queries(texts), self.second.encode_queries(texts))

    def encode_products(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        return self.joined(self.first.encode_products(texts), self.second.encode_products(texts, progress))

    def joined(self, first: Vectors, second: Vectors) -> Vectors:
        """The vectors (n, dimension) of texts from those by both encoders."""
        return np.hstack([first * np.float32((1 - self.weight) ** 0.5), second * np.float32(self.weight**0.5)])


@dataclass(frozen=True, slots=True)
class PairFigures:
    """The figures of one stage with one encoder, or with both."""

    encoder: str
    query_ms: float
    """Median milliseconds of a query's vector, in the calling thread."""
    products_per_second: float
    stage: str
    quality: StageQuality
    """The quality, compared with the serving encoder."""
    against_other: Difference | None
    """nDCG@10 of both minus that of the other encoder."""


@dataclass(frozen=True, slots=True)
class PairReport:
    """Two encoders and their combination over the same queries."""

    products: int
    queries: int
    choosing_queries: int
    chosen: Mapping[float, float]
    """Merged nDCG@10 of the queries that choose the weight, by the weight of the other encoder."""
    figures: Sequence[PairFigures]


def measure_pair(
    snapshot: Snapshot, other: Encoder, judgments: Judgments, weight: float | None, progress: Progress
) -> PairReport:
    """The figures of the serving encoder, another one, and both.

    Without a weight, the queries that chose among the weights of towers in `train` choose one by their merged order,
    and those that it measured on measure; with a weight, all queries measure. Raises EncoderError."""
    measuring, share = judged_part(judgments, "all" if weight else "test"), TowerSources(()).share
    others = [query for query in judgments.grades if query not in measuring.grades]
    choosing = _only(judgments, (query for query in others if is_validation_query(query, share)))
    chosen: dict[float, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        alone = encoded(snapshot, other, folder / "other", progress)

        def both(weight: float, kind: VectorIndexKind | None = None) -> Snapshot:
            pair = _Pair(snapshot.encoder, other, weight)

            def vectors_of(rows: Rows) -> Vectors:
                return pair.joined(snapshot.vectors.gather(rows), alone.vectors.gather(rows))

            return _with_vectors(snapshot, pair, vectors_of, folder / "both", kind)

        for each in () if weight else _WEIGHTS:
            run = found_by(both(each, VectorIndexKind.EXACT), choosing, "merged", f"weight {each}", progress)
            chosen[each] = measure(run, choosing)["nDCG@10"]
            shutil.rmtree(folder / "both")
        weight = weight or max(chosen, key=chosen.__getitem__)
        variants = {"serving": snapshot, "other": alone, f"both, {weight} of other": both(weight)}
        figures = list(_pair_figures(variants, measuring, progress))
    return PairReport(len(snapshot.products), len(measuring.grades), len(choosing.grades), chosen, figures)


def _pair_figures(variants: Mapping[str, Snapshot], judged: Judgments, progress: Progress) -> Iterator[PairFigures]:
    costs = {name: (_query_ms(each.encoder, judged), _products_per_second(each)) for name, each in variants.items()}
    for stage in STAGES:
        serving, other, both = runs = [
            found_by(each, judged, stage, f"{name}, {stage}", progress) for name, each in variants.items()
        ]
        against = [None, None, _difference(both, other, judged)]
        for (name, cost), run, difference in zip(costs.items(), runs, against, strict=True):
            quality = measure_stage(run, judged, None if run is serving else serving)
            yield PairFigures(name, *cost, stage, quality, difference)


def _products_per_second(snapshot: Snapshot) -> float:
    texts = [encoder_text(snapshot.products[row]) for row in range(min(_TIMED_PRODUCTS, len(snapshot.products)))]
    started = time.perf_counter()
    snapshot.encoder.encode_products(texts)
    return len(texts) / (time.perf_counter() - started)


def show_pair(report: PairReport) -> None:
    """nDCG@10, recall@100 and times by encoder and stage."""
    if report.chosen:
        chosen = ", ".join(f"{weight}: {found:.4f}" for weight, found in report.chosen.items())
        say(f"merged nDCG@10 of the {report.choosing_queries:,} queries that choose, by the other's weight: {chosen}")
    columns = ["", "ms a query", "products a second", "stage", "nDCG@10", "recall@100"]
    ends = ["against serving", "from", "to", "against other", "from", "to"]
    table = figure_table([*columns, *ends], f"{report.queries:,} queries over {report.products:,} products")
    for each in report.figures:
        found = each.quality
        made = [each.encoder, f"{each.query_ms:.2f}", f"{each.products_per_second:,.0f}", each.stage]
        differences = [*difference_cells(found.against), *difference_cells(each.against_other)]
        table.add_row(*made, f"{found.ndcg:.4f}", f"{found.recall:.4f}", *differences)
    show_table(table)


@command("text_towers pair store judgments.tsv --encoder FOLDER")
def pair(
    index: Index,
    judgments: JudgmentsFile,
    encoder: Annotated[str, typer.Option(help="Name or folder of the other encoder.")],
    weight: Annotated[
        float | None,
        typer.Option(help="Weight of the other encoder; by default chosen on validation queries.", min=0.01, max=0.99),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Compare the serving encoder with another one and with both side by side; nothing is trained."""
    judged, other = read_judgments(judgments), open_encoder(encoder, cache=cache_folder())
    with TerminalProgress() as progress, serving_snapshot(index, load_settings(settings)) as snapshot:
        report = measure_pair(snapshot, other, judged, weight, progress)
    emit(report, show_pair)


@command("text_towers train store judgments.tsv --runtime onnx-int8,onnx-fp32")
def train(
    index: Index,
    judgments: JudgmentsFile,
    how: TowerTrainingOptions,
    runtimes: Annotated[
        str, typer.Option("--runtime", help="Runtimes of the trained encoder, comma-separated.")
    ] = "auto",
    settings: SettingsFile = None,
) -> None:
    """Train the encoder on four fifths of the judged queries, and measure it on the others over the whole catalog.

    The index stays unchanged; the trained towers stay in their folder.
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
    run_study(train, pair)
