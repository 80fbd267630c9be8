"""Rankers with query memory against such without, trained on the same lists and measured on the last ones."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray

from benchmarks.studies import run_study
from benchmarks.studies.rankers import GradedOrders
from benchmarks.tables import difference_cells, figure_table
from rerank.click_models.evaluation import ClickLikelihood
from rerank.evaluation.promotion import LIKELIHOOD, MRR, NDCG, traffic_slices
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.ranker.features import FEATURES, MEMORY_COLUMNS
from rerank.ranker.memory import MEMORY, QueryMemory, product_hashes
from rerank.sessions.query_tables import normalise_queries
from rerank.training.datasets import ListData
from rerank.training.trainer import spare_threads
from retrieval.judgments import Judgments, read_judgments
from retrieval.progress import Progress
from retrieval.records import Product
from service.cli.options import Index, command
from service.cli.output import TerminalProgress, emit, say, show_table
from service.demo.shoppers import ETA, Truth
from service.settings import load_settings
from service.training.click_dataset import (
    ClickRankerOptions,
    ClickTrainingSet,
    ClickTrial,
    TrainedNetwork,
    build_training_set,
)
from service.training.ranker_dataset import candidate_lists, list_data
from service.training.ranker_from_clicks import new_start, train_network
from service.training.ranker_promotion import ClickGate, all_lists, scored_by
from service.training.training_session import FreshTables, earlier_than_lists, fresh_tables

GROUPS: Mapping[str, Collection[str]] = {
    "no memory": MEMORY,
    "no queries": [name for name in MEMORY if name.startswith("query_")],
    "no words": [name for name in MEMORY if name.startswith("words_")],
    "no categories": [name for name in MEMORY if "category" in name],
    "no brands and prices": [name for name in MEMORY if "brand" in name or "price" in name],
}
"""What is left out of the features, by the name of the ranker that is without it."""
WHOLE = "with memory"
BY_GRADES = f"{NDCG} by grades"


@dataclass(frozen=True, slots=True)
class MemoryGain:
    """One measure of a ranker with memory, and of one without a part of it, on some queries."""

    without: str
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
        Path | None, typer.Option(help="The folder of the demo store: measures its grades and its planted fraud, too.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings to average over, each with a seed of its own.", min=1)] = 1,
    ablate: Annotated[bool, typer.Option("--ablate", help="Leave out each part of the memory, too.")] = False,
    epochs: Annotated[int, typer.Option(help="The most epochs of each training.", min=1)] = 8,
) -> None:
    """Train rankers with and without query memory on the same lists, and compare them on the last lists."""
    judgments = read_judgments(demo / "judgments.tsv") if demo else None
    groups = GROUPS if ablate else {"no memory": MEMORY}
    with TerminalProgress() as progress, fresh_tables(index, load_settings(), progress) as tables:
        made = _training_set(tables, epochs, progress)
        graded = _graded(tables, made, judgments) if judgments else None
        runs = {name: _train(made, out, graded, seeds, progress) for name, out in {WHOLE: (), **groups}.items()}
        network = runs[WHOLE].network
        frauds = [*_fraud_gains(tables, made, graded, network, demo)] if graded and demo else []
    gains = [gain for name in groups for gain in _gains(name, runs[name].measures, runs[WHOLE].measures)]
    emit((gains, frauds), show_gains, document={"gains": [*map(asdict, gains)], "fraud": [*map(asdict, frauds)]})


def _training_set(tables: FreshTables, epochs: int, progress: Progress) -> ClickTrainingSet:
    options, lists = ClickRankerOptions(), tables.derived.lists()
    training = replace(options.training, loop=replace(options.training.loop, epochs=epochs))
    # The fewest that can be compared: a log of ten queries has enough lists of each.
    options, earlier = replace(options, training=training, least=2), earlier_than_lists(tables)
    return build_training_set(tables.snapshot, lists, None, options, tables.built, progress, earlier)


@dataclass(frozen=True, slots=True, eq=False)
class _GradedQueries:
    """Held-out queries that have grades, with all their candidates."""

    data: ListData
    orders: GradedOrders
    traffic: NDArray[np.float64]


def _graded(tables: FreshTables, made: ClickTrainingSet, judgments: Judgments) -> _GradedQueries:
    """With the popularity and the memory of the time before the held-out lists."""
    spelled = dict(zip(normalise_queries(judgments.grades), judgments.grades, strict=True))
    traffic = {
        spelled[query]: lists
        for query, lists in zip(made.held_out.data.lists.queries, made.held_out.traffic.tolist(), strict=True)
        if query in spelled
    }
    periods, earlier = made.periods, earlier_than_lists(tables)
    before = pl.concat([periods.training, periods.validation])
    lists = candidate_lists(
        tables.snapshot,
        list(traffic),
        tables.built,
        depth=made.options.depth,
        popularity=earlier.popularity(periods.choosing),
        memory=earlier.memory(before, periods.judging),
    )
    data = list_data(tables.snapshot, lists, np.zeros(len(lists.rows), np.float32))
    return _GradedQueries(data, GradedOrders(tables.snapshot, judgments, lists), np.array(list(traffic.values())))


_Measures = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""By measure: its values on queries, (s, n) by seed, and the traffic of these (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Trainings:
    measures: _Measures
    network: TrainedNetwork
    """Of the last seed."""


def _train(
    made: ClickTrainingSet, left_out: Collection[str], graded: _GradedQueries | None, seeds: int, progress: Progress
) -> _Trainings:
    made = _without(made, left_out)
    runs = []
    for seed in range(seeds):
        options = replace(made.options, training=replace(made.options.training, seed=seed))
        seeded = replace(made, options=options)
        with tempfile.TemporaryDirectory() as folder, spare_threads():
            network = train_network(seeded, new_start(seeded).network, "debiased", Path(folder), progress)
        runs.append(_measure(seeded, network, left_out, graded))
    values = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    traffic = {BY_GRADES: graded.traffic} if graded else {}
    measures = {name: (found, traffic.get(name, made.held_out.traffic)) for name, found in values.items()}
    return _Trainings(measures, network)


def _measure(
    made: ClickTrainingSet, network: TrainedNetwork, left_out: Collection[str], graded: _GradedQueries | None
) -> dict[str, NDArray[np.float64]]:
    likelihood = ClickLikelihood.fit(made.evidence.log)
    gate = ClickGate(made.snapshot, made.validating, made.held_out, likelihood, frozenset(), frozenset())
    found = gate.measures(scored_by(network.network, network.mixing))
    measures = {NDCG: found.ndcg, MRR: found.reciprocal_rank, LIKELIHOOD: found.click_likelihood}
    if graded:
        data = _blank(graded.data, left_out)
        scores = network.mixing.scores(network.network, all_lists(data)).astype(np.float64) + data.lists.bonus
        measures[BY_GRADES] = graded.orders.ndcg(scores)
    return measures


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


def _gains(without: str, before: _Measures, after: _Measures) -> Iterator[MemoryGain]:
    for measure, (values, traffic) in after.items():
        base = before[measure][0]
        everything = np.ones(len(traffic), np.bool_)
        for name, chosen in (("all", everything), *((each.name, each.rows) for each in traffic_slices(traffic))):
            known = chosen & np.isfinite(values).all(axis=0) & np.isfinite(base).all(axis=0)
            if known.any():
                after_all, before_all, weights = values[:, known], base[:, known], traffic[known]
                old, new = (float(np.average(each.mean(axis=0), weights=weights)) for each in (before_all, after_all))
                gain = paired_bootstrap(after_all, before_all, weights)
                yield MemoryGain(without, measure, name, int(known.sum()), old, new, gain)


@dataclass(frozen=True, slots=True)
class FraudGain:
    """What a planted scheme gains in the ranker with memory."""

    scheme: str
    subject: str
    """The brand or the model that it promotes."""
    sessions: int
    honest: float
    """The share of all examinations that its products get, on the held-out queries, with a memory without the planted
    sessions."""
    planted: float
    """The same with the memory that serves."""


def _fraud_gains(
    tables: FreshTables, made: ClickTrainingSet, graded: _GradedQueries, network: TrainedNetwork, demo: Path
) -> Iterator[FraudGain]:
    """`demo` is the folder of a demo store, whose files name the planted sessions."""
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


def _examined(graded: _GradedQueries, network: TrainedNetwork, memory: QueryMemory) -> NDArray[np.float64]:
    """(m,): how often each candidate is examined in the order of a memory, by the shoppers of the demo store."""
    lists = graded.data.lists
    features = lists.features.copy()
    hashes = product_hashes(graded.orders.product_ids)
    found = np.zeros(len(lists.rows))
    for number, query in enumerate(lists.queries):
        here = lists.place(number)
        features[here, MEMORY_COLUMNS] = memory.features(query, hashes[here])
    data = replace(graded.data, lists=replace(lists, features=features))
    scores = network.mixing.scores(network.network, all_lists(data)).astype(np.float64) + lists.bonus
    for number, traffic in enumerate(graded.traffic.tolist()):
        here = lists.place(number)
        rank = np.argsort(np.argsort(-scores[here], kind="stable"), kind="stable")
        found[here] = traffic * (rank + 1.0) ** -ETA
    return found


def show_gains(found: tuple[list[MemoryGain], list[FraudGain]]) -> None:
    """Measures without and with memory, by the traffic of queries; then what planted fraud gains."""
    gains, frauds = found
    title = f"{WHOLE} against without; queries weighed by their lists, 95% by bootstrap over queries"
    table = figure_table(["without", "measure", "on", "queries", "without", "with", "gain", "from", "to"], title)
    for each in gains:
        figures = (f"{each.before:.4f}", f"{each.after:.4f}", *difference_cells(each.gain))
        table.add_row(each.without, each.measure, each.queries, f"{each.count:,}", *figures)
    show_table(table)
    for fraud in frauds:
        shares = f"{fraud.honest:.2%} of all examinations without its {fraud.sessions:,} sessions"
        say(f"{fraud.scheme}, {fraud.subject}: {shares}, {fraud.planted:.2%} with them")


if __name__ == "__main__":
    run_study(query_memory)
