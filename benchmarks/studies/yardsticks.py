"""Yardsticks of the ranker: LambdaMART over the same features, both together, and reranking at other depths."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import lightgbm
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.quality import ndcg
from benchmarks.studies import run_study
from benchmarks.studies.query_memory import (
    ListScorer,
    Measures,
    click_training_set,
    graded_queries,
    join_seeds,
    measure_gains,
    measure_order,
)
from benchmarks.studies.rankers import JudgedLists, judged_lists, part_of
from benchmarks.tables import difference_cells, figure_table
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape
from rerank.ranker.onnx import OnnxRanker
from rerank.ranker.spec import ranker_store
from rerank.training.click_dataset import ClickData, ClickLists, Displays, ExclusionCounts
from rerank.training.click_training import ClickOptions, Validation, choose_mixing, new_network, train_on_clicks
from rerank.training.datasets import CandidateLists, ListData, merged_scores
from rerank.training.distillation import usual_deviation
from rerank.training.trainer import LoopOptions, spare_threads
from retrieval.errors import TrainingError
from retrieval.judgments import Judgments, read_judgments
from retrieval.progress import Progress
from service.cli.options import Index, JudgmentsFile, command
from service.cli.output import TerminalProgress, emit, show_notices, show_table
from service.engine.candidates import ResolvedRequest, Stages
from service.engine.engine import SearchEngine
from service.engine.models import encoding_of
from service.engine.reranking import DEPTH, Reranker, Reranking
from service.engine.snapshot import Snapshot
from service.events.signals import read_memory, read_popularity
from service.settings import load_settings
from service.training.ranker_promotion import network_scores, served_scores
from service.training.training_session import fresh_tables

MERGED, NETWORK, SERVING, LAMBDAMART = "merged", "network", "serving ranker", "LambdaMART"
DEPTHS = (50, 100, 200, 400)
WEIGHTS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Weights of LambdaMART's scores beside a ranker's, both scaled to their deviation within a list."""
SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Scales of LambdaMART's scores, at their deviation within a list, beside the bonuses of serving."""
LEAVES = (7, 15, 31)
_LEVELS = 256
"""The number of levels: labels are whole numbers, the gains of a list as shares of its highest one."""
_PARAMETERS = {
    "objective": "lambdarank",
    "metric": "None",
    "label_gain": [level / (_LEVELS - 1) for level in range(_LEVELS)],
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "bagging_by_query": True,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
_ROUNDS, _PATIENCE = 1_000, 50

Trees = lightgbm.Booster


def train_lambdamart(data: ClickData, validation: Validation, options: ClickOptions) -> Trees:
    """LambdaMART (Burges 2010, From RankNet to LambdaRank to LambdaMART: an overview, section 7) by LightGBM, over the
    features of the usable lists, with their gains by the weights of the tasks; the number of trees, and of leaves of
    each, is the one with the best validation nDCG@10, as for a network."""
    lists, usable = data.clicks.lists, data.clicks.usable
    places, lengths = lists.places(usable), lists.lengths[usable]
    gains = data.clicks.gains[places] @ np.array(options.tasks, np.float32)
    highest = np.repeat(np.maximum.reduceat(gains, np.cumsum(lengths) - lengths), lengths)
    labels = np.rint(gains / np.maximum(highest, np.finfo(np.float32).tiny) * (_LEVELS - 1))
    weights = np.repeat(data.clicks.weights[usable], lengths)

    def judge(scores: NDArray[np.floating], _: lightgbm.Dataset) -> tuple[str, float, bool]:
        return "nDCG@10", float(validation.ndcg(scores).mean()), True

    def train(leaves: int) -> Trees:
        given = lightgbm.Dataset(lists.features[places], labels, group=lengths, weight=weights)
        chosen = validation.data.lists
        held = lightgbm.Dataset(
            chosen.features[validation.places],
            np.zeros(len(validation.places)),
            reference=given,
            group=chosen.lengths[validation.numbers],
        )
        parameters = {**_PARAMETERS, "num_leaves": leaves, "seed": options.seed}
        stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
        return lightgbm.train(parameters, given, _ROUNDS, [held], ["validation"], judge, callbacks=[stop])

    return max(map(train, LEAVES), key=lambda trees: trees.best_score["validation"]["nDCG@10"])


def trees_scorer(trees: Trees) -> ListScorer:
    """The scores of trees alone."""
    return lambda data: np.asarray(trees.predict(data.lists.features, num_threads=1), np.float64)


def served_trees_scorer(alone: ListScorer, validation: Validation) -> ListScorer:
    """The scores of trees with the bonuses that serving adds, at the scale that validates best, because trees have no
    natural scale for them."""
    data = validation.data
    unit, found = _unit(alone(data), data), alone(data)

    def quality(scale: float) -> float:
        return float(validation.ndcg((scale / unit * found + data.lists.bonus)[validation.places]).mean())

    scale = max(SCALES, key=quality) / unit
    return lambda data: scale * alone(data) + data.lists.bonus


def _unit(scores: NDArray[np.floating], data: ListData) -> float:
    return max(usual_deviation(scores.astype(np.float32), data.lists), float(np.finfo(np.float32).tiny))


def sum_scorer(first: ListScorer, second: ListScorer, validation: Validation) -> tuple[ListScorer, float]:
    """The sum of two scores, each in units of its usual deviation within the validation lists, and the weight of the
    second, which is the one that validates best."""
    data = validation.data
    given, other = first(data), second(data)
    units = _unit(given, data), _unit(other, data)

    def quality(weight: float) -> float:
        return float(validation.ndcg((given / units[0] + weight * other / units[1])[validation.places]).mean())

    best = max(WEIGHTS, key=quality)
    return lambda data: first(data) / units[0] + best * second(data) / units[1], best


@dataclass(frozen=True, slots=True, eq=False)
class Orders:
    """Orders of the same candidates, trained with one seed."""

    scorers: Mapping[str, ListScorer]
    trees: Trees


def train_orders(
    data: ClickData,
    validation: Validation,
    options: ClickOptions,
    progress: Progress,
    others: Mapping[str, ListScorer] | None = None,
) -> Orders:
    """The merged order, a network and LambdaMART trained on the same lists, and the sums of LambdaMART with the network
    and with each of `others`, the orders of existing rankers."""
    shape = NetworkShape(data.data.states.dimension, 0, len(FEATURES), layers=1, history=0)
    start = new_network(shape, data.data.shown_features(options.draw.dropped, options.seed), options.seed)
    steps = -(-len(data.clicks.usable) // options.draw.lists) * options.loop.epochs
    progress.begin(NETWORK, steps, "steps")
    with tempfile.TemporaryDirectory() as folder:
        network, curve = train_on_clicks(start, data, validation, "debiased", options, Path(folder), progress.advance)
    mixing = choose_mixing(network, validation)
    progress.end(f"{mixing.ndcg:.4f} on the validation lists, {len(curve) - 1} epochs")
    progress.begin(LAMBDAMART, None, "")
    trees = train_lambdamart(data, validation, options)
    (best,) = trees.best_score["validation"].values()
    gained = np.argsort(-trees.feature_importance("gain"))[:4].tolist()
    first = ", ".join(FEATURES[at] for at in gained)
    progress.end(f"{best:.4f} on the validation lists, {trees.best_iteration} trees, most by {first}")
    rankers: dict[str, ListScorer] = {NETWORK: partial(network_scores, network, mixing), **(others or {})}
    progress.begin("sums", None, "")
    alone = trees_scorer(trees)
    sums = {name: sum_scorer(each, alone, validation) for name, each in rankers.items()}
    progress.end(", ".join(f"{name} + {weight:g} {LAMBDAMART}" for name, (_, weight) in sums.items()))
    summed = {f"{name} + {LAMBDAMART}": scorer for name, (scorer, _) in sums.items()}
    merged: ListScorer = lambda data: merged_scores(data.lists)  # noqa: E731
    return Orders({MERGED: merged, **rankers, LAMBDAMART: served_trees_scorer(alone, validation), **summed}, trees)


# Judged queries: the grades of some train, those of others validate and measure.


def graded_clicks(data: ListData) -> ClickData:
    """Judged lists for training, as if the grades were the debiased rates of clicks."""
    gains = np.repeat(data.targets[:, None] / max(float(data.targets.max(initial=0)), 1e-9), 3, axis=1)
    usable = _with_gain(data) & (data.lists.lengths > 1)
    nothing = Displays(np.empty(0, np.int64), np.empty((0, 1), np.int16), np.empty((0, 1, 3), np.float32))
    everything = np.ones(len(data.targets), np.bool_), np.ones(len(data.lists), np.float32)
    clicks = ClickLists(data.lists, gains, *everything, nothing, np.ones(1), np.flatnonzero(usable), ExclusionCounts())
    return ClickData(clicks, data)


def _with_gain(data: ListData) -> NDArray[np.bool_]:
    return np.bincount(data.lists.query_of, data.targets, len(data.lists)) > 0


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """The quality of an order of judged queries' candidates, the mean over queries and seeds."""

    ndcg: float
    """nDCG@10; unjudged products count 0."""
    judged_alone: float
    """nDCG@10 of judged products alone."""
    against_merged: Difference
    against_ranker: Difference
    """The difference from the serving ranker, or else from the network."""
    by_depth: Mapping[int, float]
    """nDCG@10 by the number of best candidates that are reordered."""


@dataclass(frozen=True, slots=True)
class JudgedReport:
    """Orders of the same candidates."""

    queries: int
    depth: int
    orders: Mapping[str, OrderFigures]
    trees_ms: Mapping[int, tuple[float, float]]
    """p50 and p99 milliseconds of LambdaMART's scoring, by the number of candidates."""
    trees: int
    megabytes: float


@command("yardsticks judged store judgments.tsv")
@spare_threads()
def judged(
    index: Index,
    judgments: JudgmentsFile,
    depth: Annotated[int, typer.Option(help="Candidates of each query.", min=10, max=1_000)] = DEPTH,
    candidates: Annotated[int, typer.Option(help="Number of these to train on.", min=2)] = 28,
    seeds: Annotated[int, typer.Option(help="Trainings to average over.", min=1)] = 2,
    epochs: Annotated[int, typer.Option(help="Maximum number of epochs of the network.", min=1)] = 8,
) -> None:
    """Train a network and LambdaMART on grades, and compare both and their sum with the serving ranker."""
    graded = read_judgments(judgments)
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        found = {
            part: _lists(engine.snapshot, graded, part, size, sample, progress)
            for part, size, sample in (
                ("train", depth, candidates),
                ("validation", depth, None),
                ("test", max(depth, *DEPTHS), None),
            )
        }
        training, data = graded_clicks(found["train"].data), found["validation"].data
        validation = Validation(data, np.flatnonzero(_with_gain(data)))
        serving = ranker_store(index).serving(encoding_of(engine.snapshot))
        served = {SERVING: partial(served_scores, OnnxRanker(serving.model))} if serving.model else {}
        loop = LoopOptions(epochs=epochs, learning_rate=1e-3, warm_up=20)
        runs = [
            train_orders(training, validation, ClickOptions(loop=loop, seed=seed), progress, served)
            for seed in range(seeds)
        ]
        report = _judged_report(found["test"], runs, depth)
    show_notices(serving.notices)
    emit(report, show_judged)


def _lists(
    snapshot: Snapshot, judgments: Judgments, part: str, depth: int, sample: int | None, progress: Progress
) -> JudgedLists:
    queries = part_of(list(judgments.grades), part)
    progress.begin(f"{part} queries", len(queries), "queries")
    lists = judged_lists(snapshot, judgments, queries, depth, sample, progress.advance)
    progress.end(f"{len(lists.data.targets):,} candidates")
    if not _with_gain(lists.data).any():
        raise TrainingError(f"no candidate of the {len(queries):,} {part} queries has a grade above the lowest one")
    return lists


def _judged_report(test: JudgedLists, runs: Sequence[Orders], depth: int) -> JudgedReport:
    lists = test.data.lists
    place = np.arange(len(lists.rows)) - np.repeat(lists.offsets[:-1], lists.lengths)
    depths = sorted({depth, *DEPTHS})
    reached: dict[str, dict[int, list[NDArray[np.float64]]]] = {}
    alone: dict[str, list[float]] = {}
    for run in runs:
        for name, scorer in run.scorers.items():
            scores = scorer(test.data)
            for each in depths:
                # The other candidates stay in their order, behind the reordered ones.
                ordered = np.where(place < each, scores, scores.min() - 1 - place)
                reached.setdefault(name, {}).setdefault(each, []).append(test.orders.ndcg(ordered))
                if each == depth:
                    alone.setdefault(name, []).append(float(test.orders.ndcg(ordered, judged_only=True).mean()))
    values = {name: np.stack(found[depth]) for name, found in reached.items()}
    ranker = values.get(SERVING, values[NETWORK])
    figures = {
        name: OrderFigures(
            float(values[name].mean()),
            float(np.mean(alone[name])),
            paired_bootstrap(values[name], values[MERGED]),
            paired_bootstrap(values[name], ranker),
            {each: float(np.mean(at)) for each, at in found.items()},
        )
        for name, found in reached.items()
    }
    trees = runs[-1].trees
    size = len(trees.model_to_string(num_iteration=trees.best_iteration)) / 1e6
    return JudgedReport(len(lists), depth, figures, _trees_ms(trees, lists), trees.best_iteration, size)


def _trees_ms(trees: Trees, lists: CandidateLists) -> dict[int, tuple[float, float]]:
    found = {}
    for depth in DEPTHS:
        spent = []
        for number in range(len(lists)):
            features = lists.features[lists.place(number)][:depth]
            if len(features) == depth:
                started = time.perf_counter()
                trees.predict(features, num_threads=1)
                spent.append(1_000 * (time.perf_counter() - started))
        if spent:
            found[depth] = _percentiles(spent)
    return found


def _percentiles(spent: Sequence[float]) -> tuple[float, float]:
    middle, high = np.percentile(spent, (50, 99))
    return float(middle), float(high)


def show_judged(report: JudgedReport) -> None:
    """nDCG@10 by order, then by depth."""
    title = f"{report.queries:,} queries, the best {report.depth} of each; differences are paired by query, 95%"
    columns = ["order", "nDCG@10", "judged alone", "against merged", "from", "to", "against ranker", "from", "to"]
    table = figure_table(columns, title)
    for name, each in report.orders.items():
        ends = (cell for found in (each.against_merged, each.against_ranker) for cell in difference_cells(found))
        table.add_row(name, f"{each.ndcg:.4f}", f"{each.judged_alone:.4f}", *ends)
    show_table(table)
    depths = list(next(iter(report.orders.values())).by_depth)
    table = figure_table(["nDCG@10 by depth", *map(str, depths)], "")
    for name, each in report.orders.items():
        table.add_row(name, *(f"{value:.4f}" for value in each.by_depth.values()))
    spent = (report.trees_ms.get(depth) for depth in depths)
    table.add_row(
        f"{LAMBDAMART} ({report.trees} trees, {report.megabytes:.2f} MB), p50 / p99 ms",
        *("" if each is None else f"{each[0]:.2f} / {each[1]:.2f}" for each in spent),
    )
    show_table(table)


# Clicks: the training data of `learn`, measured on the last lists.


@command("yardsticks clicks big-demo/index --demo big-demo")
@spare_threads()
def clicks(
    index: Index,
    demo: Annotated[Path | None, typer.Option(help="Folder of the demo store, to also measure by its grades.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings to average over.", min=1)] = 2,
    epochs: Annotated[int, typer.Option(help="Maximum number of epochs of the network.", min=1)] = 8,
) -> None:
    """Train a network and LambdaMART on clicks, and compare both and their sum on the last lists."""
    judgments = read_judgments(demo / "judgments.tsv") if demo else None
    runs: dict[str, list[Measures]] = {}
    with TerminalProgress() as progress, fresh_tables(index, load_settings(), progress) as tables:
        made = click_training_set(tables, epochs, progress)
        graded = graded_queries(tables, made, judgments) if judgments else None
        for seed in range(seeds):
            trained = train_orders(made.data, made.validation, replace(made.options.training, seed=seed), progress)
            for name, scorer in trained.scorers.items():
                runs.setdefault(name, []).append(measure_order(made, scorer, graded))
    measures = {name: join_seeds(found) for name, found in runs.items()}
    others = (name for name in measures if name != NETWORK)
    gains = [gain for name in others for gain in measure_gains(name, measures[NETWORK], measures[name])]
    title = "against the network; queries weighed by their lists, 95% by bootstrap over queries and seeds"
    table = figure_table(["order", "measure", "on", "queries", NETWORK, "order", "gain", "from", "to"], title)
    for each in sorted(gains, key=lambda gain: gain.measure):
        figures = (f"{each.before:.4f}", f"{each.after:.4f}", *difference_cells(each.gain))
        table.add_row(each.name, each.measure, each.queries, f"{each.count:,}", *figures)
    emit(table, show_table, document=[*map(asdict, gains)])


# The serving ranker at other depths, in whole searches.


@dataclass(frozen=True, slots=True)
class DepthFigures:
    """The serving ranker, over a number of candidates of the merged order."""

    candidates: float
    """The mean number of reordered candidates over queries."""
    ndcg: float
    against_usual: Difference
    """The difference from the depth of searches."""
    p50: float
    """Median milliseconds of the whole last stage."""
    p99: float


@command("yardsticks depths store judgments.tsv")
def depths(index: Index, judgments: JudgmentsFile) -> None:
    """Measure the serving ranker at several depths: nDCG@10 of whole searches, and the time of the last stage."""
    graded = read_judgments(judgments)
    queries = part_of(list(graded.grades), "test")
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        serving = ranker_store(index).serving(encoding_of(engine.snapshot))
        if serving.model is None:
            raise TrainingError(f"no ranker serves in {index}: train one (shelfwise learn, shelfwise train ranker)")
        progress.begin("searches", len(queries), "queries")
        with closing(Reranker(OnnxRanker(serving.model))) as reranker:
            usual = Reranking(
                engine.snapshot, reranker, 60.0, popularity=read_popularity(index), memory=read_memory(index)
            )
            found = measure_depths(usual, graded, queries, progress.advance)
        progress.end(f"at {len(DEPTHS)} depths, of {serving.model.name}")
    show_notices(serving.notices)
    emit(found, lambda figures: show_depths(figures, len(queries)))


def measure_depths(
    usual: Reranking, judgments: Judgments, queries: Sequence[str], advance: Callable[[int], None] = lambda _: None
) -> dict[int, DepthFigures]:
    """The figures of searches for each query at all depths, in turns; without the last stage at depth 0."""
    snapshot, all_depths = usual.snapshot, (0, *DEPTHS)
    reached: dict[int, list[float]] = {depth: [] for depth in all_depths}
    spent: dict[int, list[float]] = {depth: [] for depth in all_depths}
    counts: dict[int, list[int]] = {depth: [] for depth in all_depths}
    with ThreadPoolExecutor(1) as executor:
        stages = [(depth, Stages(snapshot, executor, replace(usual, depth=depth))) for depth in DEPTHS]
        stages.append((0, Stages(snapshot, executor)))
        for number, query in enumerate(queries):
            # The first depth reads data from disk that the others find in memory.
            for depth, each in (*stages[number % len(stages) :], *stages[: number % len(stages)]):
                ranking = each.rank(ResolvedRequest(query, snapshot.analyzer.groups(query)))
                ids = [snapshot.products.id_of(row) for row in ranking.rows[:10].tolist()]
                reached[depth].append(ndcg(ids, judgments.grades[query], judgments))
                spent[depth].append(ranking.timings.get("rerank", 0.0))
                counts[depth].append(min(depth, len(ranking.rows)))
            advance(1)
    values = {depth: np.array(found) for depth, found in reached.items()}
    return {
        depth: DepthFigures(
            float(np.mean(counts[depth])),
            float(found.mean()),
            paired_bootstrap(found, values[DEPTH]),
            *_percentiles(spent[depth]),
        )
        for depth, found in values.items()
    }


def show_depths(found: Mapping[int, DepthFigures], queries: int) -> None:
    """nDCG@10 and times by depth."""
    title = f"{queries:,} queries; differences are paired by query, 95%"
    columns = ["depth", "candidates", "nDCG@10", f"against {DEPTH}", "from", "to", "p50 ms", "p99 ms"]
    table = figure_table(columns, title)
    for depth, each in found.items():
        spent = (f"{each.p50:.2f}", f"{each.p99:.2f}") if depth else ("", "")
        figures = (f"{each.candidates:.0f}", f"{each.ndcg:.4f}", *difference_cells(each.against_usual))
        table.add_row(str(depth or MERGED), *figures, *spent)
    show_table(table)


if __name__ == "__main__":
    run_study(judged, clicks, depths)
