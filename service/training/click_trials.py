"""Lists of a later period, which tell how good a ranker is: candidates as they are now, and what was done on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rerank.clicks.click_log import NOTHING, ClickLog
from rerank.clicks.outcomes import Outcomes, outcomes
from rerank.training.batches import ListData
from rerank.training.click_evidence import acts_of
from rerank.training.lists import CandidateLists
from rerank.training.propensity import unbiased_gains
from service.popularity import UNKNOWN, Popularity
from service.snapshot import Snapshot
from service.training.candidate_lists import candidate_lists
from service.training.from_catalog import list_data

WORTH = (1.0, 3.0, 5.0)
"""What a click, a cart and a purchase count for, where gains are added up."""


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """What a trial is made of."""

    now: float
    """Seconds since 1970: what the ages of products are told from."""
    depth: int = 100
    """Candidates of each query: what serving reranks."""
    queries: int = 3_000
    """The most frequent ones."""
    popularity: Popularity = UNKNOWN
    """Of before the period."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """n queries with their candidates, whose gains are the targets of `data`."""

    data: ListData
    numbers: NDArray[np.int64]
    """The queries of which some candidate gained something."""
    traffic: NDArray[np.float64]
    """(n,): on how many lists each was asked."""
    log: ClickLog
    """The lists of these queries; what is no candidate any more is not in it."""
    asked: NDArray[np.int64]
    """(lists,): the query of each."""
    place_of: NDArray[np.int64]
    """(pairs,): where each pair of the log stands among all candidates (m,); -1 for none."""

    def shown_scores(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """(lists, depth): the scores (m,) of what was shown."""
        known = np.append(scores.astype(np.float64), 0.0)
        place = np.append(self.place_of, -1)[self.log.pairs]
        shown: NDArray[np.float64] = known[place]
        return shown

    def languages(self, snapshot: Snapshot) -> tuple[str, ...]:
        """(n,): the language that most of a query's candidates with a gain are in, "" where none says one."""
        lists, gains, found = self.data.lists, self.data.targets, []
        for number in range(len(lists)):
            place = lists.place(number)
            rows = lists.rows[place][gains[place] > 0]
            told = Counter(snapshot.products[row].language for row in rows.tolist())
            found.append(max(told, key=lambda each: told[each]) if told else "")
        return tuple(found)


def trial(snapshot: Snapshot, events: pl.DataFrame, chances: NDArray[np.float64], options: TrialOptions) -> Trial:
    """Of a period's events, with the propensities (depth,) that an earlier period has taught."""
    happened = outcomes(events, len(chances))
    asked = _asked(happened, options.queries)
    lists = candidate_lists(snapshot, asked.queries, options.now, depth=options.depth, popularity=options.popularity)
    place_of = _placed(lists, asked.of_pair, _rows(snapshot, happened.pairs["product_id"]))
    targets = _targets(happened, chances, place_of, len(lists.rows))
    gained = np.bincount(lists.query_of, targets, len(lists)) > 0
    is_asked = asked.of_row >= 0
    log = _known(happened.log.rows(is_asked), place_of)
    data = list_data(snapshot, lists, targets)
    return Trial(data, np.flatnonzero(gained), asked.traffic, log, asked.of_row[is_asked], place_of)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """The n queries of a trial, the most frequent ones of its period."""

    queries: list[str]
    traffic: NDArray[np.float64]
    """(n,)."""
    of_pair: NDArray[np.int64]
    """(pairs,): the number of each pair's query; -1 where it is none of them."""
    of_row: NDArray[np.int64]
    """(lists,): the same of each list."""


def _asked(happened: Outcomes, most: int) -> _Asked:
    names = happened.pairs.filter(pl.col("query") != "")["query"].unique(maintain_order=True).to_list()
    numbers = dict(zip(names, range(len(names)), strict=True))
    of_pair = happened.pairs["query"].replace_strict(numbers, default=-1, return_dtype=pl.Int64).to_numpy()
    of_row = np.append(of_pair, -1)[happened.log.pairs.max(axis=1, initial=-1)]
    traffic = np.bincount(of_row[of_row >= 0], minlength=len(names))
    chosen = np.sort(np.argsort(-traffic, kind="stable")[:most])
    renumbered = np.full(len(names) + 1, -1)
    renumbered[chosen] = np.arange(len(chosen))
    queries = [names[each] for each in chosen.tolist()]
    return _Asked(queries, traffic[chosen].astype(float), renumbered[of_pair], renumbered[of_row])


def _rows(snapshot: Snapshot, products: pl.Series) -> NDArray[np.int64]:
    """(pairs,): the row of each pair's product; -1 where it is gone."""
    found = {name: snapshot.products.row_of(name) for name in products.unique().to_list()}
    known = {name: row for name, row in found.items() if row is not None}
    rows: NDArray[np.int64] = products.replace_strict(known, default=-1, return_dtype=pl.Int64).to_numpy()
    return rows


def _placed(lists: CandidateLists, numbers: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(pairs,): where the candidate of each list's number and row stands among all; -1 for none."""
    if not len(lists.rows):
        return np.full(len(rows), -1)
    width = max(int(lists.rows.max()), int(rows.max(initial=0))) + 1
    keys, wanted = lists.query_of * width + lists.rows, numbers * width + rows
    order = np.argsort(keys)
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where((numbers >= 0) & (rows >= 0) & (keys[at] == wanted), at, -1)


def _targets(
    happened: Outcomes, chances: NDArray[np.float64], place_of: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """(count,): what each candidate gained, freed of position; 0 for what was not shown."""
    log = happened.log
    gains = unbiased_gains(log.pairs, acts_of(happened), chances, np.array(WORTH), log.count)
    targets = np.zeros(count, np.float32)
    targets[place_of[place_of >= 0]] = gains[place_of >= 0]
    return targets


def _known(log: ClickLog, place_of: NDArray[np.int64]) -> ClickLog:
    """The lists without what is no candidate."""
    known = np.append(place_of, -1)[log.pairs] >= 0
    return ClickLog(np.where(known, log.pairs, NOTHING), log.clicks & known, log.count)
