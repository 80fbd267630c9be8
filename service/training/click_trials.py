"""Lists of a later period, which tell how good a ranker is: candidates as they are now, and what was done on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rerank.clicks.click_log import NOTHING, ClickLog
from rerank.clicks.outcomes import outcomes
from rerank.training.batches import ListData
from rerank.training.click_evidence import acts_of
from rerank.training.propensity import unbiased_gains
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
    pairs, log, acts = happened.pairs, happened.log, acts_of(happened)
    gains = unbiased_gains(log.pairs, acts, chances, np.array(WORTH), log.count)
    asked = pairs.filter(pl.col("query") != "")["query"].unique(maintain_order=True).to_list()
    of_pair = pairs["query"].replace_strict(dict(zip(asked, range(len(asked)), strict=True)), default=-1).to_numpy()
    of_row = np.append(of_pair, -1)[log.pairs.max(axis=1, initial=-1)]
    traffic = np.bincount(of_row[of_row >= 0], minlength=len(asked))
    chosen = np.sort(np.argsort(-traffic, kind="stable")[: options.queries])
    lists = candidate_lists(snapshot, [asked[each] for each in chosen.tolist()], options.now, depth=options.depth)
    new_number = np.full(len(asked) + 1, -1)
    new_number[chosen] = np.arange(len(chosen))
    rows = {name: snapshot.products.row_of(name) for name in pairs["product_id"].unique().to_list()}
    places = dict(
        zip(zip(lists.query_of.tolist(), lists.rows.tolist(), strict=True), range(len(lists.rows)), strict=True)
    )
    numbers = new_number[of_pair].tolist()
    at = [places.get((number, rows[name]), -1) for number, name in zip(numbers, pairs["product_id"], strict=True)]
    place_of = np.array(at, np.int64)
    targets = np.zeros(len(lists.rows), np.float32)
    targets[place_of[place_of >= 0]] = gains[place_of >= 0]
    kept = new_number[of_row] >= 0
    known = np.append(place_of, -1)[log.pairs[kept]] >= 0
    masked = ClickLog(np.where(known, log.pairs[kept], NOTHING), log.clicks[kept] & known, log.count)
    data = list_data(snapshot, lists, targets)
    gained = np.bincount(lists.query_of, targets, len(lists)) > 0
    return Trial(
        data, np.flatnonzero(gained), traffic[chosen].astype(float), masked, new_number[of_row][kept], place_of
    )
