"""Validation of text towers: nDCG@10 of held-out queries over a fixed pool of products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.evaluation.metrics import ndcg
from shelfwise.rerank.text_towers.dataset import Floats, Rows, TowerDataset
from shelfwise.rerank.text_towers.task import CatalogProducts, RetrievedProducts
from shelfwise.retrieval.store.products import encoder_text

_QUERIES = 500
"""Maximum number of validation queries."""
_NEAR = 5
"""Top results of each retriever that are in the pool of each query."""
_BLOCK = 100


class TowerEncoder(Protocol):
    """A tower in training or a serving encoder."""

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        """(n, d) unit vectors."""
        ...

    def encode_products(self, texts: Sequence[str], /) -> Floats:
        """Unit vectors of product texts."""
        ...


class PoolEvaluator:
    """Ranks a fixed pool for fixed queries."""

    def __init__(
        self, made: TowerDataset, found: RetrievedProducts, products: CatalogProducts, size: int, seed: int
    ) -> None:
        """`size` is the minimum number of products of the pool."""
        rng = np.random.default_rng([seed, 1])
        numbers = made.validation
        if len(numbers) > _QUERIES:
            numbers = np.sort(rng.choice(numbers, _QUERIES, replace=False))
        pairs = made.pairs_of(numbers)
        near = [ranked[:_NEAR] for ranking in (found.words, found.vectors) for ranked in (ranking[n] for n in numbers)]
        self.rows = _filled(np.unique(np.concatenate([made.rows[pairs], *near])), len(products), size, rng)
        self._queries = [made.queries[number] for number in numbers.tolist()]
        self._texts = [encoder_text(products[row]) for row in self.rows.tolist()]
        self._gains = np.zeros((len(numbers), len(self.rows)), np.float32)
        places = np.searchsorted(numbers, made.query_of[pairs]), np.searchsorted(self.rows, made.rows[pairs])
        self._gains[places] = made.gains[pairs]

    def ndcg(self, tower: TowerEncoder) -> float:
        """Mean nDCG@10 over the pool; unjudged products count 0."""
        products, queries = tower.encode_products(self._texts), tower.encode_queries(self._queries)
        reached: list[NDArray[np.float64]] = []
        for start in range(0, len(queries), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores = (queries[block] @ products.T).astype(np.float64)
            reached.append(ndcg(self._gains[block].astype(np.float64), scores, np.ones(scores.shape, bool)))
        return float(np.concatenate(reached).mean())


def _filled(rows: Rows, catalog: int, size: int, rng: np.random.Generator) -> Rows:
    others = np.setdiff1d(np.arange(catalog), rows)
    missing = min(max(0, size - len(rows)), len(others))
    return np.sort(np.concatenate([rows, rng.choice(others, missing, replace=False)]))
