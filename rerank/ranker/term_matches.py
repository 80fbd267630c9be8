"""Which words of a product a query's words are nearest to: MaxSim, told for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.records import TermMatch
from retrieval.token_states import SCALE
from retrieval.word_spans import TokenWords

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QueryWords:
    """A query's words with the states of their tokens."""

    words: TokenWords
    states: Floats
    """(q, d), rows of length 1."""
    idf: Floats
    """(q,)."""


def term_matches(query: QueryWords, product: TokenWords, states: NDArray[np.int8]) -> tuple[TermMatch, ...]:
    """For each word of the query, once, the product's word that it is nearest to, or the same one where it is there.

    `states` (t, d) are those of the product's tokens. Two words are as similar as the query word's tokens are, on
    average, to their nearest ones in the product's word: MaxSim within the word (Khattab & Zaharia 2020, ColBERT,
    section 3.2). Matches come in the order of similarity by idf, so that a rare word counts for more than "for".
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
    """Similarities (words of the query, words of the product)."""
    cosines: Floats = query.states @ states.T.astype(np.float32) / np.float32(SCALE)
    best = _highest(cosines, product)
    mean = [best[query.words.word_of == place].mean(axis=0) for place in range(len(query.words.words))]
    return np.stack(mean) if mean else np.empty((0, len(product.words)), np.float32)


def _highest(values: Floats, words: TokenWords) -> Floats:
    """Of values (n, t) the highest among the tokens of each word (n, words)."""
    highest = [values[:, words.word_of == place].max(axis=1) for place in range(len(words.words))]
    return np.stack(highest, axis=1) if highest else np.empty((len(values), 0), np.float32)
