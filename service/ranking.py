"""A search on its way: the request, and its candidates in order with what each stage gave them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.inputs import Candidates
from retrieval.analysis import TermGroup
from retrieval.conditions import Condition
from retrieval.keyword import Ordered, Rows, Selection, Sort
from retrieval.merging import DEFAULT, METHODS, Evidence, Merge
from retrieval.records import Candidate, Facet, StageScore

STAGES = ("bm25", "dense", "merged", "ranked")


@dataclass(frozen=True, slots=True)
class Request:
    """A search with its text analysed and its filter resolved."""

    text: str
    groups: tuple[TermGroup, ...]
    where: Condition | None = None
    stage: str = "ranked"
    merge: Merge = METHODS[DEFAULT]
    facets: tuple[str, ...] = ()
    facet_size: int = 100
    sort: Sort | None = None
    lost: tuple[str, ...] = ()
    """Stages that cannot take part."""
    pinned: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Rows that are candidates because a rule pins them, if the filter lets them through."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a ranker was asked about: the head of the merged order, before it was reordered."""

    rows: Rows
    """(c,)"""
    candidates: Candidates


@dataclass(slots=True)
class Ranking:
    """The candidates of a request, best first.

    All arrays are (n,) and in the same order. `total` counts what follows the ranked part as well; `selection` names
    the whole candidate set to the keyword index.
    """

    rows: Rows
    scores: NDArray[np.float64]
    evidence: Evidence
    total: int
    selection: Selection
    merged: NDArray[np.float64]
    """What merging gave; `scores`, unless a ranker has spoken."""
    merged_rank: Rows
    """From 1."""
    identified: frozenset[int] = frozenset()
    facets: dict[str, Facet] = field(default_factory=dict)
    """Over the whole candidate set."""
    ordered: Ordered | None = None
    """The whole candidate set in the order that was asked for, where one was."""
    ran: tuple[str, ...] = ()
    """The stages that took part; the others gave nothing."""
    degraded: tuple[str, ...] = ()
    relaxed: bool = False
    best_bm25: float = 0.0
    """The highest of the whole catalog, filter or not."""
    about: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """The products that the query is most about, by its words and by its meaning, filter or not."""
    timings: dict[str, float] = field(default_factory=dict)
    fit: float | None = None
    """The probability that the best hit fits, where a ranker has told it."""
    nothing_fits: bool = False
    """Whether that is below the floor of the settings."""
    scored: Scored | None = None
    """None where no ranker has spoken."""

    def candidate(self, row: int) -> Candidate:
        """The candidate of this row, with what each stage gave it; one behind the ranked part was given nothing, and
        scores no more than any in it."""
        places = np.flatnonzero(self.rows == row)
        if not len(places):
            return Candidate(row, min(0.0, float(self.scores.min(initial=0.0))), {})
        at = int(places[0])
        evidence, score = self.evidence, float(self.scores[at])
        stages = {
            "bm25": StageScore(_rank(evidence.bm25_rank[at]), float(evidence.bm25[at])),
            "dense": StageScore(_rank(evidence.dense_rank[at]), float(evidence.cosine[at])),
            "merged": StageScore(int(self.merged_rank[at]), float(self.merged[at])),
            "ranked": StageScore(at + 1, score),
        }
        return Candidate(row, score, {stage: stages[stage] for stage in self.ran})


def put_in_order(ranking: Ranking, scores: NDArray[np.float64]) -> None:
    """Reorders the head of a ranking, its first len(scores) candidates, by what a ranker gave them (c,): exact
    identifiers first, ties by row. Those behind stay in their order, their scores moved down to follow the head's."""
    count = len(scores)
    # By the best of those behind: an exact identifier stands before what scores higher.
    fallen = scores.min() - ranking.merged[count - 1 :].max()
    ranking.scores = np.concatenate([scores, ranking.merged[count:] + fallen])
    _permute(ranking, np.concatenate([_best_first(ranking, count), np.arange(count, len(ranking.rows))]))


def put_in_merged_order(ranking: Ranking) -> None:
    """Exact identifiers first, then by score, ties by row; these are the merged ranks."""
    _permute(ranking, _best_first(ranking, len(ranking.rows)))
    ranking.merged_rank = np.arange(1, len(ranking.rows) + 1)


def _best_first(ranking: Ranking, count: int) -> NDArray[np.int64]:
    keys: list[NDArray[np.generic]] = [ranking.rows[:count], -ranking.scores[:count]]
    if ranking.identified:
        keys.append(~np.isin(ranking.rows[:count], list(ranking.identified)))
    return np.lexsort(keys)


def _permute(ranking: Ranking, order: NDArray[np.int64]) -> None:
    ranking.rows, ranking.scores = ranking.rows[order], ranking.scores[order]
    ranking.merged, ranking.merged_rank = ranking.merged[order], ranking.merged_rank[order]
    ranking.evidence = ranking.evidence.taken(order)


def _rank(rank: float) -> int | None:
    return int(rank) if np.isfinite(rank) else None
