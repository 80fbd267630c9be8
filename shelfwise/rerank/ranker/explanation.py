"""Contributions of factors to a ranker's score: the ranker scores again without one factor at a time.

A contribution is a difference of two scores of the served network: how much lower the score is if only this factor has
its usual value (Covert, Lundberg & Lee 2021, Explaining by Removing, sections 4 and 6). Removing a product's words
removes its token states. Interactions are missed or counted twice, so contributions do not add up to the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import FEATURES, HAS_STATES, Candidates, History
from shelfwise.rerank.ranker.memory import MEMORY
from shelfwise.retrieval.index.token_states import SCALE, ProductTokens
from shelfwise.retrieval.records import TermMatch
from shelfwise.retrieval.text.highlight import TokenWords

if TYPE_CHECKING:
    from shelfwise.rerank.ranker.onnx import OnnxRanker
    from shelfwise.rerank.ranker.spec import RankerSpec

Scores = NDArray[np.float64]


class Factor(Enum):
    """A factor of a candidate's score, with its features."""

    MERGED = ("merged",)
    """The merged score, in the network and mixed with its score."""
    KEYWORDS = ("bm25_per_word", "bm25_share", "bm25")
    MEANING = ("cosine", "similarity")
    TYPE = ("of_type",)
    WORDS = ("has_states",)
    """The product's words, read as token states."""
    PRICE = ("price_gap", "has_price")
    AVAILABILITY = ("availability",)
    POPULARITY = ("popularity",)
    MEMORY = MEMORY
    """The query memory: past choices for the query, its words, and any query."""
    AGE = ("freshness", "has_created")
    RATING = ("rating", "has_rating")
    HISTORY = ()
    """The shopper's earlier acts."""


def contributions(ranker: OnnxRanker, candidates: Candidates) -> Mapping[Factor, Scores]:
    """The contribution (c,) of each factor that the ranker reads; raises ModelError if the graph fails."""
    usual = neutral_features(ranker.spec)
    factors = [factor for factor in Factor if _is_read(factor, ranker, candidates)]
    whole, *others = ranker.score([candidates, *(neutralize_factor(candidates, factor, usual) for factor in factors)])
    return {factor: whole - other for factor, other in zip(factors, others, strict=True)}


def neutral_features(spec: RankerSpec) -> NDArray[np.float32]:
    """Usual values (F,) of FEATURES: the means in the ranker's training, 0 if unknown."""
    usual = np.zeros(len(FEATURES), np.float32)
    if spec.neutral:
        usual[[FEATURES.index(name) for name in spec.features]] = spec.neutral
    return usual


def neutralize_factor(candidates: Candidates, factor: Factor, usual: NDArray[np.float32]) -> Candidates:
    """The same candidates with one factor at its usual value, or without it for words and history."""
    if factor is Factor.HISTORY:
        return replace(candidates, history=History.none(candidates.history.vectors.shape[1]))
    features = candidates.features.copy()
    if factor is Factor.WORDS:
        # In training, too, some candidates have no states.
        features[:, HAS_STATES] = 0
        nothing = ProductTokens.none(len(features), candidates.products.states.shape[2])
        return replace(candidates, features=features, products=nothing)
    columns = [FEATURES.index(name) for name in factor.value]
    features[:, columns] = usual[columns]
    return replace(candidates, features=features)


def select_candidates(candidates: Candidates, places: NDArray[np.int64]) -> Candidates:
    """The candidates at `places`, in that order."""
    products = ProductTokens(candidates.products.ids[places], candidates.products.states[places])
    return replace(
        candidates, products=products, features=candidates.features[places], vectors=candidates.vectors[places]
    )


def _is_read(factor: Factor, ranker: OnnxRanker, candidates: Candidates) -> bool:
    known = set(factor.value) & set(ranker.spec.features)
    if factor is Factor.WORDS:
        return ranker.reads_states and bool(candidates.products.ids.size)
    if factor is Factor.HISTORY:
        return ranker.reads_history and bool(len(candidates.history.kinds))
    return bool(known) or (factor is Factor.MERGED and ranker.spec.mix != 0)


Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QueryWords:
    """A query's words with the states of their tokens."""

    words: TokenWords
    states: Floats
    """(q, d): the token states, rows of length 1."""
    idf: Floats
    """(q,): the inverse document frequency of each token."""


def term_matches(query: QueryWords, product: TokenWords, states: NDArray[np.int8]) -> tuple[TermMatch, ...]:
    """The nearest word of the product for each distinct word of the query, or the same word if the product has it.

    `states` (t, d) are those of the product's tokens. The similarity of two words is MaxSim between their tokens
    (Khattab & Zaharia 2020, ColBERT, section 3.2). Matches are ordered by similarity times idf.
    """
    if not product.words:
        return ()
    similarity = _by_word(query, product, states)
    weights = _highest(query.idf[None], query.words)[0]
    keys = product.keys
    found: dict[str, tuple[float, TermMatch]] = {}
    for place, (word, key) in enumerate(zip(query.words.words, query.words.keys, strict=True)):
        same = [at for at, other in enumerate(keys) if other == key]
        nearest = max(same or range(len(keys)), key=lambda at: float(similarity[place, at]))
        close = min(1.0, float(similarity[place, nearest]))
        match = TermMatch(word, product.words[nearest], close, bool(same))
        found.setdefault(key, (close * float(weights[place]), match))
    return tuple(match for _, match in sorted(found.values(), key=lambda each: -each[0]))


def _by_word(query: QueryWords, product: TokenWords, states: NDArray[np.int8]) -> Floats:
    cosines: Floats = query.states @ states.T.astype(np.float32) / np.float32(SCALE)
    best = _highest(cosines, product)
    mean = [best[query.words.word_of == place].mean(axis=0) for place in range(len(query.words.words))]
    return np.stack(mean) if mean else np.empty((0, len(product.words)), np.float32)


def _highest(values: Floats, words: TokenWords) -> Floats:
    """(n, words): the highest of values (n, t) over the tokens of each word."""
    highest = [values[:, words.word_of == place].max(axis=1) for place in range(len(words.words))]
    return np.stack(highest, axis=1) if highest else np.empty((len(values), 0), np.float32)
