"""The features of a query's candidates, from what the first stage found and what the store knows of its products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.features import FirstStage, Signals, feature_matrix
from retrieval.merging import DEFAULT, METHODS
from service.popularity import Popularity
from service.ranking import Ranking
from service.snapshot import Snapshot

_SECONDS_A_DAY = 86_400.0


def candidate_features(
    snapshot: Snapshot,
    ranking: Ranking,
    count: int,
    has_states: NDArray[np.bool_],
    now: float,
    popularity: Popularity,
) -> NDArray[np.float32]:
    """The features (c, F) of the first `count` candidates of a merged ranking; `has_states` (c,) tells whose tokens are
    at hand, `now` is in seconds since 1970."""
    found = ranking.evidence
    first = FirstStage(
        # Whatever merging was asked for: a ranker reads what it was trained on.
        merged=METHODS[DEFAULT](found)[:count],
        bm25=found.bm25[:count],
        cosine=found.cosine[:count],
        similarity=found.similarity[:count],
        words=found.words,
        best_bm25=ranking.best_bm25,
    )
    rows = ranking.rows[:count]
    chosen = popularity.of_rows(rows, snapshot.products.id_of)
    signals = Signals(snapshot.signals.at(rows), chosen, has_states, now / _SECONDS_A_DAY)
    return feature_matrix(first, signals, _usual_price(snapshot, ranking))


def _usual_price(snapshot: Snapshot, ranking: Ranking) -> float:
    """The median price of what the query is about; NaN where no price is known."""
    prices = snapshot.signals.at(ranking.about).price
    known = prices[prices > 0]
    return float(np.median(known)) if len(known) else np.nan
