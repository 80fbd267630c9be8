"""Lists to learn from clicks on: each query's candidates, with what shoppers said of those that they were shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from rerank.training.click_evidence import KINDS, ClickEvidence
from rerank.training.displays import Displays, displays
from rerank.training.lists import CandidateLists
from retrieval.errors import TrainingError

LEAST_LISTS = 20
"""Queries with something to tell apart that training takes."""
_JOINED = ["list", "row"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What cannot be learned from, counted."""

    unclicked_queries: int = 0
    """Queries that were shown and never clicked."""
    gone_products: int = 0
    """Pairs whose product the catalog does not have any more."""
    lost_candidates: int = 0
    """Pairs whose product is not among its query's candidates now."""
    unanswered_queries: int = 0
    """Queries all of whose clicks were on such pairs, or that leave nothing to choose from."""

    def counts(self) -> Mapping[str, int]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class ClickLists:
    """n queries with their m candidates: all that were shown and some that were not."""

    lists: CandidateLists
    gains: NDArray[np.float32]
    """(m, 3): the debiased rates of click, cart and purchase; 0 for what was never shown."""
    is_shown: NDArray[np.bool_]
    """(m,)."""
    weights: NDArray[np.float32]
    """(n,): 0 to 1, how much of the gains comes from clicks."""
    displays: Displays
    examination: NDArray[np.float64]
    """(depth,): how often each position is looked at."""
    usable: NDArray[np.int64]
    """The lists that have something to tell apart; ascending."""
    left_out: LeftOut


def click_lists(
    evidence: ClickEvidence,
    found: CandidateLists,
    row_of: Callable[[str], int | None],
    most: int = 28,
    seed: int = 0,
    least: int = LEAST_LISTS,
) -> ClickLists:
    """Joins what clicks say with the candidates that the queries have now.

    `found` are queries of the evidence with their best candidates, `row_of` gives the row of a product id, None where
    it is gone. Of candidates that were not shown, as many as fill a list up to `most` are drawn, by the seed and the
    query alone: they stand for all that a ranker meets besides. Raises TrainingError where fewer than `least` queries
    have both a candidate that was clicked and another one.
    """
    if not evidence.acts.any():
        raise TrainingError(
            f"nothing was clicked on any of {evidence.log.size:,} lists; train with --from-catalog until something is"
        )
    pairs, gone = placed(evidence.pairs, found, row_of)
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
    told = displays(evidence.log, evidence.acts, _lists_of(evidence, pairs), local)
    weights = _evidence_of(evidence, known, lists.query_of[at], len(lists))
    usable = np.intersect1d(np.unique(told.list_of), np.flatnonzero(lists.lengths > 1))
    if len(usable) < least:
        raise TrainingError(
            f"{len(usable)} of {len(found)} queries have a candidate that was clicked and one beside it; at least "
            f"{least} are needed: gather more clicks, or train with --from-catalog"
        )
    left_out = LeftOut(
        unclicked_queries=_unclicked(evidence),
        gone_products=gone,
        lost_candidates=int(
            (pairs["list"].is_not_null() & pairs["row"].is_not_null() & pairs["place"].is_null()).sum()
        ),
        unanswered_queries=len(found) - len(usable),
    )
    return ClickLists(lists, gains, is_shown[kept], weights, told, evidence.examination, usable, left_out)


def placed(pairs: pl.DataFrame, found: CandidateLists, row_of: Callable[[str], int | None]) -> tuple[pl.DataFrame, int]:
    """The pairs (query, product_id), in their order, with their list, their row and their place in `found.rows`, null
    where there is none; and how many have no row."""
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
    return joined, int(joined["row"].is_null().sum())


def _drawn(
    found: CandidateLists, is_shown: NDArray[np.bool_], most: int, seed: int
) -> tuple[CandidateLists, NDArray[np.int64]]:
    """The lists with what was shown and some that was not, and where these candidates stood in `found`."""
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
    return found.taken(places), places


def _lists_of(evidence: ClickEvidence, pairs: pl.DataFrame) -> NDArray[np.int64]:
    """(n,): the list of each row of the log, -1 where its query is none of them."""
    of = pairs["list"].fill_null(-1).to_numpy()
    lists: NDArray[np.int64] = np.append(of, -1)[evidence.log.pairs.max(axis=1, initial=-1)].astype(np.int64)
    return lists


def _evidence_of(
    evidence: ClickEvidence, known: NDArray[np.int64], list_of: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """(lists,): the mean weight of a list's pairs, each by how often it was shown."""
    log = evidence.log
    shown = np.bincount(log.pairs[log.shown], minlength=log.count)[known].astype(np.float64)
    total = np.bincount(list_of, shown, count)
    told = np.bincount(list_of, shown * evidence.weights[known], count)
    return (told / np.maximum(total, 1.0)).astype(np.float32)


def _unclicked(evidence: ClickEvidence) -> int:
    asked, acted = evidence.asked, evidence.acts.any(axis=(1, 2))
    return len(np.setdiff1d(np.unique(asked[asked >= 0]), asked[acted]))
