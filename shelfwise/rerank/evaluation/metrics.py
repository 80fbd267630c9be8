"""The ranking measures of the promotion gate, by query, over padded arrays of candidates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from shelfwise.rerank.click_models.click_log import Flags, Floats, sums


def ndcg(gains: Floats, scores: Floats, is_candidate: Flags, depth: int = 10) -> Floats:
    """(q,): normalised discounted cumulated gain (Järvelin & Kekäläinen 2002, section 3) of q queries.

    `gains` (q, c) are the candidates' gains, 2^grade - 1 or debiased labels; `scores` (q, c) order them, with ties in
    input order; `is_candidate` (q, c) is False for padding. NaN for queries without any gain.
    """
    gains = np.where(is_candidate, gains, 0.0)
    ideal = _discounted(gains, gains, depth)
    gained = _discounted(gains, np.where(is_candidate, scores, -np.inf), depth)
    return np.asarray(np.divide(gained, ideal, out=np.full(len(gains), np.nan), where=ideal > 0))


def ranked_ndcg(found: Sequence[float], judged: Iterable[float], depth: int = 10) -> float:
    """nDCG of one query: `found` are the gains by rank, `judged` all gains of the query; 0 if these are 0."""
    ideal = _discounted_sum(sorted(judged, reverse=True)[:depth])
    return _discounted_sum(found[:depth]) / ideal if ideal > 0 else 0.0


def reciprocal_rank(gains: Floats, scores: Floats, is_candidate: Flags) -> Floats:
    """(q,): 1 / the rank of the first candidate with a gain; arrays and NaN as in `ndcg`."""
    ordered = _ordered(np.where(is_candidate, gains, 0.0), np.where(is_candidate, scores, -np.inf)) > 0
    rank = ordered.argmax(axis=1) + 1.0 if ordered.shape[1] else np.ones(len(ordered))
    return np.where(ordered.any(axis=1), 1.0 / rank, np.nan)


def query_means(
    values: Floats, queries: npt.NDArray[np.integer], count: int, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Means by query over sessions: (count,) each, the weighted mean and the sum of the weights.

    `values` (n,) are by session, `queries` (n,) are numbers below `count`. The mean of a query without sessions is NaN.
    """
    weights = np.ones(len(values)) if weights is None else weights
    total = sums(queries, weights, count)
    means = np.divide(sums(queries, values * weights, count), total, out=np.full(count, np.nan), where=total > 0)
    return means, total


def _discounted_sum(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(place + 1) for place, gain in enumerate(gains, 1))


def _discounted(gains: Floats, scores: Floats, depth: int) -> Floats:
    best = _ordered(gains, scores)[:, :depth]
    return np.asarray(best @ (1.0 / np.log2(np.arange(best.shape[1]) + 2.0)))


def _ordered(values: Floats, scores: Floats) -> Floats:
    """(q, c): the values, ordered by descending score."""
    return np.take_along_axis(values, np.argsort(-scores, axis=1, kind="stable"), axis=1)
