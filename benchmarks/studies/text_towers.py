"""What encoders are measured on: judged queries divided by the SHA-1 of their text, the whole catalog encoded anew."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from benchmarks.quality import Run, measure, ndcg
from benchmarks.studies.rankers import part_of
from benchmarks.tables import difference_cells, plain_table
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.text_towers.dataset import validates
from rerank.text_towers.options import TowerOptions
from retrieval.encoders.base import Encoder
from retrieval.encoders.registry import named_runtime, open_encoder
from retrieval.errors import NothingBetterError, SettingError
from retrieval.index.faiss import build_index
from retrieval.index.vectors import create_vectors
from retrieval.judgments import HEADER, Judgments
from retrieval.progress import Progress
from retrieval.store.manifest import write_durably
from retrieval.store.products import encoder_text
from service.cli.output import out
from service.engine.snapshot import Snapshot, serving_snapshot
from service.settings import Settings
from service.training.text_towers import TowersRequest, WrittenTowers, train_text_towers
from service.training.text_towers_promotion import best_products
from service.training.training_session import TRAINING_FOLDER

DEPTH = 100
STAGES = ("dense", "merged")
_CHUNK = 4_096


@dataclass(frozen=True, slots=True)
class Measured:
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


def measured(run: Run, judged: Judgments, before: Run | None = None) -> Measured:
    """How good a run is, and how much better than the one before."""
    found = measure(run, judged)
    against = None if before is None else paired_bootstrap(_by_query(run, judged), _by_query(before, judged))
    return Measured(found["nDCG@10"], found["R@100"], against)


def _by_query(run: Run, judged: Judgments) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([ndcg(run[query], grades, judged) for query, grades in judged.grades.items()])


# What each way of training the towers gives by itself: the same queries, the same time, one thing changed.
#
# A share of the queries that may train does, so that all ways together take about an hour on two cores; the others
# measure each over the whole catalog, against the plain way of the same run. The fifth that `bench towers` measures by
# has no part in it, so that what is chosen here is not chosen by what it is measured by there. What is interrupted goes
# on:
#
# INDEX/training/ways-0123456789abcdef/typos.json    what came of a way, until all are measured

PLAIN = "plain"
_STAGE = "dense"
_SEED = -2
"""Divides by other digits than what validates or judges."""

Way = Callable[[TowersRequest, int], TowersRequest]
"""Changes one thing of the plain way's request, which trains on so many judged products."""


def _options(change: Callable[[TowerOptions], TowerOptions]) -> Way:
    return lambda request, _: replace(request, options=change(request.options))


def _loss(**values: object) -> Way:
    return _options(lambda options: replace(options, loss=replace(options.loss, **values)))  # type: ignore[arg-type]


def _augment(**values: float) -> Way:
    return _options(lambda options: replace(options, augment=replace(options.augment, **values)))


def _negatives(**values: float) -> Way:
    return _options(lambda options: replace(options, negatives=replace(options.negatives, **values)))  # type: ignore[arg-type]


def _shorter(options: TowerOptions) -> TowerOptions:
    """Half as many epochs, unless there is but one, for what takes twice the time."""
    return replace(options, epochs=max(1, options.epochs // 2))


def _synthetic(request: TowersRequest, judged: int) -> TowersRequest:
    return replace(request, synthetic=judged, options=_shorter(request.options))


WAYS: Mapping[str, Way] = {
    PLAIN: _options(lambda options: options),
    "pointwise": _loss(name="pointwise"),
    "no-logq": _loss(correct=False),
    "margin": _loss(margin=0.1),
    "no-negatives": _negatives(count=0),
    "near-misses": _negatives(near_misses=0.5),
    "no-dropout": _options(lambda options: replace(options, dropout=0.0)),
    "mixing": _options(lambda options: replace(options, mix=True)),
    "averaging": _options(lambda options: replace(options, average=True)),
    "lora": _options(lambda options: replace(options, lora=16, learning_rate=5 * options.learning_rate)),
    "typos": _augment(typos=0.2),
    "units": _augment(units=0.5),
    "brands": _augment(brands=0.3),
    "drop-fields": _augment(fields=0.3),
    "unlike": _augment(unlike=0.3),
    "synthetic": _synthetic,
    "fgm": _options(lambda options: replace(_shorter(options), fgm=0.5)),
    "teacher-margin": _loss(teacher="margin"),
    "teacher-kl": _loss(teacher="kl"),
}
"""Those that there are; the last ones want a teacher."""


def ways_of(teacher: str) -> list[str]:
    """The names of all that can be measured, with or without a teacher."""
    return [name for name in WAYS if teacher or not name.startswith("teacher-")]


@dataclass(frozen=True, slots=True)
class WayFigures:
    """What came of one way."""

    way: str
    seconds: float
    """Of training."""
    share: float
    """Of what was learned, in the mixture; 0 where nothing was better than the encoder as it was."""
    validation: float
    """nDCG@10 of the queries that choose, over their pool."""
    measured: Measured
    """The vectors alone, over the whole catalog; against the plain way."""


class _Come(msgspec.Struct, frozen=True):
    """The same, as it is kept while others are measured."""

    seconds: float
    share: float
    validation: float
    run: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class WaysReport:
    """All of them, over the same queries."""

    products: int
    training_queries: int
    test_queries: int
    before: Measured
    """The encoder as it was."""
    figures: Sequence[WayFigures]


def measure_ways(
    index: Path,
    settings: Settings,
    judgments: Judgments,
    request: TowersRequest,
    share: float,
    names: Sequence[str],
    runtime: str,
    progress: Progress,
) -> WaysReport:
    """Trains each way, the plain one first, on `share` of the queries that may train, and measures it by the others.

    Raises SettingError for a way or a runtime that does not exist, a way that wants a teacher where none is named, or
    where no query is left to measure by, and what training raises but NothingBetterError: then the encoder stands as it
    was.
    """
    named_runtime(runtime)
    ways = {name: _named(name, request.teacher) for name in (PLAIN, *(name for name in names if name != PLAIN))}
    apart = held_out(judgments).grades
    training = [query for query in judgments.grades if query not in apart and validates(query, share, _SEED)]
    taken = {*apart, *training}
    test = Judgments({query: told for query, told in judgments.grades.items() if query not in taken}, judgments.lowest)
    if not test.grades:
        raise SettingError(f"--share {share:g} leaves no query to measure by; take less")
    with tempfile.TemporaryDirectory() as scratch, serving_snapshot(index, settings) as snapshot:
        folder = Path(scratch)
        file = written(judgments, training, folder)
        request = replace(request, judgments=[file], held_out=[*apart, *test.grades])
        judged = sum(len(judgments.grades[query]) for query in training)
        requests = {name: way(request, judged) for name, way in ways.items()}
        before = found_by(snapshot, test, _STAGE, "before", progress)
        kept = index / TRAINING_FOLDER / f"ways-{_digest(snapshot, judgments, requests, runtime)}"
        measuring = _Measuring(index, settings, snapshot, test, runtime, folder, kept, progress)
        figures = list(_figures(measuring, requests))
        shutil.rmtree(kept)
        return WaysReport(len(snapshot.products), len(training), len(test.grades), measured(before, test), figures)


def _digest(snapshot: Snapshot, judgments: Judgments, requests: Mapping[str, TowersRequest], runtime: str) -> str:
    """Another one for anything that would make other figures, but other ways beside."""
    plain = requests[PLAIN]
    told = [snapshot.manifest.version, judgments.grades, asdict(plain.options), plain.encoder, plain.teacher, runtime]
    digest = xxhash.xxh3_64(msgspec.json.encode(told))
    for file in plain.judgments:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _named(name: str, teacher: str) -> Way:
    if name not in WAYS:
        raise SettingError(f"the way {name!r} does not exist; it is one of {', '.join(WAYS)}")
    if name not in ways_of(teacher):
        raise SettingError(f"the way {name!r} wants a teacher's scores: name a cross-encoder as --teacher")
    return WAYS[name]


@dataclass(frozen=True, slots=True)
class _Measuring:
    """What all ways are measured by."""

    index: Path
    settings: Settings
    snapshot: Snapshot
    test: Judgments
    runtime: str
    scratch: Path
    kept: Path
    progress: Progress

    def come(self, name: str, request: TowersRequest) -> _Come:
        """What comes of a way, or came of it before the measurement was interrupted."""
        file = self.kept / f"{name}.json"
        if file.exists():
            self.progress.begin(name, None, "")
            self.progress.end("was measured before")
            return msgspec.json.decode(file.read_bytes(), type=_Come)
        made = self._measured(name, request)
        self.kept.mkdir(parents=True, exist_ok=True)
        write_durably(file, msgspec.json.encode(made))
        return made

    def _measured(self, name: str, request: TowersRequest) -> _Come:
        started = time.perf_counter()
        towers = self.scratch / name
        try:
            spec = train_text_towers(self.index, self.settings, replace(request, out=towers), self.progress).spec
            mixed, validation = spec.share, spec.validation
        except NothingBetterError as error:
            self.progress.begin(name, None, "")
            self.progress.end(f"nothing came of it: {error}")
            mixed, validation = 0.0, 0.0
        seconds = time.perf_counter() - started
        after, vectors = self.snapshot, self.scratch / f"{name}-vectors"
        if mixed:
            encoder = open_encoder(str(towers), self.runtime, request.cache)
            after = encoded(self.snapshot, encoder, vectors, self.progress)
        run = found_by(after, self.test, _STAGE, name, self.progress)
        shutil.rmtree(vectors, ignore_errors=True)
        return _Come(seconds, mixed, validation, run)


def _figures(measuring: _Measuring, requests: Mapping[str, TowersRequest]) -> Iterator[WayFigures]:
    plain: Run | None = None
    for name, request in requests.items():
        come = measuring.come(name, request)
        plain = plain or come.run
        figures = measured(come.run, measuring.test, None if name == PLAIN else plain)
        _say_difference(name, figures.against, measuring.progress)
        yield WayFigures(name, come.seconds, come.share, come.validation, figures)


def _say_difference(name: str, against: Difference | None, progress: Progress) -> None:
    """At once: the table comes after the last way, and an hour may pass before that."""
    if against is not None:
        progress.begin(f"{name} - {PLAIN}", None, "")
        progress.end("nDCG@10 {} ({} to {})".format(*difference_cells(against)))


def show_ways(report: WaysReport) -> None:
    """Each way's nDCG@10 and recall@100, and how sure its difference from the plain one is."""
    title = (
        f"{report.test_queries:,} queries over {report.products:,} products, vectors alone; "
        f"{report.training_queries:,} others train"
    )
    columns = ["way", "s", "chosen by", "nDCG@10", "R@100", "- plain", "from", "to"]
    table = plain_table(columns, title)
    before = report.before
    table.add_row("as it was", "", "", f"{before.ndcg:.4f}", f"{before.recall:.4f}", *difference_cells(None))
    for each in report.figures:
        found = each.measured
        learned = [each.way, f"{each.seconds:.0f}", f"{each.validation:.4f}" if each.share else "nothing"]
        table.add_row(*learned, f"{found.ndcg:.4f}", f"{found.recall:.4f}", *difference_cells(found.against))
    out.print(table)


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
            figures = list(
                _tower_figures(snapshot, _ways(done, request, runtimes), test, request.cache, folder, progress)
            )
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


def _tower_figures(
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
