"""Fusion of keyword and vector scores into one order.

A fused score depends only on the query and the product, unless the method needs ranks. So filters,
pages and facets never change the order of the remaining products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.index.vectors import Background

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """The scores of both retrievers for the same n candidates.

    `bm25` (n,) is 0 if no word matched; `cosine` (n,) is exact for every candidate; ranks (n,) count from 1 and are
    infinite for candidates that a retriever did not propose.
    """

    words: int
    """The number of words in the query."""
    background: Background
    """The cosine of unrelated products with this encoder and catalog."""
    bm25: Array
    cosine: Array
    bm25_rank: Array
    dense_rank: Array
    intent: Array
    """Agreement of each candidate with the type that the query asks for (n,): 0 to 1, more if only accessories have the
    type's word."""
    closeness: Array
    """Nearness of each candidate to the query (n,): 1 for the nearest product, 0 below some similarity."""
    preferred: Array
    """Number of the prices and values named by the query that each candidate matches (n,)."""

    @property
    def similarity(self) -> Array:
        """The cosine in deviations above that of unrelated products (n,)."""
        return self.background.standardise(self.cosine)

    def select(self, rows: NDArray[np.int64]) -> RetrievalScores:
        """The scores of the candidates at `rows`, in their order."""
        arrays = ("bm25", "cosine", "bm25_rank", "dense_rank", "intent", "closeness", "preferred")
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})


PREFERRED = 2.0
"""The gain in the merged score of a product for each price or value of the query that it matches."""
Merge = Callable[[RetrievalScores], Array]


def per_word(evidence: RetrievalScores, weight: float, of_type: float) -> Array:
    """BM25 per word of the query, plus the weighted cosine in deviations above the background, plus `of_type` for a
    product of the type that the query asks for.

    BM25 adds up over words and the cosine does not, so without the division a long query would hardly use the vectors.
    This is a convex combination with fixed normalisation in the sense of Bruch, Gai & Ingber 2023 (An Analysis of
    Fusion Functions for Hybrid Retrieval, section 3).
    """
    named = of_type * evidence.intent * evidence.closeness + PREFERRED * evidence.preferred
    return evidence.bm25 / max(evidence.words, 1) + weight * evidence.similarity + named


def reciprocal_rank(evidence: RetrievalScores, k: float) -> Array:
    """Reciprocal rank fusion (Cormack, Clarke & Büttcher 2009), which uses only ranks."""
    return 1.0 / (k + evidence.bm25_rank) + 1.0 / (k + evidence.dense_rank)


OF_TYPE = 3.5
"""The gain in the merged score of a product of the type that the query asks for."""
METHODS: Mapping[str, Merge] = {
    "per-word": partial(per_word, weight=0.7, of_type=OF_TYPE),
    "rrf": partial(reciprocal_rank, k=60.0),
}
"""The methods of merging, each with the best weight over all dev sets."""
DEFAULT = "per-word"
