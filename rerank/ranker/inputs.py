"""The arrays that a ranker's network takes, padded and batched, in numpy: for training and for serving alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoder import Tokens
from retrieval.token_states import ProductTokens

PADDING = -1
MOST_QUERY_TOKENS = 32
"""Tokens of a query that the ranker reads; those behind them still count in the first stage."""
ACT_KINDS = ("consultation", "click", "cart", "purchase")
"""What a shopper may have done in a history, as `retrieval.events.event.EventKind` names it; a network knows them by
their places here."""
MOST_ACTS = 50
"""Of a history, the newest; those before them are not read."""


@dataclass(frozen=True, slots=True)
class History:
    """What a shopper did before, oldest first: product vectors (h, v), places in ACT_KINDS (h,), days ago (h,)."""

    vectors: NDArray[np.float32]
    kinds: NDArray[np.int64]
    gaps: NDArray[np.float32]

    @classmethod
    def none(cls, dimension: int) -> History:
        """Of a shopper of whom nothing is known."""
        return cls(np.empty((0, dimension), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Candidates:
    """One query with its c candidates."""

    query: Tokens
    """As many columns of states as the products have."""
    query_idf: NDArray[np.float32]
    """(q,)."""
    products: ProductTokens
    features: NDArray[np.float32]
    """(c, F)."""
    vectors: NDArray[np.float32]
    """(c, v); (c, 0) where nobody looks at a history."""
    history: History


@dataclass(frozen=True, slots=True)
class RankerInputs:
    """What the network takes, in the order in which it takes it; shapes as in `rerank.ranker.network.Inputs`."""

    query_ids: NDArray[np.int64]
    query_states: NDArray[np.float32]
    query_idf: NDArray[np.float32]
    product_ids: NDArray[np.int64]
    product_states: NDArray[np.int8]
    features: NDArray[np.float32]
    candidate_vectors: NDArray[np.float32]
    history_vectors: NDArray[np.float32]
    history_kinds: NDArray[np.int64]
    history_gaps: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def batched(lists: Sequence[Candidates], vector_dimension: int) -> RankerInputs:
    """Pads lists of any lengths to one batch; every axis has at least one place, so that no reduction meets nothing."""
    count = len(lists)
    c = max(1, *(len(each.features) for each in lists))
    q = max(1, min(MOST_QUERY_TOKENS, max(len(each.query.ids) for each in lists)))
    t = max(1, *(each.products.ids.shape[1] for each in lists))
    h = max(1, *(len(each.history.kinds) for each in lists))
    d, width = lists[0].products.states.shape[2], lists[0].features.shape[1]
    batch = RankerInputs(
        np.full((count, q), PADDING, np.int64),
        np.zeros((count, q, d), np.float32),
        np.zeros((count, q), np.float32),
        np.full((count, c, t), PADDING, np.int64),
        np.zeros((count, c, t, d), np.int8),
        np.zeros((count, c, width), np.float32),
        np.zeros((count, c, vector_dimension), np.float32),
        np.zeros((count, h, vector_dimension), np.float32),
        np.full((count, h), PADDING, np.int64),
        np.zeros((count, h), np.float32),
    )
    for place, each in enumerate(lists):
        _fill(batch, place, each)
    return batch


def _fill(batch: RankerInputs, place: int, each: Candidates) -> None:
    q = min(len(each.query.ids), batch.query_ids.shape[1])
    c, t = each.products.ids.shape
    h = len(each.history.kinds)
    batch.query_ids[place, :q] = each.query.ids[:q]
    batch.query_states[place, :q] = each.query.states[:q]
    batch.query_idf[place, :q] = each.query_idf[:q]
    batch.product_ids[place, :c, :t] = each.products.ids
    batch.product_states[place, :c, :t] = each.products.states
    batch.features[place, :c] = each.features
    if each.vectors.shape[1]:
        batch.candidate_vectors[place, :c] = each.vectors
    if h:
        batch.history_vectors[place, :h] = each.history.vectors
    batch.history_kinds[place, :h] = each.history.kinds
    batch.history_gaps[place, :h] = each.history.gaps
