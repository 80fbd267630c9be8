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
from retrieval.records import Explanation, PastAct
from retrieval.token_states import ProductTokens
from retrieval.vectors import Vectors
from service.candidate_features import candidate_features
from service.past_acts import read_history
from service.popularity import UNKNOWN, Popularity
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
    past: tuple[PastAct, ...] = ()
    """What the shopper who searches did before."""
    popularity: Popularity = UNKNOWN
    floor: float = 0.0
    """The probability that the best candidate has to fit by."""

    @property
    def reads_tokens(self) -> bool:
        """Whether the query's tokens are needed, which its encoder then gives with its vector."""
        return self.snapshot.states is not None and self.reranker.ranker.reads_states

    @property
    def name(self) -> str:
        """Of the ranker."""
        return self.reranker.ranker.name

    @property
    def reads_history(self) -> bool:
        """Whether what the shopper did before counts."""
        return self.reranker.ranker.reads_history

    def rerank(self, ranking: Ranking, tokens: Tokens | None) -> None:
        """Puts the ranking's head in the ranker's order, exact identifiers staying first.

        Raises RankerError where it cannot, or is late; the ranking is then as it was.
        """
        count = min(DEPTH, len(ranking.rows))
        if count:
            candidates = self._candidates(ranking, count, tokens)
            scored = Scored(ranking.rows[:count], candidates)
            scores = self.reranker.score(candidates, self.deadline)
            put_in_order(ranking, scores)
            ranking.scored = scored
            ranking.fit = float(self.reranker.ranker.fit(scores).max())
            # An exact identifier is what was asked for, whatever a ranker says.
            ranking.nothing_fits = ranking.fit < self.floor and not ranking.identified

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
        now = time.time()
        features = candidate_features(self.snapshot, ranking, count, products.has_any, now, self.popularity)
        vectors, history = self._history(rows, now)
        return Candidates(query, idf, products, features, vectors, history)

    def _history(self, rows: Rows, now: float) -> tuple[Vectors, History]:
        """The candidates' vectors and the shopper's history; nothing is looked up that the ranker would not read."""
        vectors = self.snapshot.vectors
        if self.past and self.reads_history:
            history = read_history(self.snapshot, self.past, now)
            if len(history.kinds):
                return vectors.gather(rows), history
        return np.empty((len(rows), 0), np.float32), History.none(vectors.dimension)

    def _tokens(self, rows: Rows, tokens: Tokens | None) -> tuple[Tokens, NDArray[np.float32], ProductTokens]:
        states = self.snapshot.states
        if states is None or tokens is None:
            dimension = self.reranker.ranker.spec.state_dimension
            nothing = ProductTokens.none(len(rows), dimension)
            return no_tokens(dimension), np.empty(0, np.float32), nothing
        query = states.cut(tokens)
        return query, states.idf[query.ids], states.gather(rows)
