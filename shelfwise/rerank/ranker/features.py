"""Features of candidates for the ranker: first-stage scores and the store's signals; batches of the network's inputs.

Each feature depends only on the query and the product, not on the list, so filters and pages keep the order of the
other candidates. Unknown values are 0, and a separate feature marks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.memory import MEMORY
from shelfwise.retrieval.encoders.base import Tokens
from shelfwise.retrieval.index.token_states import ProductTokens
from shelfwise.retrieval.store.signals import SignalColumns

Floats = NDArray[np.float32]

FIRST_STAGE = ("merged", "bm25_per_word", "bm25_share", "bm25", "cosine", "similarity", "of_type", "words")
SIGNALS = (
    "has_states",
    "price_gap",
    "has_price",
    "availability",
    "popularity",
    "freshness",
    "has_created",
    "rating",
    "has_rating",
)
FEATURES = (*FIRST_STAGE, *SIGNALS, *MEMORY)
"""The columns of a feature matrix, in order. A stored ranker names its own; one with unknown features is refused."""

MERGED, HAS_STATES = FEATURES.index("merged"), FEATURES.index("has_states")
BM25_SCALE = 20.0
HALF_LIFE_DAYS = 90.0
_MAX_OF_TYPE = 2.0
"""The highest value of a type feature: votes and clicks can say more than a name, and have no bound of their own."""
_POPULARITY_SCALE = 1_000.0
"""Resolution of the popularity feature: shares down to about a thousandth of the highest are distinguished."""
_PRIOR_RATINGS, _PRIOR_RATING = 10.0, 3.5


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Scores of the retrievers and of fusion for c candidates, each (c,)."""

    merged: NDArray[np.float64]
    bm25: NDArray[np.float64]
    cosine: NDArray[np.float64]
    similarity: NDArray[np.float64]
    """The cosine in deviations above that of unrelated products."""
    of_type: NDArray[np.float64]
    """Agreement of the product with the type that the query asks for; 1 if it names the type."""
    words: int
    """The number of words in the query."""
    best_bm25: float
    """The highest BM25 score of this query in the whole catalog, without filters."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Properties of c products that do not depend on the query."""

    catalog: SignalColumns
    """Columns of the catalog's signals."""
    popularity: Floats
    """(c,): decayed score of clicks, carts and purchases as a share of the store's highest; 0 without events."""
    has_states: NDArray[np.bool_]
    """(c,): whether the product has token states."""
    today: float
    """The date, in days since 1970."""


MEMORY_COLUMNS = slice(len(FIRST_STAGE) + len(SIGNALS), len(FEATURES))
"""The columns of the query memory in a feature matrix; see `shelfwise.rerank.ranker.memory`."""


def feature_matrix(first: FirstStage, signals: Signals, usual_price: float, memory: Floats | None = None) -> Floats:
    """The features (c, len(FEATURES)). `usual_price` is the usual price of products for this query, NaN if unknown;
    `memory` (c, len(MEMORY)) has the columns of the query memory, by default those of an empty one."""
    count = len(first.merged)
    columns = {"has_states": signals.has_states, **_store_columns(signals, usual_price)}
    made = np.zeros((count, len(FEATURES)), np.float32)
    made[:, : len(FIRST_STAGE)] = first_stage_columns(first)
    for place, name in enumerate(SIGNALS, len(FIRST_STAGE)):
        made[:, place] = columns[name]
    if memory is not None:
        made[:, MEMORY_COLUMNS] = memory
    return made


def first_stage_columns(first: FirstStage) -> Floats:
    """The columns `FIRST_STAGE` (c, 8)."""
    count = len(first.merged)
    columns = {
        "merged": first.merged,
        "bm25_per_word": first.bm25 / max(first.words, 1),
        "bm25_share": first.bm25 / first.best_bm25 if first.best_bm25 > 0 else np.zeros(count),
        "bm25": first.bm25 / BM25_SCALE,
        "cosine": first.cosine,
        "similarity": first.similarity,
        "of_type": first.of_type.clip(max=_MAX_OF_TYPE),
        "words": np.full(count, np.log1p(first.words)),
    }
    return np.stack([columns[name] for name in FIRST_STAGE], axis=1).astype(np.float32)


def popularity_feature(share: Floats) -> Floats:
    """The column for shares of the highest popularity: 0 to 1, logarithmic, since a second click is more informative
    than a hundredth. Shares do not depend on the store's traffic."""
    return np.asarray(np.log1p(_POPULARITY_SCALE * share.clip(0, 1)) / np.log1p(_POPULARITY_SCALE), np.float32)


def popularity_share(feature: float) -> float:
    """The share for a value of the column; the inverse of `popularity_feature`."""
    return float(np.expm1(feature * np.log1p(_POPULARITY_SCALE)) / _POPULARITY_SCALE)


def _store_columns(signals: Signals, usual_price: float) -> dict[str, NDArray[np.generic]]:
    columns = signals.catalog
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.log(columns.price / usual_price)
    has_gap, has_created, has_rating = np.isfinite(gap), np.isfinite(columns.created), np.isfinite(columns.rating)
    age = np.nan_to_num(signals.today - columns.created, nan=0.0).clip(min=0)
    ratings = np.nan_to_num(columns.rating_count, nan=1.0)
    # Means of few ratings are smoothed towards the prior.
    rating = (columns.rating * ratings + _PRIOR_RATING * _PRIOR_RATINGS) / (ratings + _PRIOR_RATINGS) - _PRIOR_RATING
    return {
        "price_gap": np.where(has_gap, np.clip(gap, -3, 3), 0),
        "has_price": has_gap,
        "availability": np.nan_to_num(columns.availability, nan=0.0),
        "popularity": popularity_feature(signals.popularity),
        "freshness": np.where(has_created, 0.5 ** (age / HALF_LIFE_DAYS), 0),
        "has_created": has_created,
        "rating": np.where(has_rating, rating, 0),
        "has_rating": has_rating,
    }


PADDING = -1
MAX_QUERY_TOKENS = 32
"""The number of query tokens that the ranker reads; further tokens count only in the first stage."""
ACT_KINDS = ("consultation", "click", "cart", "purchase")
"""Kinds of acts in a history, as in `shelfwise.retrieval.records.EventKind`; networks use their indices."""
MAX_ACTS = 50
"""The number of newest acts of a history that the ranker reads."""


@dataclass(frozen=True, slots=True)
class History:
    """A shopper's earlier acts, oldest first: product vectors (h, v), indices in ACT_KINDS (h,), days ago (h,)."""

    vectors: NDArray[np.float32]
    kinds: NDArray[np.int64]
    gaps: NDArray[np.float32]

    @classmethod
    def none(cls, dimension: int) -> History:
        """The history of an unknown shopper."""
        return cls(np.empty((0, dimension), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Candidates:
    """One query with its c candidates."""

    query: Tokens
    """The query's tokens; their states have as many columns as those of the products."""
    query_idf: NDArray[np.float32]
    """(q,): inverse document frequencies of the query's tokens."""
    products: ProductTokens
    features: NDArray[np.float32]
    """(c, F)."""
    vectors: NDArray[np.float32]
    """(c, v): product vectors; (c, 0) if no history is read."""
    history: History


@dataclass(frozen=True, slots=True)
class RankerInputs:
    """The network's inputs, in order; shapes as in `shelfwise.rerank.ranker.network.Inputs`."""

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
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def pad_batch(lists: Sequence[Candidates], vector_dimension: int) -> RankerInputs:
    """Pads lists of any lengths to one batch. Each axis has at least one entry, so that no reduction is empty."""
    count = len(lists)
    c = max(1, *(len(each.features) for each in lists))
    q = max(1, min(MAX_QUERY_TOKENS, max(len(each.query.ids) for each in lists)))
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
    read = slice(batch.query_ids.shape[1])
    given: tuple[NDArray[Any], ...] = (
        *(each.query.ids[read], each.query.states[read], each.query_idf[read]),
        *(each.products.ids, each.products.states, each.features, each.vectors),
        *(each.history.vectors, each.history.kinds, each.history.gaps),
    )
    for array, values in zip(batch.arrays().values(), given, strict=True):
        array[place][tuple(map(slice, values.shape))] = values
