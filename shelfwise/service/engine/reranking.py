"""The order of the head of a ranking: by the ranker, signals, merchandising rules, diversity and exploration."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import (
    ACT_KINDS,
    MAX_ACTS,
    Candidates,
    FirstStage,
    History,
    Signals,
    feature_matrix,
)
from shelfwise.rerank.ranker.memory import NO_MEMORY, QueryMemory, product_hashes
from shelfwise.retrieval.encoders.base import Tokens, empty_tokens
from shelfwise.retrieval.errors import ModelError, RankerLateError, UnknownFieldError
from shelfwise.retrieval.filters.schema import product_columns
from shelfwise.retrieval.index.fusion import DEFAULT, METHODS, PREFERRED, RetrievalScores
from shelfwise.retrieval.index.grouping import CandidateGroups
from shelfwise.retrieval.index.keyword import NO_ROWS, KeywordIndex, Rows, Selection
from shelfwise.retrieval.index.token_states import ProductTokens
from shelfwise.retrieval.index.vectors import Vectors
from shelfwise.retrieval.records import Contribution, PastAct
from shelfwise.service.curation.relevance import DEFAULT_RELEVANCE, Relevance, Signal
from shelfwise.service.curation.rule_matching import Lift, PinnedProduct
from shelfwise.service.engine.ranking import HEAD, RankerCandidates, Ranking, reorder_head
from shelfwise.service.engine.snapshot import Products, Snapshot
from shelfwise.service.events.signals import NO_POPULARITY, Popularity
from shelfwise.service.experiments.exploration import ExploredProduct

if TYPE_CHECKING:
    from shelfwise.rerank.ranker.onnx import OnnxRanker


MAX_TOGETHER = 8
"""Maximum number of requests that one run of the network scores; with more, the first would wait without gain."""
THREADS = 2


@dataclass(slots=True)
class _ScoringJob:
    candidates: Candidates
    until: float
    """Deadline by the monotonic clock."""
    answer: Future[NDArray[np.float64]] = field(default_factory=Future)


class Reranker:
    """Scores candidates with one ranker, in its own threads. Thread-safe.

    While its threads are busy, requests queue up, and the next run takes up to eight of them. So batches grow with the
    load, and a lone request never waits for others.
    """

    def __init__(self, ranker: OnnxRanker, deadline: float = 60.0, *, threads: int = THREADS) -> None:
        """`deadline` is the time limit of a request in seconds."""
        self.ranker = ranker
        self.deadline = deadline
        self._is_closed = False
        self._closing = threading.Lock()
        """Ensures that no job is queued after the end of the queue."""
        self._queue: queue.SimpleQueue[_ScoringJob | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name="shelfwise-rerank", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def score(self, candidates: Candidates) -> NDArray[np.float64]:
        """The scores (c,) of a query's candidates.

        Raises RankerLateError if they are not ready by the deadline, ModelError if the network fails.
        """
        job = _ScoringJob(candidates, time.monotonic() + self.deadline)
        with self._closing:
            is_closed = self._is_closed
            if not is_closed:
                self._queue.put(job)
        if is_closed:
            # A search that started before another ranker took over.
            self._answer([job])
        try:
            return job.answer.result(self.deadline)
        except LateError:
            job.answer.cancel()
            late = f"{self.ranker.name} returned no scores within {self.deadline * 1_000:.0f} ms"
            raise RankerLateError(f"{late}; results keep the merged order") from None

    def close(self) -> None:
        """Ends the threads once the queue is empty; later calls compute in their own threads."""
        with self._closing:
            self._is_closed = True
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            batch = [job]
            with suppress(queue.Empty):
                while len(batch) < MAX_TOGETHER and (job := self._queue.get_nowait()) is not None:
                    batch.append(job)
            if job is None:
                # For the other thread, or for this one after the current batch.
                self._queue.put(None)
            self._answer([job for job in batch if job.until > time.monotonic()])

    def _answer(self, batch: list[_ScoringJob]) -> None:
        waited_for = [job for job in batch if job.answer.set_running_or_notify_cancel()]
        if not waited_for:
            return
        try:
            scores = self.ranker.score([job.candidates for job in waited_for])
        except Exception as error:  # whatever the error, the waiting thread gets it
            failure = error if isinstance(error, ModelError) else ModelError(f"{self.ranker.name} failed: {error!r}")
            for job in waited_for:
                job.answer.set_exception(failure)
            return
        for job, found in zip(waited_for, scores, strict=True):
            job.answer.set_result(found)


OF_TYPE, OF_SURE_TYPE = 2.0, 4.0
"""The bonus of a product of the type that the query names, in addition to the ranker's feature, and the bonus if the
query names nothing else: rankers learn from lists that rarely name a type alone (docs/decisions/0017)."""
DEPTH = 100
"""Number of candidates of the merged order that are scored; later ones keep their positions."""


@dataclass(frozen=True, slots=True)
class Reranking:
    """A ranker for the searches of one snapshot."""

    snapshot: Snapshot
    reranker: Reranker
    past: tuple[PastAct, ...] = ()
    """History of the searching shopper."""
    popularity: Popularity = NO_POPULARITY
    memory: QueryMemory = NO_MEMORY

    @property
    def reads_tokens(self) -> bool:
        """Whether the ranker reads the query's tokens."""
        return self.snapshot.states is not None and self.reranker.ranker.reads_states

    @property
    def name(self) -> str:
        return self.reranker.ranker.name

    @property
    def reads_history(self) -> bool:
        """Whether the ranker reads the shopper's history."""
        return self.reranker.ranker.reads_history

    @property
    def judges_relevance(self) -> bool:
        """Whether `Ranking.fit` is a probability of relevance."""
        return self.reranker.ranker.judges_relevance

    def rerank(self, ranking: Ranking, tokens: Tokens | None) -> None:
        """Reorders the ranking's head by the ranker, exact identifiers first. Raises ModelError if it fails or is late;
        the ranking then stays unchanged."""
        count = min(DEPTH, len(ranking.rows))
        if count:
            candidates = self._candidates(ranking, count, tokens)
            scores = self.reranker.score(candidates)
            gained = bonuses(ranking, count)
            scored = RankerCandidates(ranking.rows[:count], candidates, *gained)
            reorder_head(ranking, scores + np.sum(gained, axis=0))
            ranking.scored = scored
            ranking.fit = float(self.reranker.ranker.fit(scores).max())

    def score(self, candidates: Candidates) -> NDArray[np.float64]:
        """Scores (c,) without bonuses; the network runs in the calling thread. Raises ModelError on failure."""
        (scores,) = self.reranker.ranker.score([candidates])
        return scores

    def _candidates(self, ranking: Ranking, count: int, tokens: Tokens | None) -> Candidates:
        rows = ranking.rows[:count]
        query, idf, products = self._tokens(rows, tokens)
        now = time.time()
        given = self.snapshot, ranking, count, products.has_any, now, self.popularity
        features = candidate_features(*given, self.memory if self.reranker.ranker.reads_memory else NO_MEMORY)
        vectors, history = self._history(rows, now)
        return Candidates(query, idf, products, features, vectors, history)

    def _history(self, rows: Rows, now: float) -> tuple[Vectors, History]:
        """The candidates' vectors and the shopper's history; nothing is looked up that the ranker would not read."""
        vectors = self.snapshot.vectors
        if self.past and self.reads_history:
            history = read_history(self.snapshot, self.past, now)
            if len(history.kinds):
                return vectors.gather(rows), history
        return np.empty((len(rows), 0), np.float32), History.none(vectors.dimension)

    def _tokens(self, rows: Rows, tokens: Tokens | None) -> tuple[Tokens, NDArray[np.float32], ProductTokens]:
        states = self.snapshot.states
        if states is None or tokens is None:
            dimension = self.reranker.ranker.spec.state_dimension
            nothing = ProductTokens.none(len(rows), dimension)
            return empty_tokens(dimension), np.empty(0, np.float32), nothing
        query = states.narrow_query(tokens)
        return query, states.idf[query.ids], states.gather(rows)


def bonuses(ranking: Ranking, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The bonuses of the first `count` candidates of a merged ranking, (c,) each: for the type, for the price and the
    values that the query names, and for their pictures."""
    named = bonuses_of(ranking.evidence.select(np.arange(count)), is_type_sure=ranking.is_type_sure)
    return *named, ranking.by_picture[:count]


def bonuses_of(found: RetrievalScores, *, is_type_sure: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first two bonuses for all candidates of some scores; `is_type_sure` if the query names nothing but a type."""
    return (OF_SURE_TYPE if is_type_sure else OF_TYPE) * found.intent, PREFERRED * found.preferred


_SECONDS_A_DAY = 86_400.0


def first_stage(found: RetrievalScores, best_bm25: float) -> FirstStage:
    """The stage scores of candidates that features read."""
    # Independent of the requested merge method: a ranker reads what it was trained on.
    merged = METHODS[DEFAULT](found)
    return FirstStage(merged, found.bm25, found.cosine, found.similarity, found.intent, found.words, best_bm25)


def candidate_features(
    snapshot: Snapshot,
    ranking: Ranking,
    count: int,
    has_states: NDArray[np.bool_],
    now: float,
    popularity: Popularity,
    memory: QueryMemory = NO_MEMORY,
) -> NDArray[np.float32]:
    """The features (c, F) of the first `count` candidates of a merged ranking. `has_states` (c,): whose tokens are
    available; `now` is in seconds since 1970."""
    first = first_stage(ranking.evidence.select(np.arange(count)), ranking.best_bm25)
    rows = ranking.rows[:count]
    chosen = popularity.of_rows(rows, snapshot.products.id_of)
    signals = Signals(snapshot.signals.at(rows), chosen, has_states, now / _SECONDS_A_DAY)
    prices = snapshot.signals.at(ranking.about).price
    known = prices[prices > 0]
    remembered = None
    if len(memory):
        remembered = memory.features(ranking.text, product_hashes([*map(snapshot.products.id_of, rows.tolist())]))
    return feature_matrix(first, signals, float(np.median(known)) if len(known) else np.nan, remembered)


_SAMPLED = 10_000
"""Number of products whose values represent those of the catalog."""


class SignalOrder:
    """Moves the head of a ranking by numeric fields of its products.

    A value counts by its rank within the catalog: the best one adds the weight of its signal, the worst one subtracts
    it, and the median and an unknown value change nothing. So the effect depends neither on the filter nor on the unit.
    """

    def __init__(self, signals: Sequence[Signal], snapshot: Snapshot) -> None:
        """Raises UnknownFieldError for a field that is not a numeric field of the catalog."""
        self._roots = snapshot.catalog.category_roots
        self._fields = [snapshot.catalog.resolve_sortable(signal.field).name for signal in signals]
        self._weights = np.array([signal.weight if signal.descending else -signal.weight for signal in signals])
        size = snapshot.manifest.products
        rows = np.unique(np.linspace(0, size - 1, min(size, _SAMPLED)).astype(np.int64))
        sampled = self._values(snapshot.products, rows).T
        self._known = [np.sort(column[~np.isnan(column)]) for column in sampled]

    def reorder(self, ranking: Ranking, products: Products) -> None:
        """Reorders the best `HEAD` candidates in place, exact identifiers first."""
        rows = ranking.rows[:HEAD]
        values = self._values(products, rows)
        gained = ranking.deviation * self._shares(values) * self._weights
        ranking.signals = {
            row: tuple(map(_contribution, self._fields, values[at], gained[at])) for at, row in enumerate(rows.tolist())
        }
        reorder_head(ranking, ranking.scores[:HEAD] + gained.sum(axis=1))

    def _shares(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (n, signals) as ranks among the known ones, -1 to 1."""
        shares = np.zeros(values.shape)
        for at, (column, known) in enumerate(zip(values.T, self._known, strict=True)):
            is_known = ~np.isnan(column)
            ranks = sum(np.searchsorted(known, column[is_known], side) for side in ("left", "right"))
            shares[is_known, at] = ranks / max(len(known), 1) - 1.0
        return shares

    def _values(self, products: Products, rows: Rows) -> NDArray[np.float64]:
        """The values (n, signals) of products, the lowest of several; NaN for unknown ones."""
        values = np.full((len(rows), len(self._fields)), np.nan)
        for at, row in enumerate(rows.tolist()):
            with suppress(IndexError):  # deleted meanwhile
                numbers = product_columns(products[row], self._roots, self._fields).numbers
                values[at] = [min(numbers.get(name, (np.nan,))) for name in self._fields]
        return values


def _contribution(name: str, value: float, gained: float) -> Contribution:
    return Contribution(f"signal {name}", "not known" if np.isnan(value) else f"{value:g}", float(gained))


@dataclass(frozen=True, slots=True)
class CompiledRelevance:
    """Relevance settings compiled for the searches of one version."""

    settings: Relevance = DEFAULT_RELEVANCE
    signals: SignalOrder | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    """The reason, by field, for each signal that the version cannot apply; such signals are skipped."""

    @property
    def notices(self) -> tuple[str, ...]:
        """One line for each fault."""
        return tuple(f"skipped signal {name!r}: {fault}" for name, fault in self.faults.items())


DEFAULT_SETTINGS = CompiledRelevance()


def compile_relevance(relevance: Relevance, snapshot: Snapshot) -> CompiledRelevance:
    """Settings compiled for a snapshot's version."""
    usable, faults = [], {}
    for signal in relevance.signals:
        try:
            snapshot.catalog.resolve_sortable(signal.field)
            usable.append(signal)
        except UnknownFieldError as error:
            faults[signal.field] = str(error).removeprefix("sort: ")
    return CompiledRelevance(relevance, SignalOrder(usable, snapshot) if usable else None, faults)


@dataclass(frozen=True, slots=True)
class RuleOrder:
    """The first rows of an order, and the effect of rules on it."""

    rows: Rows
    scores: Mapping[int, float] = field(default_factory=dict)
    """The scores that rules changed, by row."""
    rules: Mapping[int, str] = field(default_factory=dict)
    """The rule that moved a row."""
    ranked: Rows = field(default_factory=lambda: NO_ROWS)
    """The ranked part in its order, with all products of each group."""
    explored: ExploredProduct | None = None
    lifted: Sequence[tuple[Lift, Rows]] = ()
    """The lifts, each with the rows of the ranked part to which it applies."""

    @property
    def buried(self) -> Rows:
        """The rows that a rule buries, whatever else moves them."""
        rows = [passing for lift, passing in self.lifted if lift.rule and lift.goal is None and lift.strength < 0]
        return np.concatenate([NO_ROWS, *rows])


@dataclass(frozen=True, slots=True)
class PinnedRow:
    """A row and its wanted position, from 1."""

    row: int
    position: int
    rule: str


class RuleArranger:
    """Applies the pins and lifts, the groups, the diversity and the exploration of one search."""

    def __init__(
        self,
        pins: Sequence[PinnedProduct],
        lifts: Sequence[Lift],
        products: Products,
        keyword: KeywordIndex,
        diversity: Diversity | None,
        explore: Explore | None = None,
    ) -> None:
        self._lifts = lifts
        self._keyword = keyword
        self._diversity = diversity
        self._explore = explore
        rows = [(products.row_of(pin.product), pin) for pin in pins]
        self._pins = [PinnedRow(row, pin.position, pin.rule) for row, pin in rows if row is not None]

    @property
    def pinned(self) -> Rows:
        """The rows that are pinned, if they pass the filter."""
        return np.array([pin.row for pin in self._pins], np.int64) if self._pins else NO_ROWS

    def ranked(self, ranking: Ranking, further: Fetch, end: int, groups: CandidateGroups | None) -> RuleOrder:
        """The rows up to position `end`. `further` returns those of the ranking up to a position, the ranked part
        first. Exact identifiers stay first."""
        pins = [pin for pin in self._pins if pin.row not in ranking.identified and (ranking.rows == pin.row).any()]
        if not (pins or self._lifts or groups or self._diversity or self._explore):
            return RuleOrder(further(end))
        ranked, identified = len(ranking.rows), list(ranking.identified)
        shift, moved, lifted = _shift(self._lifts, ranking, self._keyword)
        scores = ranking.scores + shift
        order = np.lexsort((-scores, ~np.isin(ranking.rows, identified))) if shift.any() else np.arange(ranked)

        def fetch(count: int) -> Rows:
            return np.concatenate([ranking.rows[order], further(max(count, ranked))[ranked:]])

        pins, kept = _one_per_group(pins, groups, ranking.rows[order][: len(identified)])
        least = HEAD if self._diversity or self._explore else 0
        rows = first_rows(fetch, max(end, least) + len(pins), groups, kept)
        changed = {int(ranking.rows[at]): float(scores[at]) for at in np.flatnonzero(shift)}
        if changed:
            behind = min(0.0, float(scores.min(initial=0.0)))
            changed |= dict.fromkeys(rows[~np.isin(rows, ranking.rows)].tolist(), behind)
        leading = int(np.isin(rows, identified).sum())
        if self._diversity:
            rows = rows[~np.isin(rows, [pin.row for pin in pins])]
            rows = self._diversity(rows, dict(zip(ranking.rows.tolist(), scores.tolist(), strict=True)), leading)
        rules, woven, explored = moved | {pin.row: pin.rule for pin in pins}, weave(rows, pins, leading), None
        if self._explore:
            buried = ranking.rows[shift < 0].tolist()
            explored = self._explore(ranking, woven, np.array([*identified, *(pin.row for pin in pins), *buried]))
            if explored:
                # Last, so that it does not take a position from another product.
                woven = weave(rows, [*pins, PinnedRow(explored.row, explored.rank, "")], leading)
        return RuleOrder(woven[:end], changed, rules, ranking.rows[order], explored, lifted)

    def browsed(self, selection: Selection, fetch: Fetch, end: int, groups: CandidateGroups | None) -> RuleOrder:
        """The rows up to position `end`: pinned rows of `selection` at their positions, and between them the rows of
        `fetch` in order."""
        if not self._pins:
            return RuleOrder(first_rows(fetch, end, groups)[:end])
        allowed = self._keyword.select(Selection(rows=np.sort(self.pinned), where=selection.where))
        inside = set(allowed.tolist())
        pins, kept = _one_per_group([pin for pin in self._pins if pin.row in inside], groups)
        woven = weave(first_rows(fetch, end + len(pins), groups, kept), pins, 0)
        return RuleOrder(woven[:end], rules={pin.row: pin.rule for pin in pins})


Fetch = Callable[[int], Rows]
"""Returns the first candidates in order: the given number, or all."""
Diversity = Callable[[Rows, Mapping[int, float], int], Rows]
"""Reorders the head of some rows by their scores; the given number of first rows keep their positions."""
Explore = Callable[[Ranking, Rows, Rows], ExploredProduct | None]
"""Chooses a product of an order to show further up, other than the second rows."""


def first_rows(fetch: Fetch, end: int, groups: CandidateGroups | None, kept: Rows = NO_ROWS) -> Rows:
    """The first candidates up to position `end`, one of each group: one of `kept`, or the first."""
    return groups.first(fetch, end, kept) if groups else fetch(end)


def _one_per_group(
    pins: Sequence[PinnedRow], groups: CandidateGroups | None, identified: Rows = NO_ROWS
) -> tuple[list[PinnedRow], Rows]:
    """The pins that represent their groups, and these with the exact identifiers, which take precedence."""
    rows = np.concatenate([identified, np.array([pin.row for pin in pins], np.int64)])
    kept = groups.collapse(rows) if groups else rows
    return [pin for pin in pins if pin.row in kept], kept


def weave(rows: Rows, pins: Sequence[PinnedRow], leading: int) -> Rows:
    """`rows` (n,) with each pinned row at its position; the first `leading` positions are taken. If two pins want one
    position, the later gets the next free one; if there are too few rows to reach a position, pinned rows come last."""
    occupied = set(range(1, leading + 1))
    places: list[tuple[int, int]] = []
    for pin in pins:
        place = pin.position
        while place in occupied:
            place += 1
        occupied.add(place)
        places.append((place, pin.row))
    places.sort()
    others = rows[~np.isin(rows, [row for _, row in places])]
    before = [min(place - 1 - number, len(others)) for number, (place, _) in enumerate(places)]
    return np.insert(others, before, [row for _, row in places])


def _shift(
    lifts: Sequence[Lift], ranking: Ranking, keyword: KeywordIndex
) -> tuple[NDArray[np.float64], dict[int, str], list[tuple[Lift, Rows]]]:
    """Offset of the ranked part's scores (n,), the rule that moves each row, and the rows of each lift."""
    shift, moved, lifted = np.zeros(len(ranking.rows)), dict[int, str](), list[tuple[Lift, Rows]]()
    if not lifts or not len(ranking.rows):
        return shift, moved, lifted
    unit = ranking.deviation
    for lift in lifts:
        passing = keyword.select(Selection(rows=np.sort(ranking.rows), where=lift.condition))
        shift[np.isin(ranking.rows, passing)] += lift.strength * unit
        for row in passing.tolist() if lift.strength else ():
            moved.setdefault(row, lift.rule)
        lifted.append((lift, passing))
    return shift, moved, lifted


UNREAD = "the history has no effect: no serving ranker reads it"
"""Warning if a search has a history and `SearchEngine.reads_history` is false."""


def newest_acts(snapshot: Snapshot, acts: Sequence[PastAct], now: float) -> Iterator[tuple[int, int, float]]:
    """The rows, kinds (positions in ACT_KINDS) and times in seconds since 1970 of the acts whose products the catalog
    has, newest first. Undated acts get `now`; of acts of the same time, the last given one comes first."""
    timed = ((now if act.at is None else act.at.timestamp(), act) for act in reversed(acts))
    for time_of_act, act in sorted(timed, key=itemgetter(0), reverse=True):
        row = snapshot.products.row_of(act.product_id)
        if row is not None:
            yield row, ACT_KINDS.index(act.kind), time_of_act


def unknown_products_warning(snapshot: Snapshot, acts: Sequence[PastAct]) -> tuple[str, ...]:
    """A warning that names the products of acts that the catalog does not have and that have no effect, if any."""
    gone = dict.fromkeys(act.product_id for act in acts if snapshot.products.row_of(act.product_id) is None)
    named = ", ".join(islice(gone, 5)) + (f" and {len(gone) - 5:,} more" if len(gone) > 5 else "")
    return (f"no product has the id {named}: its acts have no effect",) if gone else ()


def read_history(snapshot: Snapshot, acts: Sequence[PastAct], now: float) -> History:
    """The newest acts whose products the catalog has, as a ranker reads them; `now` is in seconds since 1970.

    A product without a vector, added as a live change while the encoder was unavailable, is skipped, too.
    """
    known = list(islice(newest_acts(snapshot, acts, now), MAX_ACTS))[::-1]
    vectors = snapshot.vectors.gather(np.array([row for row, _, _ in known], np.int64))
    kinds = np.array([kind for _, kind, _ in known], np.int64)
    gaps = np.array([max(0.0, now - time) / _SECONDS_A_DAY for _, _, time in known], np.float32)
    has_vector = vectors.any(axis=1)
    return History(vectors[has_vector], kinds[has_vector], gaps[has_vector])
