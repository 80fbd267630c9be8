"""Click training data: each query's candidates with debiased click evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import ClickLog, Flags, Floats, Ints, outcomes, shown_places
from shelfwise.rerank.click_models.labels import LIST_DEPTH, fit_twice, signal_rates
from shelfwise.rerank.ranker.network import EVENTS
from shelfwise.rerank.sessions.partitions import WHO
from shelfwise.rerank.training.datasets import FOLD, CandidateLists, ListData, query_of_fold
from shelfwise.retrieval.errors import TrainingError

MIN_ACTS = 50
"""Minimum carts, or purchases, for their own outputs; with fewer, the outputs are trained on clicks."""


@dataclass(frozen=True, slots=True, eq=False)
class ShownLists:
    """The lists of a period, with the acts on them."""

    pairs: pl.DataFrame
    """pair, query, product_id: one row a pair, in order."""
    log: ClickLog
    acts: Flags
    """(n, depth, 3): whether the product at each position was clicked, added to the cart, bought."""

    @property
    def query_of_list(self) -> npt.NDArray[np.int64]:
        """(n,): query number of each list, in order of first appearance; -1 for an empty one."""
        return self.by_list(self.pairs["query"].rle_id().to_numpy())

    def by_list(self, of_pair: NDArray[np.integer]) -> NDArray[np.int64]:
        """(n,): the value of each list's query, by a value for each pair; -1 for an empty list."""
        return np.asarray(np.append(of_pair, -1)[self.log.pairs.max(axis=1, initial=-1)], np.int64)

    def frequent_queries(self, most: int, *, acted: bool = False) -> tuple[str, ...]:
        """The queries of the most lists, at most `most`, most frequent first; if `acted`, only those with acts."""
        query_of = self.query_of_list
        names = self.pairs["query"].unique(maintain_order=True).to_list()
        traffic = np.bincount(query_of[query_of >= 0], minlength=len(names))
        has_acts = np.isin(np.arange(len(names)), query_of[np.asarray(self.acts.any(axis=(1, 2)))])
        is_named = np.array([bool(name) for name in names], np.bool_)
        numbers = np.flatnonzero(is_named & has_acts if acted else is_named)
        order = numbers[np.argsort(-traffic[numbers], kind="stable")]
        return tuple(names[number] for number in order[:most].tolist())


def shown_lists(events: pl.DataFrame, depth: int) -> ShownLists:
    """Reads events with the columns of `shelfwise.rerank.click_models.click_log.click_log`."""
    happened = outcomes(events, depth)
    return ShownLists(happened.pairs, happened.log, happened.acts)


@dataclass(frozen=True, slots=True, eq=False)
class ClickEvidence(ShownLists):
    """The lists of a period and the estimates of a click model."""

    gains: Floats
    """(pairs, 3): rates of clicks, carts and purchases for an examined product."""
    weights: Floats
    """(pairs,): 0 to 1, the share of the attractiveness that comes from clicks, not from the prior."""
    examination: Floats
    """(depth,): examination of each position."""
    shoppers: Ints | None = None
    """(n,): the number of each list's shopper, if the training distinguishes shoppers."""


def fit_evidence(events: pl.DataFrame, *, by_shopper: bool = False) -> ClickEvidence:
    """Fits a click model to events (see `shelfwise.rerank.click_models.click_log.click_log` for the columns)."""
    happened = outcomes(events, LIST_DEPTH)
    model = fit_twice(happened.log, happened)
    gains, acts = signal_rates(happened, model, 0, happened.log.size), happened.acts
    for at in range(1, len(EVENTS)):
        if acts[..., at].sum() < MIN_ACTS:
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


MIN_LISTS = 20
"""Minimum number of queries that training requires."""
_JOINED = ["list", "row"]


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
    excluded: Mapping[str, int]
    """Counts of excluded queries and pairs, by reason."""

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
    least: int = MIN_LISTS,
) -> ClickLists:
    """Joins click evidence with the current candidates of the queries. `found` are queries of the evidence with
    their best candidates, `row_of` gives the row of a product id, None if missing. Lists are filled up to `most`
    with unshown candidates, sampled by the seed and the query. Raises TrainingError if fewer than `least` queries
    have both a clicked candidate and another one."""
    if not evidence.acts.any():
        raise TrainingError(
            f"none of {evidence.log.size:,} lists was clicked; train with --from-catalog until there are clicks"
        )
    joined = join_candidates(evidence, found, row_of, most, seed)
    lists, known = joined.lists, np.flatnonzero(joined.place_of >= 0)
    at = joined.place_of[known]
    gains = np.zeros((len(lists.rows), len(EVENTS)), np.float32)
    gains[at] = evidence.gains[known]
    local = np.full(len(joined.place_of), -1, np.int64)
    local[known] = at - lists.offsets[lists.query_of[at]]
    displays = build_displays(evidence.log, evidence.acts, joined.query_of_list, local, evidence.shoppers)
    weights = _evidence_of(evidence, known, lists.query_of[at], len(lists))
    usable = np.intersect1d(np.unique(displays.list_of), np.flatnonzero(lists.lengths > 1))
    if len(usable) < least:
        raise TrainingError(
            f"{len(usable)} of {len(found)} query lists have a clicked and another candidate; at least {least} are "
            f"needed: collect more clicks, or train with --from-catalog"
        )
    answered = (lists.queries[number] for number in usable.tolist())
    excluded = {
        "queries without a click": _unclicked(evidence),
        "pairs whose product is gone": _count_pairs(joined.pairs.filter(pl.col("row").is_null())),
        "pairs whose product is no longer a candidate": _count_pairs(
            joined.pairs.drop_nulls(_JOINED).filter(pl.col("place").is_null())
        ),
        "queries without a clicked and another candidate": len(
            set(map(query_of_fold, found.queries)) - {query_of_fold(each) for each in answered}
        ),
    }
    return ClickLists(lists, gains, joined.is_shown, weights, displays, evidence.examination, usable, excluded)


def place_pairs(pairs: pl.DataFrame, found: CandidateLists, row_of: Callable[[str], int | None]) -> pl.DataFrame:
    """The pairs (query, product_id) with the list, the row and the place in `found.rows`, null if missing."""
    ids = pairs["product_id"].unique()
    rows = pl.DataFrame(
        {"product_id": ids, "row": [row_of(each) for each in ids.to_list()]},
        schema={"product_id": pl.String, "row": pl.Int64},
    )
    numbers = pl.DataFrame(
        {"query": found.queries, "list": np.arange(len(found))}, schema={"query": pl.String, "list": pl.Int64}
    )
    places = pl.DataFrame({"list": found.query_of, "row": found.rows, "place": np.arange(len(found.rows))})
    return (
        pairs.join(rows, on="product_id", how="left", maintain_order="left")
        .join(numbers, on="query", how="left", maintain_order="left")
        .join(places, on=_JOINED, how="left", maintain_order="left")
    )


@dataclass(frozen=True, slots=True, eq=False)
class JoinedLists:
    """Queries with those of their candidates that shoppers were shown, and a sample of the others (m)."""

    lists: CandidateLists
    is_shown: NDArray[np.bool_]
    """(m,)."""
    place_of: NDArray[np.int64]
    """(pairs,): index of each pair among all candidates; -1 for none."""
    query_of_list: NDArray[np.int64]
    """(lists,): number in `lists` of the query of each list that was shown; -1 for none."""
    pairs: pl.DataFrame
    """The pairs by `place_pairs`, with places before the sampling."""


def join_candidates(
    shown: ShownLists, found: CandidateLists, row_of: Callable[[str], int | None], most: int = 0, seed: int = 0
) -> JoinedLists:
    """Joins the lists of a period with current candidates of their queries. Queries with fewer than `most` shown
    candidates are filled up with others, sampled by the seed and the query."""
    pairs = place_pairs(shown.pairs, found, row_of)
    place = pairs["place"].fill_null(-1).to_numpy().copy()
    is_placed, is_shown = place >= 0, np.zeros(len(found.rows), np.bool_)
    is_shown[place[is_placed]] = True
    lists, kept = _drawn(found, is_shown, most, seed)
    place[is_placed] = np.searchsorted(kept, place[is_placed])
    query_of_list = shown.by_list(pairs["list"].fill_null(-1).to_numpy())
    return JoinedLists(lists, is_shown[kept], place, query_of_list, pairs)


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
class ClickData:
    """Clicked lists and the inputs of their batches, with the gains as targets."""

    clicks: ClickLists
    data: ListData


MIN_SHOWN = 100
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
    if lists.height < MIN_SHOWN:
        raise TrainingError(
            f"the log has {lists.height} shown lists; training on clicks needs at least {MIN_SHOWN}: import more "
            "events, or train with --from-catalog; train users needs no lists"
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
