"""Training data of learning from clicks: lists of three periods, their candidates, the acts on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from rerank.click_models.click_log import NOTHING, ClickLog, Outcomes, outcomes
from rerank.click_models.evaluation import HeldOutFit, evaluate_later
from rerank.evaluation.off_policy import OffPolicyEstimate
from rerank.evaluation.statistics import Difference
from rerank.ranker.features import MEMORY_COLUMNS
from rerank.ranker.memory import NO_MEMORY, QueryMemory, product_hashes
from rerank.ranker.network import HistoryAttention, RankerNetwork
from rerank.ranker.spec import AddedRanker, StoredRanker
from rerank.training.click_dataset import (
    FOLDS,
    LABELS,
    LEAST_LISTS,
    ClickData,
    ClickEvidence,
    ClickLists,
    Periods,
    click_lists,
    fit_evidence,
    fold_by_shopper,
    fold_of,
    other_folds,
    queries_with_clicks,
    split_by_time,
)
from rerank.training.click_training import ClickMethod, ClickOptions, Mixing, PrivacyGuarantee, Validation
from rerank.training.datasets import CandidateLists, ListData, query_of_fold
from rerank.training.history_training import HistoryOptions
from rerank.training.losses import propensities, unbiased_gains
from rerank.training.trainer import Epoch, Federation, best_of
from retrieval.index.vectors import places_of
from retrieval.progress import Progress
from service.engine.snapshot import Snapshot
from service.events.signals import NO_POPULARITY, PopularBefore, Popularity
from service.training.ranker_dataset import candidate_lists, list_data

WORTH = (1.0, 3.0, 5.0)
"""What a click, a cart and a purchase count for, where gains are added up."""


MemoryBefore = Callable[[pl.DataFrame, datetime], QueryMemory]
"""Gives what some lists (see `rerank.sessions.tables.DerivedTables.lists`) tell at a time, by nothing that came
later."""


EventFacts = Mapping[str, str | int]
"""What the events of a training are, for the card of its model."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of the time before the lists that are learned from or judged by."""

    popularity: PopularBefore = lambda _end: NO_POPULARITY
    memory: MemoryBefore = lambda _lists, _end: NO_MEMORY
    events: EventFacts = field(default_factory=dict)


NOTHING_EARLIER = Earlier()


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """What a trial is made of."""

    now: float
    """Seconds since 1970, the reference time of product ages."""
    depth: int = 100
    """Candidates of each query: what serving reranks."""
    queries: int = 3_000
    """The most frequent ones."""
    popularity: Popularity = NO_POPULARITY
    """Of before the period."""
    memory: QueryMemory = NO_MEMORY
    """Likewise."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickTrial:
    """n queries with those of their candidates that shoppers were shown, whose gains are the targets of `data`.

    Of what was not shown nothing is known. Counted as worth nothing it would favour the order that shoppers were shown,
    and whatever has learned that order: measures are of condensed lists (Sakai 2007, Alternatives to Bpref, section 2).
    """

    data: ListData
    is_chosen: NDArray[np.bool_]
    """(m,): the candidates that were clicked, added to the cart or bought."""
    numbers: NDArray[np.int64]
    """The queries with several candidates, one of them chosen; those of others gain 0."""
    traffic: NDArray[np.float64]
    """(n,): on how many lists each was asked."""
    log: ClickLog
    """The lists of these queries; what is no candidate any more is not in it."""
    query_of_list: NDArray[np.int64]
    """(lists,): the query of each."""
    place_of: NDArray[np.int64]
    """(pairs,): index of each pair of the log among all candidates (m,); -1 for none."""
    languages: NDArray[np.str_]
    """(n,): the language that most of a query's chosen candidates are in, "" where none says one."""
    options: TrialOptions

    def shown_scores(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """(lists, depth): the scores (m,) of what was shown."""
        known = np.append(scores.astype(np.float64), 0.0)
        place = np.append(self.place_of, -1)[self.log.pairs]
        shown: NDArray[np.float64] = known[place]
        return shown


def build_trial(
    snapshot: Snapshot, events: pl.DataFrame, chances: NDArray[np.float64], options: TrialOptions
) -> ClickTrial:
    """Of a period's events, with the propensities (depth,) that an earlier period has taught."""
    happened = outcomes(events, len(chances))
    queries = _select_queries(happened, options.queries)
    found = candidate_lists(
        snapshot,
        queries.queries,
        options.now,
        depth=options.depth,
        popularity=options.popularity,
        memory=options.memory,
    )
    place_of = _placed(found, queries.of_pair, _rows(snapshot, happened.pairs["product_id"]))
    is_placed, is_listed = place_of >= 0, queries.of_row >= 0
    shown = np.unique(place_of[is_placed])
    lists = found.select(shown)
    place_of[is_placed] = np.searchsorted(shown, place_of[is_placed])
    # What each candidate gained, freed of position.
    log, targets = happened.log, np.zeros(len(shown), np.float32)
    gains = unbiased_gains(log.pairs, happened.acts, chances, np.array(WORTH), log.count)
    targets[place_of[is_placed]] = gains[is_placed]
    is_chosen = np.zeros(len(shown), np.bool_)
    is_chosen[place_of[is_placed]] = _any_act(happened)[is_placed]
    judges = (np.bincount(lists.query_of, is_chosen, len(lists)) > 0) & (lists.lengths > 1)
    targets[~judges[lists.query_of]] = 0
    log = log.rows(is_listed)
    known = np.append(is_placed, False)[log.pairs]
    log = ClickLog(np.where(known, log.pairs, NOTHING), log.clicks & known, log.count)
    data = list_data(snapshot, lists, targets)
    numbers = np.flatnonzero(judges)
    languages = np.array(_languages(snapshot, lists, is_chosen), np.str_)
    of_row = queries.of_row[is_listed]
    return ClickTrial(data, is_chosen, numbers, queries.traffic, log, of_row, place_of, languages, options)


def _languages(snapshot: Snapshot, lists: CandidateLists, is_chosen: NDArray[np.bool_]) -> list[str]:
    found = []
    for number in range(len(lists)):
        place = lists.place(number)
        rows = lists.rows[place][is_chosen[place]]
        languages = Counter(snapshot.products[row].language for row in rows.tolist())
        found.append(max(languages, key=lambda each: languages[each]) if languages else "")
    return found


def _any_act(happened: Outcomes) -> NDArray[np.bool_]:
    """(pairs,): which pairs something was done on."""
    found = np.zeros(happened.log.count, np.bool_)
    found[happened.log.pairs[happened.acts.any(axis=2)]] = True
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _TrialQueries:
    queries: list[str]
    traffic: NDArray[np.float64]
    """(n,)."""
    of_pair: NDArray[np.int64]
    """(pairs,): the number of each pair's query; -1 where it is none of them."""
    of_row: NDArray[np.int64]
    """(lists,): the same of each list."""


def _select_queries(happened: Outcomes, most: int) -> _TrialQueries:
    names = happened.pairs.filter(pl.col("query") != "")["query"].unique(maintain_order=True).to_list()
    numbers = dict(zip(names, range(len(names)), strict=True))
    of_pair = happened.pairs["query"].replace_strict(numbers, default=-1, return_dtype=pl.Int64).to_numpy()
    of_row = np.append(of_pair, -1)[happened.log.pairs.max(axis=1, initial=-1)]
    traffic = np.bincount(of_row[of_row >= 0], minlength=len(names))
    chosen = np.sort(np.argsort(-traffic, kind="stable")[:most])
    renumbered = np.full(len(names) + 1, -1)
    renumbered[chosen] = np.arange(len(chosen))
    queries = [names[each] for each in chosen.tolist()]
    return _TrialQueries(queries, traffic[chosen].astype(float), renumbered[of_pair], renumbered[of_row])


def _rows(snapshot: Snapshot, products: pl.Series) -> NDArray[np.int64]:
    """(pairs,): the row of each pair's product; -1 where it is gone."""
    found = {name: snapshot.products.row_of(name) for name in products.unique().to_list()}
    known = {name: row for name, row in found.items() if row is not None}
    rows: NDArray[np.int64] = products.replace_strict(known, default=-1, return_dtype=pl.Int64).to_numpy()
    return rows


def _placed(lists: CandidateLists, numbers: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(pairs,): index of the candidate of each list's number and row among all; -1 for none."""
    width = max(int(lists.rows.max(initial=0)), int(rows.max(initial=0))) + 1
    at = places_of(numbers * width + rows, lists.query_of * width + lists.rows)
    return np.where((numbers >= 0) & (rows >= 0), at, -1)


@dataclass(frozen=True, slots=True)
class ClickRankerOptions:
    """What to learn from, and how."""

    method: ClickMethod = "debiased"
    training: ClickOptions = field(default_factory=ClickOptions)
    queries: int = 20_000
    """The most frequent ones with a click."""
    candidates: int = 28
    """Of each of them."""
    depth: int = 100
    """Of the merged order: what serving reranks."""
    validating: int = 500
    """Queries that choose, the most frequent ones."""
    least: int = LEAST_LISTS
    """Of lists of queries, one for each half of the shoppers, that can be learned from."""
    histories: HistoryOptions = field(default_factory=HistoryOptions)
    erasures: int = 0
    """Of shoppers, so far: see `service.events.privacy.erasures`."""
    federation: Federation | None = None
    """That with other stores, of which the network is; None trains on these lists alone."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A network that was trained, with what becomes its score."""

    method: ClickMethod
    network: RankerNetwork
    """Without a history."""
    curve: Sequence[Epoch]
    mixing: Mixing
    guarantee: PrivacyGuarantee | None = None
    """Of a private training."""

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
    """What came of training on shoppers' histories."""

    summary: str
    """What was done, and why there is no attention where there is none."""
    attention: HistoryAttention | None = None
    gain: Difference | None = None
    """Of the mean reciprocal rank of what was clicked, with a history over without; by shopper."""
    curve: Sequence[Epoch] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ClickTrainingSet:
    """What a training works with."""

    snapshot: Snapshot
    periods: Periods
    evidence: ClickEvidence
    """Of the first period."""
    predictions: tuple[HeldOutFit, ...]
    """How well its click model predicts the clicks of the second one."""
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
    """On how many held-out lists it was asked."""
    before: tuple[str, ...]
    """Titles, by what served before."""
    after: tuple[str, ...]
    """The same by the new ranker."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickTraining:
    """A training that ran to its end."""

    dataset: ClickTrainingSet
    networks: Mapping[ClickMethod, TrainedNetwork]
    """By the way that was asked for, and the naive one."""
    history: HistoryResult
    added: AddedRanker
    examples: tuple[FirstHits, ...] = ()
    """The most frequent first."""
    off_policy: OffPolicyEstimate | None = None
    """What the new ranker would have brought on the held-out lists; None where none has a query."""


def build_training_set(
    snapshot: Snapshot,
    events: pl.DataFrame,
    served: StoredRanker | None,
    options: ClickRankerOptions,
    now: float,
    progress: Progress,
    earlier: Earlier = NOTHING_EARLIER,
) -> ClickTrainingSet:
    """Joins the events of `rerank.sessions.tables.Derived.lists` with the candidates that their queries have now.

    In all three periods products are as popular as they were at the end of the first: what later lists choose and judge
    is not in what it is chosen and judged by. What is remembered of a query is of the lists before the period; of the
    lists that are learned from, of those of the other half of the shoppers.

    Raises TrainingError where there is too little to learn from, EncoderError where queries cannot be encoded.
    """
    progress.begin("click model", None, "")
    periods = split_by_time(events)
    folds = fold_by_shopper(periods.training)
    evidence = fit_evidence(folds, by_shopper=options.training.private is not None)
    predictions = evaluate_later(periods.training, periods.validation, LABELS)
    progress.end(f"of {evidence.log.size:,} lists; perplexity on later ones: {', '.join(map(str, predictions))}")
    progress.begin("labels", None, "")
    folded = queries_with_clicks(evidence, FOLDS * options.queries)
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
    left = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in clicks.excluded.counts().items() if count)
    progress.end(f"{len(clicks.usable):,} lists to learn from" + (f"; left out: {left}" if left else ""))
    data = ClickData(clicks, list_data(snapshot, clicks.lists, clicks.gains[:, 0]))
    progress.begin("trials", None, "")
    chances = propensities(evidence.examination, options.training.least_propensity)
    known = earlier.memory(periods.training, periods.choosing)
    choosing = TrialOptions(now, options.depth, options.validating, popularity, known)
    validating = build_trial(snapshot, periods.validation, chances, choosing)
    known = earlier.memory(pl.concat([periods.training, periods.validation]), periods.judging)
    judging = TrialOptions(now, options.depth, popularity=popularity, memory=known)
    held_out = build_trial(snapshot, periods.held_out, chances, judging)
    progress.end(f"{len(validating.numbers):,} later queries for validation, {len(held_out.numbers):,} for the test")
    return ClickTrainingSet(
        snapshot, periods, evidence, predictions, clicks, data, validating, held_out, served, options
    )


def _by_fold(
    snapshot: Snapshot, found: CandidateLists, names: Sequence[str], memories: Sequence[QueryMemory]
) -> CandidateLists:
    """The candidates of queries as those of their folds (n,), each with what the other folds' memory has of it."""
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
    """Another one where a run would train on anything else, or otherwise; `parent` names what it begins with."""
    manifest = made.snapshot.manifest
    found = xxhash.xxh3_64(f"{manifest.version} {manifest.encoder} {parent} {made.options}".encode())
    lists, displays = made.clicks.lists, made.clicks.displays
    validating = made.validating.data
    for array in (lists.rows, lists.features, made.clicks.gains, displays.places, displays.acts, validating.targets):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
