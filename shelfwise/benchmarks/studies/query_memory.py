"""Rankers with query memory compared with rankers without, trained on the same lists and measured on the last ones."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray

from shelfwise.benchmarks.relations import RelationStrengths, choose_weights
from shelfwise.benchmarks.studies import run_study
from shelfwise.benchmarks.studies.rankers import GradedOrders
from shelfwise.benchmarks.tables import difference_cells, figure_table
from shelfwise.rerank.click_models.evaluation import ClickLikelihood
from shelfwise.rerank.evaluation.promotion import NDCG, NEW_QUERIES, new_query_slice, traffic_slices
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.rerank.ranker.features import FEATURES, MEMORY_COLUMNS
from shelfwise.rerank.ranker.memory import MEMORY, QueryMemory, product_hashes
from shelfwise.rerank.ranker.network import HistoryAttention
from shelfwise.rerank.sessions.query_tables import normalise_queries
from shelfwise.rerank.sessions.relations import RelationCatalog
from shelfwise.rerank.training.click_training import PrivacyOptions, new_attention
from shelfwise.rerank.training.datasets import ListData, query_of_fold
from shelfwise.rerank.training.history_training import HistoryData, HistoryEvaluation, train_history
from shelfwise.rerank.training.trainer import spare_threads
from shelfwise.rerank.user_tower.histories import newest_products
from shelfwise.retrieval.errors import InputError
from shelfwise.retrieval.judgments import Judgments, read_judgments
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.options import Index, command
from shelfwise.service.cli.output import TerminalProgress, emit, say, show_table
from shelfwise.service.demo.shoppers import ETA, Truth
from shelfwise.service.engine.models import encoding_of
from shelfwise.service.settings import load_settings
from shelfwise.service.training.click_dataset import (
    ClickRankerOptions,
    ClickTrainingSet,
    ClickTrial,
    TrainedNetwork,
    build_training_set,
)
from shelfwise.service.training.ranker_dataset import candidate_lists, list_data
from shelfwise.service.training.ranker_from_clicks import history_training, new_start, train_network
from shelfwise.service.training.ranker_promotion import ClickGate, network_scores
from shelfwise.service.training.training_session import FreshTables, earlier_than_lists, fresh_tables

GROUPS: Mapping[str, Collection[str]] = {
    "no memory": MEMORY,
    "no queries": [name for name in MEMORY if name.startswith("query_")],
    "no words": [name for name in MEMORY if name.startswith("words_")],
    "no categories": [name for name in MEMORY if "category" in name],
    "no brands and prices": [name for name in MEMORY if "brand" in name or "price" in name],
}
"""The features that are left out, by the name of the ranker without them."""
WHOLE = "with memory"
BY_GRADES = f"{NDCG} by grades"


@dataclass(frozen=True, slots=True)
class MeasureGain:
    """One measure of two rankers on some queries."""

    name: str
    """The name of the comparison."""
    measure: str
    queries: str
    count: int
    before: float
    after: float
    gain: Difference


@command("query_memory big-demo/index --demo big-demo")
def query_memory(
    index: Index,
    demo: Annotated[
        Path | None, typer.Option(help="Folder of the demo store, to also measure its grades and its planted fraud.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings to average over, each with its own seed.", min=1)] = 1,
    ablate: Annotated[bool, typer.Option("--ablate", help="Also leave out each part of the memory.")] = False,
    epochs: Annotated[int, typer.Option(help="Maximum number of epochs.", min=1)] = 8,
    private: Annotated[
        str, typer.Option(help="Instead of rankers without memory, private ones with these epsilons, such as 2,8.")
    ] = "",
    relations: Annotated[
        bool, typer.Option("--relations", help="Instead, add relations of the shopper's last products to the scores.")
    ] = False,
) -> None:
    """Train rankers with and without query memory, or with noise, on the same lists, and compare them on the last
    lists."""
    judgments = read_judgments(demo / "judgments.tsv") if demo else None
    groups = GROUPS if ablate else {"no memory": MEMORY}
    with TerminalProgress() as progress, fresh_tables(index, load_settings(), progress) as tables:
        if relations:
            emit([*_relation_gains(tables, click_training_set(tables, epochs, progress), progress)], show_relations)
            return
        noises = [PrivacyOptions(float(epsilon)) for epsilon in private.split(",") if epsilon]
        made = click_training_set(tables, epochs, progress, noises[0] if noises else None)
        graded = graded_queries(tables, made, judgments) if judgments else None
        if noises:
            whole = _train(_with_noise(made, None), (), graded, seeds, progress).measures
            trained = {each: _train(_with_noise(made, each), (), graded, seeds, progress).measures for each in noises}
            gains = [
                gain
                for each, measures in trained.items()
                for gain in measure_gains(f"noise of epsilon {each.epsilon:g}", measures, whole)
            ]
            emit((gains, []), show_gains, document={"gains": [*map(asdict, gains)], "fraud": []})
            return
        runs = {name: _train(made, out, graded, seeds, progress) for name, out in {WHOLE: (), **groups}.items()}
        network = runs[WHOLE].network
        frauds = [*_fraud_gains(tables, made, graded, network, demo)] if graded and demo else []
    gains = [gain for name in groups for gain in measure_gains(name, runs[name].measures, runs[WHOLE].measures)]
    emit((gains, frauds), show_gains, document={"gains": [*map(asdict, gains)], "fraud": [*map(asdict, frauds)]})


def _with_noise(made: ClickTrainingSet, private: PrivacyOptions | None) -> ClickTrainingSet:
    return replace(made, options=replace(made.options, training=replace(made.options.training, private=private)))


def click_training_set(
    tables: FreshTables, epochs: int, progress: Progress, private: PrivacyOptions | None = None
) -> ClickTrainingSet:
    """The training set of `learn`, for a new network."""
    options, lists = ClickRankerOptions(), tables.derived.lists()
    training = replace(options.training, loop=replace(options.training.loop, epochs=epochs), private=private)
    # The smallest comparable number: a log of ten queries has enough lists of each.
    options, earlier = replace(options, training=training, least=2), earlier_than_lists(tables)
    return build_training_set(tables.snapshot, lists, None, options, tables.built, progress, earlier)


@dataclass(frozen=True, slots=True, eq=False)
class GradedQueries:
    """Held-out queries that have grades, with all their candidates."""

    data: ListData
    orders: GradedOrders
    traffic: NDArray[np.float64]
    is_new: NDArray[np.bool_]
    """(n,): whether the query was not trained on."""


def graded_queries(tables: FreshTables, made: ClickTrainingSet, judgments: Judgments) -> GradedQueries:
    """The graded queries, with the popularity and the memory of the time before the held-out lists."""
    spelled = dict(zip(normalise_queries(judgments.grades), judgments.grades, strict=True))
    held_out = made.held_out.data.lists.queries
    known = np.array([query in spelled for query in held_out], np.bool_)
    periods, earlier = made.periods, earlier_than_lists(tables)
    before = pl.concat([periods.training, periods.validation])
    lists = candidate_lists(
        tables.snapshot,
        [spelled[query] for query in held_out if query in spelled],
        tables.built,
        depth=made.options.depth,
        popularity=earlier.popularity(periods.choosing),
        memory=earlier.memory(before, periods.judging),
    )
    data = list_data(tables.snapshot, lists, np.zeros(len(lists.rows), np.float32))
    orders = GradedOrders(tables.snapshot, judgments, lists)
    return GradedQueries(data, orders, made.held_out.traffic[known], _are_new(made)[known])


def _are_new(made: ClickTrainingSet) -> NDArray[np.bool_]:
    """(n,): whether each held-out query was not trained on."""
    known = frozenset(map(query_of_fold, made.evidence.pairs["query"].unique()))
    return new_query_slice(made.held_out.data.lists.queries, known).rows


@dataclass(frozen=True, slots=True, eq=False)
class MeasureBySeed:
    """One measure on n held-out queries."""

    values: NDArray[np.float64]
    """(s, n): the values, by seed."""
    traffic: NDArray[np.float64]
    """(n,): the number of lists of each query."""
    is_new: NDArray[np.bool_]
    """(n,): whether the query was not trained on."""

    @property
    def slices(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """All queries, then by traffic, then the queries that were not trained on."""
        yield "all", np.ones(len(self.traffic), np.bool_)
        yield from ((each.name, each.rows) for each in traffic_slices(self.traffic))
        yield NEW_QUERIES, self.is_new


Measures = Mapping[str, MeasureBySeed]
"""Values by the name of the measure."""
ListScorer = Callable[[ListData], NDArray[np.floating]]
"""Scores the candidates of lists, concatenated (m,)."""


def measure_order(made: ClickTrainingSet, scorer: ListScorer, graded: GradedQueries | None) -> Measures:
    """The measures of scores on the held-out lists, and by the grades if there are any."""
    likelihood = ClickLikelihood.fit(made.evidence.log)
    gate = ClickGate(made.snapshot, made.validating, made.held_out, likelihood, frozenset(), frozenset())
    found = gate.measures(lambda trial: np.asarray(scorer(trial.data), np.float64))
    traffic, is_new = made.held_out.traffic, _are_new(made)
    measures = {name: MeasureBySeed(values[None], traffic, is_new) for name, values in found.by_name().items()}
    if graded:
        measures[BY_GRADES] = MeasureBySeed(
            graded.orders.ndcg(scorer(graded.data))[None], graded.traffic, graded.is_new
        )
    return measures


def join_seeds(runs: Sequence[Measures]) -> Measures:
    """The measures of several trainings, joined."""
    return {
        name: replace(first, values=np.concatenate([run[name].values for run in runs]))
        for name, first in runs[0].items()
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Trainings:
    measures: Measures
    network: TrainedNetwork
    """The network of the last seed."""


def _train(
    made: ClickTrainingSet, left_out: Collection[str], graded: GradedQueries | None, seeds: int, progress: Progress
) -> _Trainings:
    made = _without(made, left_out)
    graded = graded and replace(graded, data=_blank(graded.data, left_out))
    runs = []
    for seed in range(seeds):
        options = replace(made.options, training=replace(made.options.training, seed=seed))
        seeded = replace(made, options=options)
        with tempfile.TemporaryDirectory() as folder, spare_threads():
            network = train_network(seeded, new_start(seeded).network, "debiased", Path(folder), progress)
        runs.append(measure_order(seeded, partial(network_scores, network.network, network.mixing), graded))
    return _Trainings(join_seeds(runs), network)


def _without(made: ClickTrainingSet, left_out: Collection[str]) -> ClickTrainingSet:
    data = _blank(made.data.data, left_out)
    clicks = replace(made.clicks, lists=data.lists)
    trials: Iterator[ClickTrial] = (
        replace(each, data=_blank(each.data, left_out)) for each in (made.validating, made.held_out)
    )
    validating, held_out = trials
    click_data = replace(made.data, clicks=clicks, data=data)
    return replace(made, clicks=clicks, data=click_data, validating=validating, held_out=held_out)


def _blank(data: ListData, left_out: Collection[str]) -> ListData:
    features = data.lists.features.copy()
    features[:, [FEATURES.index(name) for name in left_out]] = 0
    return replace(data, lists=replace(data.lists, features=features))


def measure_gains(name: str, before: Measures, after: Measures) -> Iterator[MeasureGain]:
    """Each measure on each slice that has it, with queries weighted by their lists."""
    for measure, found in after.items():
        base, values = before[measure].values, found.values
        for part, chosen in found.slices:
            known = chosen & np.isfinite(values).all(axis=0) & np.isfinite(base).all(axis=0)
            if known.any():
                weights = found.traffic[known]
                old, new = (float(np.average(each[:, known].mean(axis=0), weights=weights)) for each in (base, values))
                gain = paired_bootstrap(values[:, known], base[:, known], weights)
                yield MeasureGain(name, measure, part, int(known.sum()), old, new, gain)


@dataclass(frozen=True, slots=True)
class RelationGain:
    """The gain from adding relations of the shopper's last products to an order of displays."""

    order: str
    without: float
    """The mean reciprocal rank of clicks, weighted by inverse propensity, over shoppers."""
    gain: Difference
    weights: tuple[float, ...]
    """Weights of the features of `RelationStrengths`, chosen on the displays of other shoppers."""


def _relation_gains(tables: FreshTables, made: ClickTrainingSet, progress: Progress) -> Iterator[RelationGain]:
    """The gains without and with attention over histories, by the data before the displays that choose and measure."""
    strengths = RelationStrengths.before(
        tables.derived, RelationCatalog.of_version(Store(tables.root)), made.periods.choosing
    )
    with tempfile.TemporaryDirectory() as folder, spare_threads():
        network = train_network(made, new_start(made).network, "debiased", Path(folder), progress)
        training = history_training(made, network, tables.derived.acts())
        if isinstance(training, str):
            raise InputError(f"relations need histories, but there are none: {training}")
        dimension = encoding_of(made.snapshot).vector_dimension
        attention, _ = train_history(new_attention(dimension, training.seed), training, Path(folder) / "histories")
    judges = training.judges
    features = [_display_features(strengths, each) for each in (judges.choosing, judges.judging)]

    def weighted(weights: NDArray[np.float32]) -> HistoryEvaluation:
        choosing, judging = (
            _with_features(data, np.tensordot(weights, each, 1))
            for data, each in zip((judges.choosing, judges.judging), features, strict=True)
        )
        return replace(judges, choosing=choosing, judging=judging)

    def reached(given: HistoryAttention | None, weights: NDArray[np.float32]) -> float:
        return weighted(weights).validate(given)

    for name, given in (("without attention", None), ("with attention", attention)):
        weights = choose_weights(partial(reached, given))
        (before, total), (after, _) = judges.by_shopper(given), weighted(weights).by_shopper(given)
        gain = paired_bootstrap(after, before, total)
        yield RelationGain(name, float(np.average(before, weights=total)), gain, tuple(weights.tolist()))


def _display_features(strengths: RelationStrengths, data: HistoryData) -> NDArray[np.float32]:
    """(6, k, depth): the features of the product at each position."""
    shown, past = data.displays, data.past
    made = np.zeros((6, *shown.places.shape), np.float32)
    for number, (first, behind) in enumerate(zip(shown.first.tolist(), shown.behind.tolist(), strict=True)):
        newest = slice(first, behind)
        acts = zip(past.rows[newest][::-1].tolist(), past.kinds[newest][::-1].tolist(), strict=True)
        is_there = shown.places[number] >= 0
        rows = data.rows[shown.places[number][is_there]]
        made[:, number, is_there] = strengths.features(newest_products(acts))[:, rows]
    return made


def _with_features(data: HistoryData, added: NDArray[np.float32]) -> HistoryData:
    """Displays with separate candidates, whose scores have `added` (k, depth) added."""
    places = np.where(data.displays.places >= 0, np.arange(added.size).reshape(added.shape), -1)
    at = np.maximum(data.displays.places, 0).ravel()
    base = data.base[at] + added.reshape(-1, 1)
    return replace(data, displays=replace(data.displays, places=places), rows=data.rows[at], base=base)


def show_relations(found: Sequence[RelationGain]) -> None:
    """The gain of each order."""
    table = figure_table(["order", "shoppers", "MRR", "gain of relations", "from", "to", "weights"], "")
    for each in found:
        weights = " ".join(f"{weight:g}" for weight in each.weights)
        cells = f"{each.gain.queries:,}", f"{each.without:.4f}", *difference_cells(each.gain), weights
        table.add_row(each.order, *cells)
    show_table(table)


@dataclass(frozen=True, slots=True)
class FraudGain:
    """The gain of a planted scheme in the ranker with memory."""

    scheme: str
    subject: str
    """The brand or model that it promotes."""
    sessions: int
    honest: float
    """The share of all examinations that its products get on the held-out queries, with a memory that excludes the
    planted sessions."""
    planted: float
    """The same with the memory that serves."""


def _fraud_gains(
    tables: FreshTables, made: ClickTrainingSet, graded: GradedQueries, network: TrainedNetwork, demo: Path
) -> Iterator[FraudGain]:
    """`demo` is the folder of a demo store, whose files list the planted sessions."""
    truth = msgspec.json.decode((demo / "truth.json").read_bytes(), type=Truth)
    with gzip.open(demo / "events.jsonl.gz") as file:
        events = [msgspec.json.decode(line, type=_LoggedEvent) for line in file]
    before, earlier = pl.concat([made.periods.training, made.periods.validation]), earlier_than_lists(tables)
    seen = {}
    # A crawler promotes nothing.
    for scheme, plot in ((name, each) for name, each in truth.fraud.items() if each.subject):
        sessions = set(plot.sessions)
        planted = {event.query_id for event in events if event.session in sessions}
        is_honest = ~pl.col("query_id").str.split("/").list.last().is_in(planted)
        for name, lists in (("honest", before.filter(is_honest)), ("planted", before)):
            seen[name] = _examined(graded, network, earlier.memory(lists, made.periods.judging))
        mine = [_is_promoted(tables.snapshot.products[row], plot.subject) for row in graded.data.lists.rows.tolist()]
        shares = {name: float(each[mine].sum() / each.sum()) for name, each in seen.items()}
        yield FraudGain(scheme, plot.subject, len(sessions), **shares)


class _LoggedEvent(msgspec.Struct):
    query_id: str
    session: str


def _is_promoted(product: Product, subject: str) -> bool:
    return product.brand == subject or subject in product.title


def _examined(graded: GradedQueries, network: TrainedNetwork, memory: QueryMemory) -> NDArray[np.float64]:
    """(m,): how often the shoppers of the demo store examine each candidate in the order of a memory."""
    lists = graded.data.lists
    features = lists.features.copy()
    hashes = product_hashes(graded.orders.product_ids)
    found = np.zeros(len(lists.rows))
    for number, query in enumerate(lists.queries):
        here = lists.place(number)
        features[here, MEMORY_COLUMNS] = memory.features(query, hashes[here])
    data = replace(graded.data, lists=replace(lists, features=features))
    scores = network_scores(network.network, network.mixing, data)
    for number, traffic in enumerate(graded.traffic.tolist()):
        here = lists.place(number)
        rank = np.argsort(np.argsort(-scores[here], kind="stable"), kind="stable")
        found[here] = traffic * (rank + 1.0) ** -ETA
    return found


def show_gains(found: tuple[list[MeasureGain], list[FraudGain]]) -> None:
    """Measures without and with memory, by the traffic of queries; then the gains of planted fraud."""
    gains, frauds = found
    title = f"{WHOLE} against without; queries weighed by their lists, 95% by bootstrap over queries"
    table = figure_table(["without", "measure", "on", "queries", "without", "with", "gain", "from", "to"], title)
    for each in gains:
        figures = (f"{each.before:.4f}", f"{each.after:.4f}", *difference_cells(each.gain))
        table.add_row(each.name, each.measure, each.queries, f"{each.count:,}", *figures)
    show_table(table)
    for fraud in frauds:
        shares = f"{fraud.honest:.2%} of all examinations without its {fraud.sessions:,} sessions"
        say(f"{fraud.scheme}, {fraud.subject}: {shares}, {fraud.planted:.2%} with them")


if __name__ == "__main__":
    run_study(query_memory)
