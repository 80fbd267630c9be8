"""Click training data: each query's candidates with debiased click evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from shelfwise.rerank.click_models.click_log import ClickLog, Flags, Floats, Ints, outcomes, shown_places
from shelfwise.rerank.click_models.labels import LIST_DEPTH, fit_twice, signal_rates
from shelfwise.rerank.ranker.network import EVENTS, Inputs
from shelfwise.rerank.sessions.partitions import WHO
from shelfwise.rerank.training.datasets import FOLD, CandidateLists, ListData, query_of_fold
from shelfwise.retrieval.errors import TrainingError

LEAST_ACTS = 50
"""Minimum carts, or purchases, for their own outputs; with fewer, the outputs are trained on clicks."""
KINDS = ("clicks", "carts", "purchases")
"""The last axis of acts and gains, in the order of `shelfwise.rerank.ranker.network.EVENTS`."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickEvidence:
    """The lists of a period and the estimates of a click model."""

    pairs: pl.DataFrame
    """pair, query, product_id: one row a pair, in order."""
    log: ClickLog
    acts: Flags
    """(n, depth, 3): whether the product at each position was clicked, added to the cart, bought."""
    gains: Floats
    """(pairs, 3): rates of clicks, carts and purchases for an examined product."""
    weights: Floats
    """(pairs,): 0 to 1, the share of the attractiveness that comes from clicks, not from the prior."""
    examination: Floats
    """(depth,): examination of each position."""
    shoppers: Ints | None = None
    """(n,): the number of each list's shopper, if the training distinguishes shoppers."""

    @property
    def query(self) -> Ints:
        """(pairs,): query number of each pair, in order of first appearance."""
        return self.pairs["query"].rle_id().to_numpy().astype(np.int32)

    @property
    def query_of_list(self) -> npt.NDArray[np.int64]:
        """(n,): query number of each list; -1 for an empty one."""
        pair = self.log.pairs.max(axis=1, initial=-1)
        query_of: npt.NDArray[np.int64] = np.append(self.query, -1)[pair].astype(np.int64)
        return query_of


def fit_evidence(events: pl.DataFrame, *, by_shopper: bool = False) -> ClickEvidence:
    """Fits a click model to events (see `shelfwise.rerank.click_models.click_log.click_log` for the columns)."""
    happened = outcomes(events, LIST_DEPTH)
    model = fit_twice(happened.log, happened)
    gains, acts = signal_rates(happened, model, 0, happened.log.size), happened.acts
    for at in range(1, len(KINDS)):
        if acts[..., at].sum() < LEAST_ACTS:
            gains[:, at], acts[..., at] = gains[:, 0], acts[..., 0]
    weights = model.estimates.click_share
    shoppers = _shoppers_of(events, LIST_DEPTH) if by_shopper else None
    return ClickEvidence(happened.pairs, happened.log, acts, gains, weights, model.examination, shoppers)


def _shoppers_of(events: pl.DataFrame, depth: int) -> Ints:
    """(n,): the number of each list's shopper in a log."""
    rows = shown_places(events, depth).select("row", "query_id").unique("row").sort("row")
    whose = events.filter(pl.col("kind") == "impression").group_by("query_id").agg(pl.col(WHO).min())
    found = rows.join(whose, on="query_id", how="left", maintain_order="left")[WHO]
    return (found.rank("dense") - 1).to_numpy().astype(np.int32)


def queries_with_clicks(evidence: ClickEvidence, most: int) -> tuple[str, ...]:
    """The most frequent queries with acts, at most `most`."""
    query_of = evidence.query_of_list
    names = evidence.pairs["query"].unique(maintain_order=True).to_list()
    traffic = np.bincount(query_of[query_of >= 0], minlength=len(names))
    acted = np.isin(np.arange(len(names)), query_of[np.asarray(evidence.acts.any(axis=(1, 2)))])
    numbers = np.flatnonzero(acted & np.array([bool(name) for name in names], np.bool_))
    order = numbers[np.argsort(-traffic[numbers], kind="stable")]
    return tuple(names[number] for number in order[:most].tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Displays:
    """k different displays with acts, ordered by list; equal displays are merged."""

    list_of: NDArray[np.int64]
    """(k,): ascending."""
    places: NDArray[np.int16]
    """(k, depth): candidate index in its list at each position; -1 for none."""
    acts: NDArray[np.float32]
    """(k, depth, 3): counts of clicks, carts and purchases."""
    shoppers: NDArray[np.int64] | None = None
    """(k,): each display's shopper, if the training distinguishes them; only displays of one are then merged."""


def build_displays(
    log: ClickLog, acts: Flags, list_of: NDArray[np.int64], place_of: NDArray[np.int64], shoppers: Ints | None = None
) -> Displays:
    """Builds displays of a log: `list_of` (n,) is each row's list, `place_of` (pairs,) each pair's candidate index,
    -1 for none, `shoppers` (n,) each row's shopper. Displays without acts on a candidate are dropped."""
    places = np.append(place_of, -1)[log.pairs].astype(np.int16)
    acts = acts & (places >= 0)[..., None]
    rows = np.flatnonzero((list_of >= 0) & acts.any(axis=(1, 2)))
    depth = log.depth
    if not len(rows):
        return Displays(np.empty(0, np.int64), np.empty((0, depth), np.int16), np.empty((0, depth, 3), np.float32))
    whose = np.zeros(len(list_of), np.int64) if shoppers is None else shoppers
    keys = np.column_stack([list_of[rows], whose[rows], places[rows]])
    found, number = np.unique(keys, axis=0, return_inverse=True)
    counted = np.zeros((len(found), depth, acts.shape[2]), np.float32)
    np.add.at(counted, number.reshape(-1), acts[rows].astype(np.float32))
    owners = None if shoppers is None else found[:, 1].astype(np.int64)
    return Displays(found[:, 0].astype(np.int64), found[:, 2:].astype(np.int16), counted, owners)


LEAST_LISTS = 20
"""Minimum number of queries that training requires."""
_JOINED = ["list", "row"]


@dataclass(frozen=True, slots=True)
class ExclusionCounts:
    """Counts of excluded queries and pairs."""

    unclicked_queries: int = 0
    """Queries without a click."""
    gone_products: int = 0
    """Pairs whose product is no longer in the catalog."""
    lost_candidates: int = 0
    """Pairs whose product is no longer a candidate of its query."""
    unanswered_queries: int = 0
    """Queries without a clicked candidate, or with nothing to compare it with."""

    def counts(self) -> Mapping[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class ClickLists:
    """n queries with their m candidates, both shown and sampled ones."""

    lists: CandidateLists
    gains: NDArray[np.float32]
    """(m, 3): debiased rates of click, cart and purchase; 0 for candidates that were not shown."""
    is_shown: NDArray[np.bool_]
    """(m,)."""
    weights: NDArray[np.float32]
    """(n,): 0 to 1, share of the gains that comes from clicks."""
    displays: Displays
    examination: NDArray[np.float64]
    """(depth,): examination of each position."""
    usable: NDArray[np.int64]
    """Lists with a clicked candidate and another one; ascending."""
    excluded: ExclusionCounts

    @property
    def query_count(self) -> int:
        """The number of queries in the usable lists."""
        return len({query_of_fold(self.lists.queries[number]) for number in self.usable})


def click_lists(
    evidence: ClickEvidence,
    found: CandidateLists,
    row_of: Callable[[str], int | None],
    most: int = 28,
    seed: int = 0,
    least: int = LEAST_LISTS,
) -> ClickLists:
    """Joins click evidence with the current candidates of the queries. `found` are queries of the evidence with
    their best candidates, `row_of` gives the row of a product id, None if missing. Lists are filled up to `most`
    with unshown candidates, sampled by the seed and the query. Raises TrainingError if fewer than `least` queries
    have both a clicked candidate and another one."""
    if not evidence.acts.any():
        raise TrainingError(
            f"none of {evidence.log.size:,} lists was clicked; train with --from-catalog until there are clicks"
        )
    pairs, gone = place_pairs(evidence.pairs, found, row_of)
    place = pairs["place"].fill_null(-1).to_numpy()
    is_shown = np.zeros(len(found.rows), np.bool_)
    is_shown[place[place >= 0]] = True
    lists, kept = _drawn(found, is_shown, most, seed)
    known = np.flatnonzero(place >= 0)
    at = np.searchsorted(kept, place[known])
    gains = np.zeros((len(kept), len(KINDS)), np.float32)
    gains[at] = evidence.gains[known]
    local = np.full(len(place), -1, np.int64)
    local[known] = at - lists.offsets[lists.query_of[at]]
    of_pair = np.append(pairs["list"].fill_null(-1).to_numpy(), -1)
    list_of = of_pair[evidence.log.pairs.max(axis=1, initial=-1)].astype(np.int64)
    displays = build_displays(evidence.log, evidence.acts, list_of, local, evidence.shoppers)
    weights = _evidence_of(evidence, known, lists.query_of[at], len(lists))
    usable = np.intersect1d(np.unique(displays.list_of), np.flatnonzero(lists.lengths > 1))
    if len(usable) < least:
        raise TrainingError(
            f"{len(usable)} of {len(found)} query lists have a clicked and another candidate; at least {least} are "
            f"needed: collect more clicks, or train with --from-catalog"
        )
    answered = (lists.queries[number] for number in usable.tolist())
    left_out = ExclusionCounts(
        unclicked_queries=_unclicked(evidence),
        gone_products=gone,
        lost_candidates=_count_pairs(pairs.drop_nulls(_JOINED).filter(pl.col("place").is_null())),
        unanswered_queries=len(set(map(query_of_fold, found.queries)) - {query_of_fold(each) for each in answered}),
    )
    return ClickLists(lists, gains, is_shown[kept], weights, displays, evidence.examination, usable, left_out)


def place_pairs(
    pairs: pl.DataFrame, found: CandidateLists, row_of: Callable[[str], int | None]
) -> tuple[pl.DataFrame, int]:
    """Adds the list, the row and the place in `found.rows` to the pairs (query, product_id), null if missing; also
    counts the pairs without a row."""
    ids = pairs["product_id"].unique()
    rows = pl.DataFrame(
        {"product_id": ids, "row": [row_of(each) for each in ids.to_list()]},
        schema={"product_id": pl.String, "row": pl.Int64},
    )
    numbers = pl.DataFrame(
        {"query": found.queries, "list": np.arange(len(found))}, schema={"query": pl.String, "list": pl.Int64}
    )
    places = pl.DataFrame({"list": found.query_of, "row": found.rows, "place": np.arange(len(found.rows))})
    joined = (
        pairs.join(rows, on="product_id", how="left", maintain_order="left")
        .join(numbers, on="query", how="left", maintain_order="left")
        .join(places, on=_JOINED, how="left", maintain_order="left")
    )
    return joined, _count_pairs(joined.filter(pl.col("row").is_null()))


def _drawn(
    found: CandidateLists, is_shown: NDArray[np.bool_], most: int, seed: int
) -> tuple[CandidateLists, NDArray[np.int64]]:
    """Shown candidates and a sample of the others, and their places in `found`."""
    kept = [np.empty(0, np.int64)]
    for number, query in enumerate(found.queries):
        place = found.place(number)
        shown = is_shown[place]
        others = np.flatnonzero(~shown) + place.start
        wanted = min(len(others), max(0, most - int(shown.sum())))
        rng = np.random.default_rng(xxhash.xxh3_64_intdigest(f"{seed}/{query}".encode("utf-8", "surrogatepass")))
        drawn = rng.choice(others, wanted, replace=False) if wanted else others[:0]
        kept.append(np.sort(np.concatenate([np.flatnonzero(shown) + place.start, drawn])))
    places = np.concatenate(kept)
    return found.select(places), places


def _evidence_of(
    evidence: ClickEvidence, known: NDArray[np.int64], list_of: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """(lists,): mean weight of a list's pairs, by impressions."""
    log = evidence.log
    shown = np.bincount(log.pairs[log.shown], minlength=log.count)[known].astype(np.float64)
    total = np.bincount(list_of, shown, count)
    weighted = np.bincount(list_of, shown * evidence.weights[known], count)
    return (weighted / np.maximum(total, 1.0)).astype(np.float32)


def _unclicked(evidence: ClickEvidence) -> int:
    names = evidence.pairs["query"].unique(maintain_order=True).to_list()
    query_of, is_acted = evidence.query_of_list, evidence.acts.any(axis=(1, 2))
    shown, acted = (
        {query_of_fold(names[number]) for number in np.unique(query_of[chosen]).tolist()}
        for chosen in (query_of >= 0, is_acted & (query_of >= 0))
    )
    return len(shown - acted)


def _count_pairs(pairs: pl.DataFrame) -> int:
    """The number of pairs of a query and a product; the folds of a query count as one."""
    return len({(query_of_fold(query), product) for query, product in pairs.select("query", "product_id").iter_rows()})


@dataclass(frozen=True, slots=True)
class ClickBatch:
    """B lists with c candidates each."""

    inputs: Inputs
    is_candidate: Tensor
    """(B, c)."""
    gains: Tensor
    """(B, c, 3)."""
    weights: Tensor
    """(B,)."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Sampling options of an epoch."""

    lists: int = 16
    dropped: float = 0.05
    """Share of candidates without token states, as of newly added products."""


@dataclass(frozen=True, slots=True)
class ClickData:
    """Clicked lists and the inputs of their batches."""

    clicks: ClickLists
    data: ListData

    def shuffled(self, draw: Draw, seed: int) -> Iterator[ClickBatch]:
        """An epoch of the usable lists, in an order drawn from the seed."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(self.clicks.usable)
        for start in range(0, len(order), draw.lists):
            yield self.batch(order[start : start + draw.lists].tolist(), draw, int(rng.integers(2**31)))

    def batch(self, numbers: list[int], draw: Draw, seed: int) -> ClickBatch:
        clicks = self.clicks
        made = self.data.batch(numbers, draw.dropped, seed)
        kept, places = made.is_candidate.numpy(), clicks.lists.places(np.array(numbers, np.int64))
        gains = np.zeros((*kept.shape, len(EVENTS)), np.float32)
        gains[kept] = clicks.gains[places]
        weights = torch.from_numpy(clicks.weights[numbers])
        return ClickBatch(made.inputs, made.is_candidate, torch.from_numpy(gains), weights)


LEAST_SHOWN = 100
"""Minimum number of lists for a split."""


@dataclass(frozen=True, slots=True, eq=False)
class Periods:
    """Events by period, with the columns of `shelfwise.rerank.click_models.click_log.click_log`. All events of a list
    belong to the period of its first impression."""

    training: pl.DataFrame
    validation: pl.DataFrame
    held_out: pl.DataFrame

    @property
    def choosing(self) -> datetime:
        return cast(datetime, self.validation["time"].min())

    @property
    def judging(self) -> datetime:
        return cast(datetime, self.held_out["time"].min())


def split_by_time(events: pl.DataFrame, validation: float = 0.1, held_out: float = 0.2) -> Periods:
    """Splits a log by the time of its lists: the last share is held out, the one before it validates. Acts without a
    shown list are dropped. Raises TrainingError for too few lists."""
    starts = events.filter((pl.col("kind") == "impression") & (pl.col("query_id") != ""))
    lists = starts.group_by("query_id").agg(pl.col("time").min().alias("start")).sort("start", "query_id")
    if lists.height < LEAST_SHOWN:
        raise TrainingError(
            f"the log has {lists.height} shown lists; training on clicks needs at least {LEAST_SHOWN}: import more "
            "events, or train with --from-catalog"
        )
    judging = lists.height - max(1, round(lists.height * held_out))
    choosing = judging - max(1, round(lists.height * validation))
    number = pl.int_range(pl.len())
    period = pl.when(number < choosing).then(0).when(number < judging).then(1).otherwise(2)
    known = events.join(lists.select("query_id", period=period), on="query_id", maintain_order="left")
    parts = (known.filter(pl.col("period") == each).drop("period") for each in range(3))
    return Periods(*parts)


FOLDS = 2


def fold_by_shopper(events: pl.DataFrame) -> pl.DataFrame:
    """The events, with the fold number of their list's shopper appended to their query.

    Each query then has one list of candidates per fold, whose features can be computed from the other folds. So no
    shopper's clicks are in the features that have to predict them (cross-fitting: Chernozhukov et al. 2018,
    Double/debiased machine learning for treatment and structural parameters, section 3).
    """
    whose = events.filter(pl.col("kind") == "impression").group_by("query_id").agg(pl.col(WHO).min())
    names = whose[WHO].unique()
    number = [xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass")) % FOLDS for name in names.to_list()]
    numbers = pl.DataFrame({WHO: names, "_fold": number}, schema={WHO: pl.String, "_fold": pl.Int64})
    joined = events.join(whose.join(numbers, on=WHO).drop(WHO), on="query_id", how="left", maintain_order="left")
    name = pl.format("{}" + FOLD + "{}", "query", "_fold")
    return joined.with_columns(query=pl.when(pl.col("query") != "").then(name).otherwise("query")).drop("_fold")


def fold_of(name: str) -> int:
    """The number of a fold by its name."""
    return int(name.partition(FOLD)[2])


def other_folds(events: pl.DataFrame) -> list[pl.DataFrame]:
    """The events of all folds but one, for each fold in turn, under the names of their queries."""
    named = events.filter(pl.col("query") != "")
    rows = [(name, query_of_fold(name), fold_of(name)) for name in named["query"].unique().to_list()]
    parts = pl.DataFrame(rows, schema={"query": pl.String, "_query": pl.String, "_fold": pl.Int64}, orient="row")
    named = named.join(parts, on="query", how="left", maintain_order="left").with_columns(query="_query")
    return [named.filter(pl.col("_fold") != number).drop("_query", "_fold") for number in range(FOLDS)]
