"""Training data for learning from clicks: lists of three periods, their candidates, and the acts on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog
from shelfwise.rerank.evaluation.off_policy import OffPolicyEstimate
from shelfwise.rerank.evaluation.statistics import Difference
from shelfwise.rerank.ranker.features import MEMORY_COLUMNS
from shelfwise.rerank.ranker.memory import NO_MEMORY, QueryMemory, product_hashes
from shelfwise.rerank.ranker.network import HistoryAttention, RankerNetwork
from shelfwise.rerank.ranker.spec import AddedRanker, StoredRanker
from shelfwise.rerank.training.click_dataset import (
    FOLDS,
    MIN_LISTS,
    ClickData,
    ClickEvidence,
    ClickLists,
    Periods,
    click_lists,
    fit_evidence,
    fold_by_shopper,
    fold_of,
    join_candidates,
    other_folds,
    shown_lists,
    split_by_time,
)
from shelfwise.rerank.training.click_training import ClickOptions, Mixing, PrivacyGuarantee, Validation
from shelfwise.rerank.training.datasets import CandidateLists, ListData, query_of_fold
from shelfwise.rerank.training.history_training import HistoryOptions
from shelfwise.rerank.training.losses import propensities, unbiased_gains
from shelfwise.rerank.training.trainer import Epoch, Federation, best_of, run_digest
from shelfwise.retrieval.progress import Progress
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.signals import NO_POPULARITY, PopularBefore, Popularity
from shelfwise.service.training.ranker_dataset import candidate_lists, list_data

WORTH = (1.0, 3.0, 5.0)
"""Gains of a click, a cart and a purchase."""


MemoryBefore = Callable[[pl.DataFrame, datetime], QueryMemory]
"""The query memory of some lists (see `shelfwise.rerank.sessions.tables.DerivedTables.lists`) at a time, from earlier
events only."""


EventFacts = Mapping[str, str | int]
"""Facts about the events of a training, for the card of its model."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """Popularity, query memory and event facts from before the lists used for training or evaluation."""

    popularity: PopularBefore = lambda _end: NO_POPULARITY
    memory: MemoryBefore = lambda _lists, _end: NO_MEMORY
    events: EventFacts = field(default_factory=dict)


NOTHING_EARLIER = Earlier()


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """Options of a trial."""

    now: float
    """Reference time of product ages, in seconds since 1970."""
    depth: int = 100
    """Number of candidates of each query that serving reranks."""
    queries: int = 3_000
    """Number of most frequent queries."""
    popularity: Popularity = NO_POPULARITY
    """Popularity before the period."""
    memory: QueryMemory = NO_MEMORY
    """Query memory before the period."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickTrial:
    """n queries with those of their candidates that shoppers were shown, whose gains are the targets of `data`.

    Products that were not shown have no known gain. A gain of 0 would favour the order that shoppers were shown, and
    models that learned that order, so measures use condensed lists (Sakai 2007, Alternatives to Bpref, section 2).
    """

    data: ListData
    is_chosen: NDArray[np.bool_]
    """Whether each candidate was clicked, added to the cart or bought (m,)."""
    numbers: NDArray[np.int64]
    """Numbers of the queries with several candidates and at least one choice; others gain 0."""
    traffic: NDArray[np.float64]
    """Number of lists of each query (n,)."""
    log: ClickLog
    """The lists of these queries, without products that are no longer candidates."""
    query_of_list: NDArray[np.int64]
    """Query of each list (lists,)."""
    place_of: NDArray[np.int64]
    """Index of each pair of the log among all candidates (m,), shape (pairs,); -1 for none."""
    languages: NDArray[np.str_]
    """Language of most of a query's chosen candidates (n,); "" if none has a language."""
    options: TrialOptions

    def shown_scores(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """The scores (m,) of the shown candidates, shape (lists, depth)."""
        known = np.append(scores.astype(np.float64), 0.0)
        place = np.append(self.place_of, -1)[self.log.pairs]
        shown: NDArray[np.float64] = known[place]
        return shown


def build_trial(
    snapshot: Snapshot, events: pl.DataFrame, chances: NDArray[np.float64], options: TrialOptions
) -> ClickTrial:
    """A trial from a period's events, with the propensities (depth,) estimated on an earlier period."""
    shown = shown_lists(events, len(chances))
    found = candidate_lists(
        snapshot,
        sorted(shown.frequent_queries(options.queries)),
        options.now,
        depth=options.depth,
        popularity=options.popularity,
        memory=options.memory,
    )
    joined = join_candidates(shown, found, snapshot.products.row_of)
    lists, place_of, query_of_list = joined.lists, joined.place_of, joined.query_of_list
    is_placed, is_listed = place_of >= 0, query_of_list >= 0
    # The gain of each candidate, corrected for position.
    log, targets = shown.log, np.zeros(len(lists.rows), np.float32)
    gains = unbiased_gains(log.pairs, shown.acts, chances, np.array(WORTH), log.count)
    targets[place_of[is_placed]] = gains[is_placed]
    is_chosen = np.zeros(len(targets), np.bool_)
    acted = place_of[log.pairs[shown.acts.any(axis=2)]]
    is_chosen[acted[acted >= 0]] = True
    judges = (np.bincount(lists.query_of, is_chosen, len(lists)) > 0) & (lists.lengths > 1)
    targets[~judges[lists.query_of]] = 0
    log, query_of_list = log.rows(is_listed), query_of_list[is_listed]
    known = np.append(is_placed, False)[log.pairs]
    log = ClickLog(np.where(known, log.pairs, NOTHING), log.clicks & known, log.count)
    return ClickTrial(
        list_data(snapshot, lists, targets),
        is_chosen,
        np.flatnonzero(judges),
        np.bincount(query_of_list, minlength=len(lists)).astype(float),
        log,
        query_of_list,
        place_of,
        np.array(_languages(snapshot, lists, is_chosen), np.str_),
        options,
    )


def _languages(snapshot: Snapshot, lists: CandidateLists, is_chosen: NDArray[np.bool_]) -> list[str]:
    found = []
    for number in range(len(lists)):
        place = lists.place(number)
        rows = lists.rows[place][is_chosen[place]]
        languages = Counter(snapshot.products[row].language for row in rows.tolist())
        found.append(max(languages, key=lambda each: languages[each]) if languages else "")
    return found


@dataclass(frozen=True, slots=True)
class ClickRankerOptions:
    """Training data and options."""

    training: ClickOptions = field(default_factory=ClickOptions)
    queries: int = 20_000
    """Number of most frequent queries with a click."""
    candidates: int = 28
    """Number of candidates of each query."""
    depth: int = 100
    """Number of candidates of the merged order that serving reranks."""
    validating: int = 500
    """Number of most frequent queries for validation."""
    least: int = MIN_LISTS
    """Minimum number of usable lists, where each query has one for each half of the shoppers."""
    histories: HistoryOptions = field(default_factory=HistoryOptions)
    erasures: int = 0
    """Number of erasures of shoppers so far: see `shelfwise.service.events.privacy.erasures`."""
    federation: Federation | None = None
    """The federation with other stores that trains the network; None trains on these lists alone."""

    @property
    def method(self) -> str:
        """The correction of clicks for position: by a click model, or by inverse propensities."""
        return "debiased" if self.training.private is None else "propensity"


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A trained network, with the parameters of its score."""

    method: str
    network: RankerNetwork
    """The network without history attention."""
    curve: Sequence[Epoch]
    mixing: Mixing
    guarantee: PrivacyGuarantee | None = None
    """The guarantee of a private training."""

    @property
    def summary(self) -> str:
        best = best_of(self.curve)
        made = f"epoch {best.number} is best: nDCG@10 {best.validation:.4f}, {self.mixing.ndcg:.4f} mixed"
        private = self.guarantee
        if private is None:
            return made
        return f"{made}; epsilon {private.epsilon:g}, delta {private.delta:.1g}, noise {private.noise:.2f}"


@dataclass(frozen=True, slots=True, eq=False)
class HistoryResult:
    """Result of training on shoppers' histories."""

    summary: str
    """A summary, with the reason if there is no attention."""
    attention: HistoryAttention | None = None
    gain: Difference | None = None
    """Gain of the mean reciprocal rank of clicks with a history over without, by shopper."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickTrainingSet:
    """The data of a training."""

    snapshot: Snapshot
    periods: Periods
    evidence: ClickEvidence
    """Evidence of the first period."""
    clicks: ClickLists
    data: ClickData
    validating: ClickTrial
    held_out: ClickTrial
    served: StoredRanker | None
    options: ClickRankerOptions

    @property
    def validation(self) -> Validation:
        return Validation(self.validating.data, self.validating.numbers)


@dataclass(frozen=True, slots=True)
class FirstHits:
    """A held-out query whose first hits the new ranker changes."""

    query: str
    lists: int
    """Number of held-out lists of the query."""
    before: tuple[str, ...]
    """Titles by what served before."""
    after: tuple[str, ...]
    """Titles by the new ranker."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickTraining:
    """A completed training."""

    dataset: ClickTrainingSet
    network: TrainedNetwork
    history: HistoryResult
    added: AddedRanker
    examples: tuple[FirstHits, ...] = ()
    """Examples, most frequent queries first."""
    off_policy: OffPolicyEstimate | None = None
    """Estimated effect of the new ranker on the held-out lists; None if no list has a known query."""


def build_training_set(
    snapshot: Snapshot,
    events: pl.DataFrame,
    served: StoredRanker | None,
    options: ClickRankerOptions,
    now: float,
    progress: Progress,
    earlier: Earlier = NOTHING_EARLIER,
) -> ClickTrainingSet:
    """Joins the events of `shelfwise.rerank.sessions.tables.DerivedTables.lists` with the current candidates of their
    queries.

    Products have the popularity of the end of the first period in all three, so that the choices and judgments of later
    lists are not in their own features. The memory of a query comes from lists before the period; for the training
    lists, from those of the other half of the shoppers.

    Raises TrainingError if there is too little training data, EncoderError if queries cannot be encoded.
    """
    progress.begin("click model", None, "")
    periods = split_by_time(events)
    folds = fold_by_shopper(periods.training)
    evidence = fit_evidence(folds, by_shopper=options.training.private is not None)
    progress.end(f"of {evidence.log.size:,} lists")
    progress.begin("labels", None, "")
    folded = evidence.frequent_queries(FOLDS * options.queries, acted=True)
    queries = tuple(dict.fromkeys(map(query_of_fold, folded)))[: options.queries]
    progress.end(f"{evidence.log.count:,} pairs of query and product, {len(queries):,} queries with clicks")
    progress.begin("candidates", len(queries), "queries")
    popularity = earlier.popularity(periods.choosing)
    found = candidate_lists(
        snapshot, queries, now, depth=options.depth, popularity=popularity, progress=progress.advance
    )
    found = _by_fold(snapshot, found, folded, [earlier.memory(each, periods.choosing) for each in other_folds(folds)])
    drawing = options.candidates, options.training.seed, options.least
    clicks = click_lists(evidence, found, snapshot.products.row_of, *drawing)
    left = ", ".join(f"{count:,} {name}" for name, count in clicks.excluded.items() if count)
    progress.end(f"{len(clicks.usable):,} lists to learn from" + (f"; left out: {left}" if left else ""))
    data = ClickData(clicks, list_data(snapshot, clicks.lists, clicks.gains, clicks.weights))
    progress.begin("trials", None, "")
    chances = propensities(evidence.examination, options.training.least_propensity)
    known = earlier.memory(periods.training, periods.choosing)
    choosing = TrialOptions(now, options.depth, options.validating, popularity, known)
    validating = build_trial(snapshot, periods.validation, chances, choosing)
    known = earlier.memory(pl.concat([periods.training, periods.validation]), periods.judging)
    judging = TrialOptions(now, options.depth, popularity=popularity, memory=known)
    held_out = build_trial(snapshot, periods.held_out, chances, judging)
    progress.end(f"{len(validating.numbers):,} later queries for validation, {len(held_out.numbers):,} for the test")
    return ClickTrainingSet(snapshot, periods, evidence, clicks, data, validating, held_out, served, options)


def _by_fold(
    snapshot: Snapshot, found: CandidateLists, names: Sequence[str], memories: Sequence[QueryMemory]
) -> CandidateLists:
    """The candidates of queries, each with the memory of the folds (n,) other than its own."""
    number = {query: place for place, query in enumerate(found.queries)}
    known = [name for name in names if query_of_fold(name) in number]
    lists = found.repeat([number[query_of_fold(name)] for name in known], known)
    rows, place = np.unique(lists.rows, return_inverse=True)
    hashes = product_hashes([*map(snapshot.products.id_of, rows.tolist())])[place]
    for at, name in enumerate(known):
        here, memory = lists.place(at), memories[fold_of(name)]
        lists.features[here, MEMORY_COLUMNS] = memory.features(query_of_fold(name), hashes[here])
    return lists


def digest(made: ClickTrainingSet, parent: str) -> str:
    """A digest that changes if a run would train on other data or otherwise; `parent` names the initial weights."""
    manifest = made.snapshot.manifest
    clicks, lists, displays = made.clicks, made.clicks.lists, made.clicks.displays
    arrays = (lists.rows, lists.features, clicks.gains, displays.places, displays.acts, made.validating.data.targets)
    return run_digest(f"{manifest.version} {manifest.encoder} {parent} {made.options}", *arrays)
