"""The ranker trained on simulated clicks, against the same ranker trained on the grades that the shoppers went by.

Shoppers are shown the judged products of each query in the merged order, and click by the grades, by chance, and by
where things stand. Queries are divided by the hash of their text: each is ranked by networks that saw neither its
grades nor its clicks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from benchmarks.studies.rankers import LAYERS, JudgedLists, seed_spread, shape_without_history
from benchmarks.tables import difference_cells, plain_table
from rerank.click_models.click_log import NOTHING, click_log
from rerank.click_models.simulation import (
    USUAL,
    Conditions,
    GradedBehaviour,
    PositionShopper,
    SimulatedStore,
    falling_examination,
    graded_store,
    simulate,
    simulated_events,
)
from rerank.evaluation.click_likelihood import ClickLikelihood
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.training.click_dataset import (
    ClickData,
    ClickEvidence,
    ClickLists,
    by_list,
    click_lists,
    learned,
    queries_with_clicks,
)
from rerank.training.click_training import (
    WAYS,
    ClickOptions,
    Validation,
    Way,
    best_mixing,
    new_network,
    train_on_clicks,
)
from rerank.training.datasets import CandidateLists, ListData, merged_scores
from rerank.training.evaluation import ndcg
from rerank.training.losses import propensities, unbiased_gains
from rerank.training.trainer import LoopOptions
from retrieval.judgments import Judgments
from retrieval.progress import Progress
from service.cli.output import out
from service.engine.snapshot import Snapshot
from service.training.click_dataset import Trial, TrialOptions, trial
from service.training.ranker_dataset import candidate_lists, list_data
from service.training.ranker_promotion import merged_order, scored_by

STRENGTHS = (0.5, 1.0, 1.5)
NOISY = GradedBehaviour(attractiveness=(0.1, 1.0))
"""What is not relevant is clicked by a tenth of those who look at it (as in Ai et al. 2018, Unbiased learning to rank
with unbiased propensity estimation, section 5.1)."""
TRUTH, MERGED = "true grades", "merged order"
SHARE = 0.97
"""Of what the true grades teach, what clicks are to teach."""
_START = datetime(2026, 1, 1)
_TRAINING = ClickOptions(loop=LoopOptions(epochs=12, learning_rate=1e-3, warm_up=20, patience=3))
"""Of networks that begin from nothing."""
_WORTH = np.array([1.0, 0.0, 0.0])
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How much is simulated, and how it is trained on."""

    sessions: int = 100_000
    seeds: int = 3
    folds: int = 5
    conditions: Conditions = USUAL
    training: ClickOptions = _TRAINING
    layers: int = 1
    strengths: tuple[float, ...] = STRENGTHS
    ways: tuple[Way, ...] = WAYS


@dataclass(frozen=True, slots=True)
class WayFigures:
    """One way of learning at one strength of bias; nDCG@10 in the mean over queries and seeds."""

    strength: float
    """Position p is examined with probability 1 / p^strength."""
    way: str
    ndcg: float
    share: float
    """Of what the true grades teach."""
    above_naive: Difference
    above_share: Difference
    """Above 97% of what the true grades teach."""


@dataclass(frozen=True, slots=True)
class RankerClicksReport:
    """All ways at all strengths, over the same queries."""

    queries: int
    sessions: int
    seeds: int
    truth: float
    merged: float
    figures: tuple[WayFigures, ...]


def measure_ranker_clicks(
    judged: JudgedLists, judgments: Judgments, options: BenchOptions, done: Callable[[], None] = lambda: None
) -> RankerClicksReport:
    """Simulates, trains and measures; `done` is called after each network.

    Queries count that have something to gain among their candidates, and among what is shown of it two grades.
    """
    shown = _shown(judged, judgments)
    counted = np.array([query in shown for query in judged.lists.queries], np.bool_)
    reached: dict[tuple[float, str], list[NDArray[np.float64]]] = {}
    truth = []
    for seed in range(options.seeds):
        bench = _Bench(judged, shown, counted, options, seed, done)
        truth.append(bench.truth())
        for strength in options.strengths:
            for way, values in bench.ways(strength).items():
                reached.setdefault((strength, way), []).append(values)
    # A query counts once, by its mean over the seeds: those are no queries of their own.
    means = {key: np.mean(values, axis=0)[counted] for key, values in reached.items()}
    best = np.mean(truth, axis=0)[counted]
    figures = tuple(_figures(key, values, means[key[0], "naive"], best) for key, values in means.items())
    merged = ndcg(merged_scores(judged.lists), judged.gains, judged.lists.offsets)[counted]
    sizes = int(counted.sum()), options.sessions, options.seeds
    return RankerClicksReport(*sizes, float(best.mean()), float(merged.mean()), figures)


def trainings(options: BenchOptions) -> int:
    """How many networks are trained."""
    return options.seeds * options.folds * (1 + len(options.strengths) * len(options.ways))


def _figures(
    key: tuple[float, str], values: NDArray[np.float64], naive: NDArray[np.float64], best: NDArray[np.float64]
) -> WayFigures:
    mean = float(values.mean())
    share = mean / float(best.mean())
    return WayFigures(*key, mean, share, paired_bootstrap(values, naive), paired_bootstrap(values, SHARE * best))


def _shown(judged: JudgedLists, judgments: Judgments) -> Mapping[str, Mapping[str, float]]:
    """Query to the grades of those of its candidates that were judged: what shoppers are shown."""
    shown = {}
    lists = judged.lists
    for number, query in enumerate(lists.queries):
        grades = judgments.grades[query]
        ids = judged.product_ids[lists.place(number)]
        there = {each: grades[each] for each in ids if each in grades}
        if len(set(there.values())) > 1:
            shown[query] = there
    return shown


class _Bench:
    """All trainings of one seed."""

    def __init__(
        self,
        judged: JudgedLists,
        shown: Mapping[str, Mapping[str, float]],
        counted: NDArray[np.bool_],
        options: BenchOptions,
        seed: int,
        done: Callable[[], None],
    ) -> None:
        self._judged, self._shown, self._counted = judged, shown, counted
        self._options, self._seed, self._done = options, seed, done
        self._fold = np.array([_hash(query) % options.folds for query in judged.lists.queries])
        self._rows = dict(zip(judged.product_ids, judged.lists.rows.tolist(), strict=True))

    def truth(self) -> NDArray[np.float64]:
        """(n,): nDCG@10 of training on the grades of the candidates that a log would show."""
        clicks, _ = self._clicks(self._options.strengths[0])
        lists = clicks.lists
        worth = self._worth(lists, self._judged.gains)
        same = replace(
            clicks,
            gains=np.repeat(worth[:, None] / max(float(worth.max()), 1e-9), 3, axis=1),
            weights=np.ones(len(lists), np.float32),
            usable=np.flatnonzero(self._counted & (lists.lengths > 1)),
        )
        return self._trained(same, self._judged.gains, "debiased")

    def ways(self, strength: float) -> dict[str, NDArray[np.float64]]:
        """Way to nDCG@10 (n,), by the true grades."""
        clicks, evidence = self._clicks(strength)
        chances = propensities(evidence.examination)
        by_pair = unbiased_gains(evidence.log.pairs, evidence.acts, chances, _WORTH, evidence.log.count)
        told = dict(zip(evidence.pairs.select("query", "product_id").rows(), by_pair.tolist(), strict=True))
        lists = self._judged.lists
        names = (lists.queries[number] for number in lists.query_of.tolist())
        gains = [told.get(pair, 0.0) for pair in zip(names, self._judged.product_ids, strict=True)]
        return {way: self._trained(clicks, np.array(gains, np.float32), way) for way in self._options.ways}

    def _clicks(self, strength: float) -> tuple[ClickLists, ClickEvidence]:
        store, pairs = graded_store(self._shown, NOISY, self._seed)
        store = replace(store, rankings=_in_order(store, pairs, self._shown))
        shopper = PositionShopper(falling_examination(strength, self._options.conditions.depth))
        made = simulate(store, shopper, self._options.sessions, self._options.conditions, self._seed)
        evidence = learned(simulated_events(made, store, pairs, _START, self._seed))
        return click_lists(evidence, self._judged.lists, self._rows.get, seed=self._seed), evidence

    def _worth(self, lists: CandidateLists, gains: NDArray[np.float32]) -> NDArray[np.float32]:
        """The gains (m,) of all candidates at those of `lists`, which are some of them."""
        whole = self._judged.lists
        width = int(whole.rows.max()) + 1
        keys = whole.query_of * width + whole.rows
        order = np.argsort(keys)
        return gains[order[np.searchsorted(keys, lists.query_of * width + lists.rows, sorter=order)]]

    def _trained(self, clicks: ClickLists, gains: NDArray[np.float32], way: Way) -> NDArray[np.float64]:
        """Each fold's queries ranked by a network of the others, which one fifth of these validate by `gains`."""
        judged, options = self._judged, self._options
        reached = np.zeros(len(judged.lists))
        data = ListData(clicks.lists, judged.data.queries, judged.data.states, clicks.gains[:, 0])
        validates = np.array([_hash(f"validation {query}") % 5 == 0 for query in judged.lists.queries])
        has_gain = np.bincount(judged.lists.query_of, gains, len(judged.lists)) > 0
        shape = shape_without_history(data.states.dimension, options.layers)
        training = replace(options.training, seed=self._seed)
        for fold in range(options.folds):
            others = self._counted & (self._fold != fold)
            usable = np.intersect1d(clicks.usable, np.flatnonzero(others & ~validates))
            chosen = np.flatnonzero(others & validates & has_gain)
            validation = Validation(replace(judged.data, targets=gains), chosen)
            start = new_network(shape, judged.lists.features, self._seed)
            part = ClickData(replace(clicks, usable=usable), data)
            with tempfile.TemporaryDirectory() as folder:
                network, _ = train_on_clicks(start, part, validation, way, training, Path(folder))
            mixing = best_mixing(network, validation)
            held = Validation(replace(judged.data, targets=judged.gains), np.flatnonzero(self._fold == fold))
            reached[held.numbers] = held.ndcg(mixing.scores(network, held))
            self._done()
        return reached


def _in_order(
    store: SimulatedStore, pairs: pl.DataFrame, shown: Mapping[str, Mapping[str, float]]
) -> NDArray[np.int32]:
    """(1, queries, length): what is shown as it stands in `shown`, which is in the merged order."""
    rankings = np.full((1, len(shown), store.rankings.shape[2]), NOTHING, np.int32)
    first = 0
    for number, products in enumerate(shown.values()):
        rankings[0, number, : len(products)] = pairs["pair"][first : first + len(products)]
        first += len(products)
    return rankings


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def show_ranker_clicks(report: RankerClicksReport) -> None:
    """nDCG@10 by strength of bias and way of learning."""
    title = (
        f"nDCG@10 among the candidates, {report.queries:,} queries: {TRUTH} {report.truth:.4f}, "
        f"{MERGED} {report.merged:.4f}; {report.sessions:,} sessions, {report.seeds} seeds"
    )
    columns = ["bias", "way", "nDCG@10", "of truth", "above naive", "from", "to", "above 97%", "from", "to"]
    table = plain_table(columns, title)
    for each in report.figures:
        naive, share = each.above_naive, each.above_share
        ends = (cell for found in (naive, share) for cell in difference_cells(found))
        table.add_row(f"{each.strength}", each.way, f"{each.ndcg:.4f}", f"{each.share:.1%}", *ends)
    out.print(table)


# How well rankers foretell the clicks of real sessions that nothing was trained on, beside the order that was logged
# and the merged one.
#
# Lists are drawn, not divided by time: such logs often have none. All orders are told by the same interpolated click
# likelihood (`rerank.evaluation.click_likelihood`), each by its own calibration on the lists that chose.

LOGGED, MERGED_ORDER = "logged order", "merged order"
SESSION_WAYS: tuple[Way, ...] = ("debiased", "naive")
LEAST_QUERIES = 2
REPEATS = 8
"""How often an epoch reads each list: of a few queries that are asked again and again, once is hardly a step."""
_SESSION_TRAINING = ClickOptions(loop=LoopOptions(epochs=20, learning_rate=1e-3, warm_up=20, patience=5))
"""Of networks that begin from nothing."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What to train on, and how."""

    seeds: int = 3
    depth: int = 300
    """Candidates of each query: real logs list what our first stage has far behind."""
    candidates: int = 100
    """Of each query that are trained on: all that were shown, and some that were not."""
    training: ClickOptions = field(default_factory=lambda: _SESSION_TRAINING)


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What one order foretells."""

    likelihood: float
    """The mean logarithm of the probability of a list's clicks; nearer 0 is better."""
    spread: float
    """Standard deviation over the seeds; 0 for what has none."""
    against_logged: Difference
    against_merged: Difference


@dataclass(frozen=True, slots=True)
class SessionsReport:
    """All orders on the same lists."""

    queries: int
    lists: int
    """Held out."""
    trained_on: int
    known: float
    """The share of what was shown on held-out lists that is among the candidates; the rest counts for no order."""
    orders: Mapping[str, OrderFigures]


@dataclass(frozen=True, slots=True, eq=False)
class _Material:
    data: ClickData
    validating: Trial
    held_out: Trial
    likelihood: ClickLikelihood

    def of(self, scores: NDArray[np.floating], earlier: NDArray[np.floating]) -> NDArray[np.float64]:
        """What scores of the held-out candidates foretell, list by list; `earlier` are of those that chose."""
        calibration = self.likelihood.calibration(self.validating.log, self.validating.shown_scores(earlier))
        return self.likelihood.of(self.held_out.log, self.held_out.shown_scores(scores), calibration)


def measure_sessions(
    snapshot: Snapshot, events: pl.DataFrame, options: SessionOptions, progress: Progress
) -> SessionsReport:
    """Trains every shape with every seed on events of `rerank.sessions.tables.Derived.lists`, and measures."""
    material, evidence, known = _material(snapshot, events, options, progress)
    held = material.held_out
    logged = replace(material.likelihood, interpolation=1.0)
    reached = {LOGGED: [logged.of(held.log, np.zeros(held.log.pairs.shape), (0.0, 0.0))]}
    reached[MERGED_ORDER] = [material.of(merged_order(held), merged_order(material.validating))]
    progress.begin("training", options.seeds * len(LAYERS) * len(SESSION_WAYS), "networks")
    for seed in range(options.seeds):
        for name, layers in LAYERS.items():
            for way in SESSION_WAYS:
                scores = _trained(material, layers, way, replace(options.training, seed=seed))
                reached.setdefault(f"{name}, {way}", []).append(scores)
                progress.advance(1)
    progress.end(f"{options.seeds} seeds")
    means = {name: np.mean(values, axis=0) for name, values in reached.items()}
    figures = {
        name: _session_figures(reached[name], means[name], means[LOGGED], means[MERGED_ORDER]) for name in reached
    }
    return SessionsReport(len(held.traffic), held.log.size, evidence.log.size, known, figures)


def _session_figures(
    values: list[NDArray[np.float64]],
    mean: NDArray[np.float64],
    logged: NDArray[np.float64],
    merged: NDArray[np.float64],
) -> OrderFigures:
    spread = seed_spread(values)
    return OrderFigures(float(mean.mean()), spread, paired_bootstrap(mean, logged), paired_bootstrap(mean, merged))


def _material(
    snapshot: Snapshot, events: pl.DataFrame, options: SessionOptions, progress: Progress
) -> tuple[_Material, ClickEvidence, float]:
    now = snapshot.built
    progress.begin("labels", None, "")
    periods = by_list(events)
    evidence = learned(periods.training)
    queries = queries_with_clicks(evidence, 10_000)
    progress.end(f"{evidence.log.size:,} lists, {len(queries):,} queries with clicks")
    progress.begin("candidates", len(queries), "queries")
    found = candidate_lists(snapshot, queries, now, depth=options.depth, progress=progress.advance)
    row_of = snapshot.products.row_of
    clicks = click_lists(evidence, found, row_of, options.candidates, options.training.seed, least=LEAST_QUERIES)
    progress.end(f"{len(clicks.lists.rows):,} candidates")
    chances = propensities(evidence.examination, options.training.least_propensity)
    validating, held_out = (
        trial(snapshot, part, chances, TrialOptions(now, options.depth))
        for part in (periods.validation, periods.held_out)
    )
    shown = int(click_log(periods.held_out, len(chances))[0].shown.sum())
    repeated = replace(clicks, usable=np.repeat(clicks.usable, REPEATS))
    data = ClickData(repeated, list_data(snapshot, clicks.lists, clicks.gains[:, 0]))
    material = _Material(data, validating, held_out, ClickLikelihood.fit(evidence.log))
    return material, evidence, float(held_out.log.shown.sum()) / max(shown, 1)


def _trained(material: _Material, layers: int, way: Way, options: ClickOptions) -> NDArray[np.float64]:
    """The likelihoods of the held-out lists by a network that was trained on the others."""
    data = material.data.data
    shape = shape_without_history(data.states.dimension, layers)
    start = new_network(shape, data.shown_features(options.draw.dropped, options.seed), options.seed)
    validation = Validation(material.validating.data, material.validating.numbers)
    with tempfile.TemporaryDirectory() as folder:
        network, _ = train_on_clicks(start, material.data, validation, way, options, Path(folder))
    scores = scored_by(network, best_mixing(network, validation))
    return material.of(scores(material.held_out), scores(material.validating))


def show_sessions(report: SessionsReport) -> None:
    """Click likelihood by order."""
    title = (
        f"Click likelihood of {report.lists:,} held-out lists of {report.queries} queries; trained on "
        f"{report.trained_on:,} lists; {report.known:.1%} of what was shown are candidates"
    )
    columns = ["", "a list", "± seeds", "above logged", "from", "to", "above merged", "from", "to"]
    table = plain_table(columns, title)
    for name, each in report.orders.items():
        beside = (each.against_logged, each.against_merged)
        ends = (cell for found in beside for cell in difference_cells(found))
        table.add_row(name, f"{each.likelihood:.4f}", f"{each.spread:.4f}" if each.spread else "", *ends)
    out.print(table)
