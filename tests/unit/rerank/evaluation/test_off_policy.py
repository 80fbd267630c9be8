from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog, Floats
from shelfwise.rerank.evaluation.off_policy import LoggedSearches, evaluate_rankings, logged_searches
from shelfwise.retrieval.errors import InputError
from tests.logged_searches import DEPTH, QUERIES, clicks, clicks_of, ordered, searches_of, simulated_searches


@pytest.fixture(scope="module")
def simulated() -> tuple[LoggedSearches, Floats]:
    return simulated_searches()


def test_a_ranking_compared_with_itself_makes_no_difference(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, attractiveness = simulated
    ranking = ordered(searches, attractiveness)
    (found,) = evaluate_rankings(searches, [ranking], base=ranking, replicates=5)
    (row,) = found.outcomes
    assert (row.difference, row.low, row.high) == (0.0, 0.0, 0.0)
    assert row.before == pytest.approx(clicks_of(searches, ranking, attractiveness), rel=0.1)


def test_products_never_shown_widen_the_interval(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, attractiveness = simulated
    ranking = ordered(searches, attractiveness)
    count = searches.log.count
    unseen = ranking.copy()
    unseen[:, 1] = count + np.arange(QUERIES)
    query = np.concatenate([searches.query, np.arange(QUERIES, dtype=np.int32)])
    wider = replace(searches, log=ClickLog(searches.log.pairs, searches.log.clicks, count + QUERIES), query=query)
    known, found = clicks(searches, ranking), clicks(wider, unseen)
    assert found.low < known.low
    assert found.high - found.low > 1.5 * (known.high - known.low)
    assert found.difference < known.difference


def test_a_ranking_of_products_never_shown_is_refused(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, _ = simulated
    count = searches.log.count
    ranking = np.arange(count, count + QUERIES * DEPTH, dtype=np.int32).reshape(QUERIES, DEPTH)
    query = np.concatenate([searches.query, np.repeat(np.arange(QUERIES, dtype=np.int32), DEPTH)])
    log = ClickLog(searches.log.pairs, searches.log.clicks, count + QUERIES * DEPTH)
    (found,) = evaluate_rankings(replace(searches, log=log, query=query), [ranking], replicates=2)
    assert found.refusal == "the log has shown 0% of what the new ranking shows first, 50% are needed"
    assert not found.outcomes


def test_a_log_in_which_no_product_changes_its_position_is_refused() -> None:
    pairs = np.tile(np.array([[0, 1]], np.int32), (1_000, 1))
    clicked = np.random.default_rng(0).random(pairs.shape) < 0.3
    searches = searches_of(ClickLog(pairs, clicked, 2), np.zeros(2, np.int32), np.arange(1_000))
    (found,) = evaluate_rankings(searches, [np.array([[1, 0]], np.int32)], replicates=2)
    assert found.refusal.startswith("0 clicks are on products that a query's lists had at several positions")


def test_few_clicks_are_refused(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, attractiveness = simulated
    few = replace(searches, evaluated=np.arange(searches.log.size) < 60)
    (found,) = evaluate_rankings(few, [ordered(searches, attractiveness)], replicates=2)
    assert "effective clicks, 100 are needed" in found.refusal or "of what the new ranking shows" in found.refusal
    nothing = replace(searches, evaluated=np.zeros(searches.log.size, np.bool_))
    (found,) = evaluate_rankings(nothing, [ordered(searches, attractiveness)])
    assert found.refusal == "there is no search to evaluate it on"


def test_rankings_must_fit_the_log(simulated: tuple[LoggedSearches, Floats]) -> None:
    searches, attractiveness = simulated
    ranking = ordered(searches, attractiveness)
    with pytest.raises(InputError, match="30 queries and 1 to 5 positions"):
        evaluate_rankings(searches, [ranking[:3]])
    with pytest.raises(InputError, match="has pair 240 of 240"):
        evaluate_rankings(searches, [np.full_like(ranking, searches.log.count)])
    with pytest.raises(InputError, match="a pair of another query"):
        evaluate_rankings(searches, [ranking[::-1].copy()])
    with pytest.raises(InputError, match="has acts, queries, shoppers"):
        replace(searches, shopper=searches.shopper[1:])


def test_events_become_a_log_with_the_pairs_of_rankings() -> None:
    begins = datetime(2026, 11, 2, tzinfo=UTC)
    rows = [
        ("impression", "1", "drill", "a", 1, "u1", begins - timedelta(days=1)),
        ("click", "1", "drill", "a", 1, "u1", begins - timedelta(days=1)),
        ("impression", "2", "drill", "b", 1, "u2", begins),
        ("purchase", "2", "drill", "b", 1, "u2", begins),
        ("impression", "3", "saw", "c", 1, "u1", begins),
    ]
    names = ["kind", "query_id", "query", "product_id", "position", "shopper", "time"]
    events = pl.DataFrame(rows, names, orient="row")
    searches, (table,) = logged_searches(events, [{"drill": ["b", "new"], "lamp": ["x"]}], begins, first=3, depth=5)
    assert searches.log.count == 4
    assert searches.query.tolist() == [0, 0, 1, 0]
    assert table.tolist() == [[1, 3, NOTHING], [NOTHING] * 3]
    assert searches.evaluated.tolist() == [False, True, False]
    assert searches.shopper.tolist() == [0, 1, 0]
    assert searches.acts[:, 0].tolist() == [[True, False, False], [False, False, True], [False, False, False]]
