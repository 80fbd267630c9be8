"""Why a ranker scored the hits of one page as it did, once they are found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rerank.ranker.explanation import Factor, contributions, taken
from rerank.ranker.inputs import MOST_QUERY_TOKENS, Candidates
from rerank.ranker.onnx_ranker import OnnxRanker
from rerank.ranker.term_matches import QueryWords, term_matches
from retrieval.encoder import TokenEncoder, with_tokens
from retrieval.keyword import Rows
from retrieval.product_text import encoder_text
from retrieval.records import Contribution, Explanation, TermMatch
from retrieval.token_states import MOST_TOKENS
from retrieval.vectors import Vectors
from retrieval.word_spans import token_words
from service.explanation_words import Told, factor_name, value_in_words
from service.ranking import Scored
from service.snapshot import Snapshot


def explanations(
    snapshot: Snapshot, ranker: OnnxRanker, scored: Scored, text: str, rows: Rows
) -> Mapping[int, Explanation]:
    """What the scores of those products at `rows` (n,) that were scored are made of, by row; `text` is the query.

    Raises RankerError where the ranker's graph fails.
    """
    places = np.flatnonzero(np.isin(scored.rows, rows))
    if not len(places):
        return {}
    candidates = taken(scored.candidates, places)
    found = contributions(ranker, candidates)
    matches = _Matching(snapshot, candidates, text)
    alike = _alike(candidates)
    made: dict[int, Explanation] = {}
    for at, place in enumerate(places.tolist()):
        row = int(scored.rows[place])
        met = matches.of(at, row)
        unrelated = snapshot.manifest.background.mean
        told = Told(snapshot.products[row], candidates.features[at], place + 1, unrelated, met, alike[at])
        parts = _in_words(told, {factor: float(scores[at]) for factor, scores in found.items()})
        made[row] = Explanation(tuple(parts), met)
    return made


def _alike(candidates: Candidates) -> Vectors:
    """(c, h): the cosines of candidates with the products of the shopper's history; (c, 0) where there is none."""
    past = candidates.history.vectors
    return candidates.vectors @ past.T if len(past) else np.empty((len(candidates.features), 0), np.float32)


def _in_words(told: Told, found: Mapping[Factor, float]) -> Iterator[Contribution]:
    for factor, contribution in sorted(found.items(), key=lambda each: -abs(each[1])):
        yield Contribution(factor_name(factor), value_in_words(factor, told), contribution)


class _Matching:
    """The words of a query against those of its candidates."""

    def __init__(self, snapshot: Snapshot, candidates: Candidates, text: str) -> None:
        self._snapshot = snapshot
        self._candidates = candidates
        self._encoder = with_tokens(snapshot.encoder)
        self._query = self._query_words(self._encoder, text) if self._encoder else None

    def of(self, at: int, row: int) -> tuple[TermMatch, ...]:
        """The matches of the candidate at place `at`; none where its words are not those that its states are of."""
        if self._encoder is None or self._query is None:
            return ()
        ids = self._candidates.products.ids[at]
        ids = ids[ids >= 0]
        stands = self._encoder.product_places(encoder_text(self._snapshot.products[row]))
        if not np.array_equal(stands.ids[:MOST_TOKENS], ids):
            return ()
        words = token_words(stands, len(ids), self._query.words.words)
        return term_matches(self._query, words, self._candidates.products.states[at, : len(ids)])

    def _query_words(self, encoder: TokenEncoder, text: str) -> QueryWords:
        asked = self._candidates
        most = min(len(asked.query.ids), MOST_QUERY_TOKENS)
        words = token_words(encoder.query_places(text), most)
        return QueryWords(words, asked.query.states[:most], asked.query_idf[:most])
