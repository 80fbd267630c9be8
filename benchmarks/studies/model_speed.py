"""Latency of models: the last stage over 100 candidates, pruned networks of a ranker, the user tower."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.latency import title_queries
from benchmarks.studies import run_study
from benchmarks.studies.rankers import GradedOrders, judged_lists
from benchmarks.tables import figure_table
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from rerank.ranker.features import FEATURES, MOST_ACTS
from rerank.ranker.network import NetworkShape, RankerNetwork, load_network
from rerank.ranker.onnx import OnnxRanker
from rerank.ranker.onnx_export import export_network
from rerank.ranker.pruning import PruningTarget, complete_target
from rerank.ranker.spec import RankerReport, RankerSpec, StoredRanker, misfit, ranker_store
from rerank.teacher.teacher import Teacher, open_teacher
from rerank.training.click_training import new_network
from retrieval.encoders.base import Tokens, as_token_encoder
from retrieval.errors import SettingError, TrainingError, UnknownModelError
from retrieval.judgments import Judgments, read_judgments
from retrieval.progress import Progress
from retrieval.records import PastAct
from retrieval.store.products import encoder_text
from service.cli.options import Index, JudgmentsFile, SettingsFile, cache_folder, command
from service.cli.output import TerminalProgress, emit, show_table
from service.engine.candidates import Ranking, ResolvedRequest, Stages
from service.engine.engine import SearchEngine
from service.engine.models import ServedUserTower, encoding_of
from service.engine.recommend import ShopperVectors
from service.engine.reranking import DEPTH, Reranker, Reranking
from service.engine.snapshot import Snapshot
from service.events.signals import read_popularity
from service.settings import load_settings
from service.training.ranker_pruning import MEASURING, Precision, prune_on_sample, sample_data, time_scores

HEAD, ATTENTION, HISTORY, TEACHER = "features head", "cross-attention", "cross-attention, history of 50", "teacher"
_KINDS = {HEAD: (0, False), ATTENTION: (1, False), HISTORY: (1, True)}
"""Layers, and whether a history is read."""
_PATIENCE = 60.0
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class SystemSpeed:
    """Milliseconds of one query's candidates."""

    p50: float
    p99: float
    graph_p50: float
    """Of these, what the network itself took; all of it of a teacher."""
    megabytes: float
    """The graph's file; 0 of a teacher, whose files are not ours."""


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """All systems on the same candidates."""

    queries: int
    candidates: float
    """Of a query, on average."""
    tokens: float
    """Of a product, on average."""
    systems: Mapping[str, SystemSpeed]


@dataclass(frozen=True, slots=True)
class _Query:
    text: str
    tokens: Tokens
    ranking: Ranking


@dataclass(frozen=True, slots=True)
class _System:
    reranking: Reranking
    ranker: OnnxRanker
    size: int
    """Bytes of the graph."""

    def score(self, ranking: Ranking) -> None:
        """Runs the network alone on what was reranked last."""
        if ranking.scored is not None:
            self.ranker.score([ranking.scored.candidates])


def measure_ranker_speed(
    snapshot: Snapshot,
    queries: Sequence[str],
    teacher: Teacher | None,
    advance: Callable[[int], None] = lambda _count: None,
) -> SpeedReport:
    """Times every system on each query; those that fewer than 100 products answer do not count.

    Raises TrainingError for an index without token states, or where no query is left.
    """
    texts = [query for query in _rank(snapshot, queries) if len(query.ranking.rows) >= DEPTH]
    states = snapshot.states
    if not texts or states is None:
        raise TrainingError("the index has no token states, or no query has 100 candidates: there is nothing to time")
    spent: dict[str, list[float]] = {}
    with _systems(snapshot) as systems:
        for number, query in enumerate(texts):
            for name, system in systems.items():
                spent.setdefault(name, []).append(_timed(partial(system.reranking.rerank, query.ranking, query.tokens)))
                spent.setdefault(f"{name} graph", []).append(_timed(partial(system.score, query.ranking)))
            # It takes a hundred times as long: some queries tell it well enough.
            if teacher is not None and number < 25:
                spent.setdefault(TEACHER, []).append(_timed(partial(_score_by_teacher, snapshot, teacher, query)))
            advance(1)
        sizes = {name: system.size for name, system in systems.items()}
    rows = np.concatenate([query.ranking.rows[:DEPTH] for query in texts])
    tokens = float((states.gather(rows).ids >= 0).sum(axis=1).mean())
    measured = {name: _speed(spent, name, sizes.get(name, 0)) for name in (*_KINDS, TEACHER) if name in spent}
    return SpeedReport(len(texts), float(DEPTH), tokens, measured)


def _speed(spent: Mapping[str, list[float]], name: str, size: int) -> SystemSpeed:
    whole, graph = (np.array(spent[key][_WARM_UP:]) for key in (name, f"{name} graph" if name != TEACHER else name))
    p50, p99 = np.percentile(whole, [50, 99])
    return SystemSpeed(float(p50), float(p99), float(np.median(graph)), size / 1e6)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1_000


def _rank(snapshot: Snapshot, queries: Sequence[str]) -> Iterator[_Query]:
    encoder = as_token_encoder(snapshot.encoder)
    if encoder is None:
        return
    with ThreadPoolExecutor(1) as executor:
        stages = Stages(snapshot, executor)
        for text in queries:
            ranking = stages.rank(ResolvedRequest(text, snapshot.analyzer.groups(text), stage="merged"))
            yield _Query(text, encoder.encode_queries_with_tokens([text])[1][0], ranking)


def _score_by_teacher(snapshot: Snapshot, teacher: Teacher, query: _Query) -> None:
    texts = [encoder_text(snapshot.products[row]) for row in query.ranking.rows[:DEPTH].tolist()]
    teacher.score([query.text] * len(texts), texts)


@contextmanager
def _systems(snapshot: Snapshot) -> Iterator[dict[str, _System]]:
    past = tuple(PastAct(snapshot.products.id_of(row)) for row in range(min(MOST_ACTS, len(snapshot.products))))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = {}
        for name, (layers, has_history) in _KINDS.items():
            ranker = _ranker(snapshot, folder / name, layers, has_history=has_history)
            reranker = Reranker(ranker, threads=1)
            stack.callback(reranker.close)
            size = (folder / name / MODEL_FILE).stat().st_size
            made[name] = _System(Reranking(snapshot, reranker, _PATIENCE, past if has_history else ()), ranker, size)
        yield made


def _ranker(snapshot: Snapshot, folder: Path, layers: int, *, has_history: bool) -> OnnxRanker:
    encoding = encoding_of(snapshot)
    dimension = encoding.state_dimension or 0
    shape = NetworkShape(dimension, encoding.vector_dimension, len(FEATURES), layers=layers)
    shape = shape if has_history else replace(shape, history=0)
    folder.mkdir()
    network = new_network(shape, np.zeros((1, len(FEATURES)), np.float32), seed=0)
    export_network(network.eval(), folder / MODEL_FILE)
    spec = RankerSpec(
        encoder=encoding.encoder,
        state_dimension=dimension,
        vector_dimension=encoding.vector_dimension,
        features=FEATURES,
        layers=layers,
        precision="fp32",
        mix=0.1,
        event_weights=(0.5, 0.3, 0.2),
        calibration=(1.0, 0.0),
    )
    return OnnxRanker(StoredRanker("drawn", folder, spec, RankerReport(created="")))


def show_ranker_speed(report: SpeedReport) -> None:
    """Milliseconds by system, the slowest last."""
    title = (
        f"{report.candidates:.0f} candidates of each of {report.queries} queries, {report.tokens:.0f} tokens a product"
    )
    table = figure_table(["", "p50 ms", "p99 ms", "of it the network", "MB", "of the teacher's time"], title)
    teacher = report.systems.get(TEACHER)
    for name, each in report.systems.items():
        share = f"1/{teacher.p50 / each.p50:,.0f}" if teacher and name != TEACHER else ""
        size = f"{each.megabytes:.2f}" if each.megabytes else ""
        table.add_row(name, f"{each.p50:.2f}", f"{each.p99:.2f}", f"{each.graph_p50:.2f}", size, share)
    show_table(table)


# What pruning costs and saves: smaller networks of one ranker, on the candidates of judged queries.
#
# All are exported from the same weights, and each query is scored by all of them before the next one.

WHOLE = "whole"
_PRUNED_KINDS: tuple[tuple[str, PruningTarget, Precision], ...] = (
    ("whole, int8", PruningTarget(), "int8"),
    ("2 heads", PruningTarget(heads=2), "fp32"),
    ("1 head", PruningTarget(heads=1), "fp32"),
    ("128 units", PruningTarget(feed_forward=128), "fp32"),
    ("64 units", PruningTarget(feed_forward=64), "fp32"),
    ("no units", PruningTarget(feed_forward=0), "fp32"),
    ("1 head, 64 units", PruningTarget(heads=1, feed_forward=64), "fp32"),
    ("1 head, 64 units, int8", PruningTarget(heads=1, feed_forward=64), "int8"),
    ("no layer", PruningTarget(layers=0), "fp32"),
)


@dataclass(frozen=True, slots=True)
class PrunedRanker:
    """What one network reaches and takes."""

    name: str
    ndcg: float
    """nDCG@10 over the judged queries."""
    against_whole: Difference
    """Its difference from the whole network's, paired by query."""
    milliseconds: float
    """Of 100 candidates on one thread, the median."""
    megabytes: float
    """Of its graph."""


@dataclass(frozen=True, slots=True)
class PruningReport:
    """All networks of one ranker, the whole one first."""

    ranker: str
    queries: int
    rows: tuple[PrunedRanker, ...]


def with_layer(root: Path, snapshot: Snapshot, name: str = "") -> StoredRanker:
    """The ranker of this name; else the one that serves, where it has a cross-attention layer, or the newest that has
    one and fits the index, also of those rejected. Raises UnknownModelError where there is none."""
    registry, encoding = ranker_store(root), encoding_of(snapshot)
    serving = registry.serving(encoding).model
    names = [name] if name else [*([serving.name] if serving else []), *reversed(registry.names())]
    for each in names:
        found = registry.open(each, encoding)
        if found.spec.layers and not misfit(found.spec, encoding):
            return found
    which = f"{name} has none, or is for another index" if name else "none of its rankers has one"
    raise UnknownModelError(
        f"{root} has no cross-attention layer to prune: {which}; train one: shelfwise train ranker {root}"
    )


def measure_pruning(
    root: Path, snapshot: Snapshot, judgments: Judgments, ranker: StoredRanker, progress: Progress
) -> PruningReport:
    """Prunes by what matters on synthetic queries, and measures on the judged ones."""
    network, popularity = load_network(ranker.folder / WEIGHTS_FILE), read_popularity(root)
    sample = sample_data(snapshot, MEASURING, popularity, 0, progress)
    measuring = np.flatnonzero(sample.lists.lengths > 1)
    with tempfile.TemporaryDirectory() as scratch:
        kinds = list(_sensible(network.shape))
        progress.begin("export", len(kinds), "networks")
        made: dict[str, StoredRanker] = {}
        for place, (name, left, precision) in enumerate(kinds):
            folder = Path(scratch) / str(place)
            folder.mkdir()
            smaller = prune_on_sample(network, sample, measuring, ranker.spec.event_weights, left)
            made[name] = _exported(ranker, smaller, precision, folder)
            progress.advance(1)
        progress.end(f"{len(kinds)} networks of {ranker.name}")
        progress.begin("candidates", len(judgments.grades), "queries")
        judged = judged_lists(snapshot, judgments, progress.advance, popularity)
        progress.end(f"{len(judged.lists.rows):,} of {len(judged.lists):,} judged queries")
        progress.begin("scores", None, "")
        rankers = {name: OnnxRanker(each) for name, each in made.items()}
        timed = time_scores(rankers, judged.data, range(len(judged.lists)))
        progress.end(f"{len(rankers)} orders of the same candidates")
        graded = GradedOrders(snapshot, judgments, judged.lists)
        found = {name: graded.ndcg(each.scores) for name, each in timed.items()}
        rows = [
            PrunedRanker(
                name,
                float(each.mean()),
                paired_bootstrap(each, found[WHOLE]),
                timed[name].milliseconds,
                (made[name].folder / MODEL_FILE).stat().st_size / 1e6,
            )
            for name, each in found.items()
        ]
    return PruningReport(ranker.name, len(judged.lists), tuple(rows))


def _sensible(shape: NetworkShape) -> Iterator[tuple[str, PruningTarget, Precision]]:
    """The whole network, and those that are smaller than it."""
    yield WHOLE, PruningTarget(), "fp32"
    for name, left, precision in _PRUNED_KINDS:
        fits = (left.heads or 0) < len(shape.heads) and (left.feed_forward or 0) < max(shape.feed_forward, 1)
        if fits and (precision == "int8" or complete_target(left, shape) != complete_target(PruningTarget(), shape)):
            yield name, left, precision


def _exported(ranker: StoredRanker, network: RankerNetwork, precision: Precision, folder: Path) -> StoredRanker:
    export_network(network, folder / MODEL_FILE, precision)
    return replace(ranker, folder=folder)


def show_pruning(report: PruningReport) -> None:
    """Networks by what they reach and take."""
    columns = ["network", "nDCG@10", "against the whole", "p50 ms", "graph MB"]
    table = figure_table(columns, f"{report.ranker}, {report.queries:,} judged queries")
    for row in report.rows:
        found = row.against_whole
        interval = "" if row.name == WHOLE else f"{found.mean:+z.4f} ({found.low:+z.4f} to {found.high:+z.4f})"
        table.add_row(row.name, f"{row.ndcg:.4f}", interval, f"{row.milliseconds:.2f}", f"{row.megabytes:.2f}")
    show_table(table)


@command("model_speed speed store --teacher cross-encoder/ms-marco-MiniLM-L-12-v2")
def speed(
    index: Index,
    teacher: Annotated[str, typer.Option(help="A cross-encoder's name or folder; without, none is timed.")] = "",
    queries: Annotated[int, typer.Option(help="Made of words of titles.", min=20, max=10_000)] = 400,
) -> None:
    """Time the last stage over 100 candidates: features head, cross-attention, a shopper's history, a teacher."""
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        opened = open_teacher(teacher, cache=cache_folder()) if teacher else None
        progress.begin("timing", queries, "queries")
        texts = title_queries(engine, queries)
        report = measure_ranker_speed(engine.snapshot, texts, opened, progress.advance)
        progress.end(f"{report.queries:,} queries with 100 candidates")
    emit(report, show_ranker_speed)


@command("model_speed pruning store judgments.tsv")
def pruning(
    index: Index,
    judgments: JudgmentsFile,
    name: Annotated[
        str, typer.Option("--ranker", help="By default the one that serves, or the newest with cross-attention.")
    ] = "",
) -> None:
    """Measure smaller networks of a ranker on judged queries: what they lose, what they take, and how fast they are."""
    judged = read_judgments(judgments)
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        found = with_layer(index, engine.snapshot, name)
        report = measure_pruning(index, engine.snapshot, judged, found, progress)
    emit(report, show_pruning)


# The user tower: histories of as many acts as it reads are drawn from the catalog; one thread sends requests.

VECTOR, ANSWER = "a shopper's vector", "ten recommendations"
_RECOMMEND_WARM_UP = 10


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
    drawn = _drawn(engine, histories + _RECOMMEND_WARM_UP, seed)
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
    parts = {
        name: Milliseconds(*map(float, np.percentile(each[_RECOMMEND_WARM_UP:], (50, 99))))
        for name, each in spent.items()
    }
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


@command("model_speed recommend store")
def recommend(
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
    run_study(speed, pruning, recommend)
