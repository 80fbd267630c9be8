"""The ranking of a search: its candidates in order, with the scores of each stage, and what reorders it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import Candidates
from shelfwise.retrieval.index.fusion import RetrievalScores
from shelfwise.retrieval.index.keyword import NO_ROWS, Matches, Retrieval, Rows, Selection, SortedRows
from shelfwise.retrieval.index.vectors import Background, NearestRows, places_of
from shelfwise.retrieval.records import Candidate, Contribution, Facet, Preference, SponsoredHit, StageScore
from shelfwise.service.engine.request import ResolvedRequest

OFFERED = 10
"""Number of nearest products offered if there is no hit, and number of hits that show which preferences are met."""
HEAD = 100
"""Number of best hits that signals and diversity reorder. The standard deviation of their scores is the unit of
signals, boosts and burials."""


@dataclass(frozen=True, slots=True)
class RankerCandidates:
    """The candidates given to a ranker: the head of the merged order, before reordering."""

    rows: Rows
    """Rows of the candidates (c,)."""
    candidates: Candidates
    of_type: NDArray[np.float64]
    """Bonus of each for its product type (c,)."""
    preferred: NDArray[np.float64]
    """Bonus of each for the price and the values that the query names (c,)."""
    by_picture: NDArray[np.float64]
    """Bonus of each for its picture (c,)."""


_TIED = 0.25
"""Standard deviations of the scores of the best hits within which hits of the same class are equally relevant; measured
on the dev queries of the demo store (docs/instantsearch.md)."""
Preferred = tuple[Preference, Rows]


@dataclass(slots=True)
class Ranking:
    """The candidates of a request, best first.

    All arrays have shape (n,) and the same order. `total` includes the candidates after the ranked part; `selection`
    selects the whole candidate set in the keyword index. If `total` is 0, the rows are offers: the nearest products.
    """

    rows: Rows
    scores: NDArray[np.float64]
    evidence: RetrievalScores
    total: int
    selection: Selection
    merged: NDArray[np.float64]
    """Merged scores; equal to `scores`, unless a ranker was applied."""
    merged_rank: Rows
    """Merged ranks, from 1."""
    by_picture: NDArray[np.float64]
    """Contribution of pictures to the merged scores."""
    identified: frozenset[int] = frozenset()
    facets: dict[str, Facet] = field(default_factory=dict)
    """Facets over the whole candidate set."""
    ordered: SortedRows | None = None
    """The whole candidate set in the requested sort order, if there is one."""
    stages: tuple[str, ...] = ()
    """The stages that took part; others contributed nothing."""
    degraded: tuple[str, ...] = ()
    best_bm25: float = 0.0
    """The highest BM25 score of the whole catalog, independent of the filter."""
    about: Rows = field(default_factory=lambda: NO_ROWS)
    """The products that best match the query in words and in meaning, independent of the filter."""
    timings: dict[str, float] = field(default_factory=dict)
    fit: float | None = None
    """The probability that the best hit is relevant, if a ranker computed it."""
    also_near: Rows = field(default_factory=lambda: NO_ROWS)
    """Other products that pass the filter, nearest first, if it leaves few candidates."""
    nothing_fits: bool = False
    """Whether no product of the catalog fits the query."""
    is_doubtful: bool = False
    """Whether the candidates are only the nearest products, because none has all words of the query."""
    is_type_sure: bool = False
    """Whether the query names a type of product and nothing else."""
    product_type: str = ""
    """Type of all candidates, if an order other than relevance left out other types."""
    scored: RankerCandidates | None = None
    """Candidates given to the ranker; None if none was applied."""
    text: str = ""
    """The text as typed."""
    preferences: Sequence[Preferred] = ()
    """The preferences of the query, each with the candidates that meet it."""
    signals: Mapping[int, tuple[Contribution, ...]] = field(default_factory=dict)
    """Contributions of signals to the scores of the head, by row."""

    @property
    def preferred(self) -> tuple[Preference, ...]:
        """The preferences that some of the best hits meet."""
        return tuple(each for each, rows in self.preferences if np.isin(self.rows[:OFFERED], rows).any())

    @property
    def deviation(self) -> float:
        """The standard deviation of the scores of the best hits, without exact identifiers; 1 if it is 0."""
        ordinary = self.scores[~np.isin(self.rows, list(self.identified))][:HEAD]
        return float(np.std(ordinary)) if len(ordinary) and np.ptp(ordinary) else 1.0

    def candidate(self, row: int) -> Candidate:
        """The candidate of a row with its stage scores; a candidate after the ranked part has no stage scores, and the
        score is at most the lowest of that part."""
        is_at = self.rows == row
        if not is_at.any():
            return Candidate(row, min(0.0, float(self.scores.min(initial=0.0))), {})
        at = int(is_at.argmax())
        evidence, score = self.evidence, float(self.scores[at])
        stages = {
            "bm25": StageScore(_rank(evidence.bm25_rank[at]), float(evidence.bm25[at])),
            "dense": StageScore(_rank(evidence.dense_rank[at]), float(evidence.cosine[at])),
            "merged": StageScore(int(self.merged_rank[at]), float(self.merged[at])),
            "ranked": StageScore(at + 1, score),
        }
        return Candidate(row, score, {stage: stages[stage] for stage in self.stages})


def aligned_scores(
    words: int,
    background: Background,
    found: tuple[Matches, Matches, NearestRows],
    cosine: NDArray[np.float64],
    named: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> RetrievalScores:
    """Aligns the results in `found`: the best keyword matches, the other candidates, the nearest vectors. `named` (n,):
    the agreement with the named type, the nearness to it, and the number of preferences that each product meets."""
    matches, others, nearest = found
    rows = np.concatenate([matches.rows, others.rows])
    bm25_rank = np.full(len(rows), np.inf)
    bm25_rank[: len(matches.rows)] = np.arange(1, len(matches.rows) + 1)
    place = places_of(rows, nearest.rows)
    dense_rank = np.where(place >= 0, place + 1.0, np.inf)
    bm25 = np.concatenate([matches.scores, others.scores]).astype(np.float64)
    return RetrievalScores(words, background, bm25, cosine, bm25_rank, dense_rank, *named)


def ranked_part(retrieved: Retrieval) -> Matches:
    """The merged part: the best of the whole catalog, independent of the filter, which must not change the order."""
    best, matches = retrieved.best, retrieved.matches
    if best is matches or best.total <= len(best.rows):
        return matches
    kept = np.isin(matches.rows, best.rows)
    return Matches(matches.rows[kept], matches.scores[kept], matches.total)


def reorder_head(ranking: Ranking, scores: NDArray[np.float64]) -> None:
    """Reorders the head of a ranking, its first len(scores) candidates, by a ranker's scores (c,): exact identifiers
    first, ties by row. Later candidates keep their order; their scores are shifted below those of the head."""
    count = len(scores)
    # Relative to the best of the later ones: an exact identifier may precede higher scores.
    fallen = scores.min() - ranking.merged[count - 1 :].max()
    ranking.scores = np.concatenate([scores, ranking.merged[count:] + fallen])
    permute(ranking, np.concatenate([_best_first(ranking, count), np.arange(count, len(ranking.rows))]))


def sort_by_merged_score(ranking: Ranking) -> None:
    """Sorts by exact identifier, score and row, and sets the merged ranks."""
    permute(ranking, _best_first(ranking, len(ranking.rows)))
    ranking.merged_rank = np.arange(1, len(ranking.rows) + 1)


def break_ties(ranking: Ranking, ordered: Rows, words: NDArray[np.int64], *, has_values: bool) -> None:
    """Puts equally relevant candidates into the order of `ordered` (n,), and gives them the score of their best.

    Candidates are equally relevant if they have as many of the query's words (`words`, (n,)) and values, are or are not
    of its type, and their scores are within `_TIED` deviations. If the query names a type and no values, the products
    of it with all words are equally relevant at any score; without known types, those with all words are.
    """
    found, scores = ranking.evidence, ranking.scores.tolist()
    is_identified, is_of_type = np.isin(ranking.rows, list(ranking.identified)), found.intent > 0
    # The types of products that were added since the last rebuild are unknown.
    has_all = is_of_type & (words == words.max(initial=0)) if is_of_type.any() else words == found.words
    is_plain = (ranking.is_type_sure or not is_of_type.any()) and not has_values
    is_whole = is_plain & has_all
    limits = np.where(is_whole, np.inf, _TIED * ranking.deviation).tolist()
    classes = zip(*(each.tolist() for each in (is_identified, is_of_type, words, found.preferred)), strict=True)
    ties, best = np.zeros(len(scores), np.int64), dict[object, int]()
    for at, each in enumerate(classes):
        if each not in best or scores[best[each]] - scores[at] > limits[at]:
            best[each] = at
        ties[at] = best[each]
    ranking.scores = ranking.scores[ties]
    permute(ranking, np.lexsort((places_of(ranking.rows, ordered), ties)))


def _best_first(ranking: Ranking, count: int) -> NDArray[np.int64]:
    keys: list[NDArray[np.generic]] = [ranking.rows[:count], -ranking.scores[:count]]
    if ranking.identified:
        keys.append(~np.isin(ranking.rows[:count], list(ranking.identified)))
    return np.lexsort(keys)


def permute(ranking: Ranking, order: NDArray[np.int64]) -> None:
    """Puts the ranked part into another order of its places (n,)."""
    ranking.rows, ranking.scores = ranking.rows[order], ranking.scores[order]
    ranking.merged, ranking.merged_rank = ranking.merged[order], ranking.merged_rank[order]
    ranking.evidence = ranking.evidence.select(order)
    ranking.by_picture = ranking.by_picture[order]


def _rank(rank: float) -> int | None:
    return int(rank) if math.isfinite(rank) else None


Sponsor = Callable[[Ranking, ResolvedRequest, float, Rows], tuple[SponsoredHit, ...]]
"""Chooses the sponsored hits of a ranking; the number is the cosine of the cutoff, the rows are buried by rules."""
