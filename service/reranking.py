"""The last stage: the ranker puts the head of the merged order into its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.inputs import Candidates, History
from retrieval.encoder import Tokens, no_tokens
from retrieval.keyword import Rows
from retrieval.records import Explanation
from retrieval.token_states import ProductTokens
from service.candidate_features import candidate_features
from service.ranking import Ranking, Scored, put_in_order
from service.snapshot import Snapshot

if TYPE_CHECKING:
    from service.reranker import Reranker

DEPTH = 100
"""How many of the merged order are scored; those behind them keep their places."""


@dataclass(frozen=True, slots=True)
class Reranking:
    """A ranker for the searches of one snapshot."""

    snapshot: Snapshot
    reranker: Reranker
    deadline: float
    """Seconds."""

    @property
    def reads_tokens(self) -> bool:
        """Whether the query's tokens are needed, which its encoder then gives with its vector."""
        return self.snapshot.states is not None and self.reranker.ranker.reads_states

    def rerank(self, ranking: Ranking, tokens: Tokens | None) -> None:
        """Puts the ranking's head in the ranker's order, exact identifiers staying first.

        Raises RankerError where it cannot, or is late; the ranking is then as it was.
        """
        count = min(DEPTH, len(ranking.rows))
        if count:
            candidates = self._candidates(ranking, count, tokens)
            scored = Scored(ranking.rows[:count], candidates)
            put_in_order(ranking, self.reranker.score(candidates, self.deadline))
            ranking.scored = scored

    def explain(self, ranking: Ranking, text: str, rows: Rows) -> Mapping[int, Explanation]:
        """See `service.stages.LastStage`; the network runs in the calling thread, after the answer's order is found."""
        if ranking.scored is None:
            return {}
        # A graph's runtime, which an engine without a ranker does without.
        from service.explaining import explanations

        return explanations(self.snapshot, self.reranker.ranker, ranking.scored, text, rows)

    def _candidates(self, ranking: Ranking, count: int, tokens: Tokens | None) -> Candidates:
        rows = ranking.rows[:count]
        query, idf, products = self._tokens(rows, tokens)
        features = candidate_features(self.snapshot, ranking, count, products.has_any, time.time())
        vectors = np.empty((count, 0), np.float32)
        history = History.none(self.snapshot.vectors.dimension)
        return Candidates(query, idf, products, features, vectors, history)

    def _tokens(self, rows: Rows, tokens: Tokens | None) -> tuple[Tokens, NDArray[np.float32], ProductTokens]:
        states = self.snapshot.states
        if states is None or tokens is None:
            dimension = self.reranker.ranker.spec.state_dimension
            nothing = ProductTokens.none(len(rows), dimension)
            return no_tokens(dimension), np.empty(0, np.float32), nothing
        query = states.cut(tokens)
        return query, states.idf[query.ids], states.gather(rows)
