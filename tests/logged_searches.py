"""A simulated log of searches with the true attractiveness of its pairs, and rankings of them."""

from __future__ import annotations

import numpy as np

from shelfwise.rerank.click_models.click_log import ClickLog, Floats, Ints
from shelfwise.rerank.evaluation.off_policy import LoggedSearches, OutcomeEstimate, evaluate_rankings
from tests.unit.rerank.click_models.click_simulation import (
    falling_examination,
    graded_store,
    position_shopper,
    simulate,
)

DEPTH = 5
PRODUCTS = 8
QUERIES = 30
EXAMINATION = falling_examination(1.0, DEPTH)


def simulated_searches() -> tuple[LoggedSearches, Floats]:
    """A simulated log with one shuffled list in five, and the attractiveness of its pairs."""
    random = np.random.default_rng(3)
    grades = {
        f"q{number:02}": {f"p{product}": float(random.integers(4)) for product in range(PRODUCTS)}
        for number in range(QUERIES)
    }
    store, table = graded_store(grades, seed=3)
    made = simulate(store, position_shopper(EXAMINATION), 6_000, seed=3, depth=DEPTH, exploration=0.2)
    query = table["query"].rle_id().to_numpy().astype(np.int32)
    return searches_of(made.log, query, random.integers(2_000, size=made.log.size)), store.attractiveness


def searches_of(log: ClickLog, query: Ints, shopper: np.ndarray) -> LoggedSearches:
    acts = np.zeros((*log.pairs.shape, 3), np.bool_)
    acts[..., 0] = log.clicks
    return LoggedSearches(log, acts, query, shopper.astype(np.int32), np.ones(log.size, np.bool_))


def ordered(searches: LoggedSearches, scores: Floats) -> Ints:
    """The best pairs of each query by scores (pairs,)."""
    queries = int(searches.query.max()) + 1
    order = np.lexsort((-scores, searches.query)).reshape(queries, -1)
    return order[:, :DEPTH].astype(np.int32)


def clicks_of(searches: LoggedSearches, ranking: Ints, attractiveness: Floats) -> float:
    """The expected clicks per search."""
    of_list = searches.query[searches.log.pairs.max(axis=1)]
    return float((attractiveness[ranking[of_list]] * EXAMINATION).sum(axis=1).mean())


def clicks(searches: LoggedSearches, ranking: Ints) -> OutcomeEstimate:
    (found,) = evaluate_rankings(searches, [ranking], replicates=40)
    assert not found.refusal
    return found.outcomes[0]
