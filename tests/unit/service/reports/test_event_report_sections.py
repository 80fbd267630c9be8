"""The numbers of the report's sections, computed by hand from a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from math import sqrt
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binomtest

from shelfwise.rerank.evaluation.statistics import Z, wilson
from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.records import EventKind
from shelfwise.service.events.report_inputs import (
    EventExample,
    RejectedRows,
    RowExample,
    summarize_events,
    summarize_rows,
)
from shelfwise.service.reports.event_bots import Subject, fraud_found
from shelfwise.service.reports.events import (
    FunnelStep,
    KindCount,
    PositionOptions,
    Problem,
    failing_queries,
    funnel,
    positions,
    successful_reformulations,
    traffic,
)
from tests.reports import (
    START,
    Event,
    answer,
    event,
    event_frame,
    inputs,
    popularity_frame,
    query_frame,
    reformulation_frame,
    rejected_frame,
    session_frame,
)


def lower_end(hits: int, trials: int) -> float:
    share, reach = hits / trials, Z * Z / trials
    half = Z * sqrt(share * (1 - share) / trials + reach / (4 * trials))
    return (share + reach / 2 - half) / (1 + reach)


@given(st.integers(1, 400).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
@example((0, 0))
def test_intervals_equal_scipy_and_no_data_has_none(counts: tuple[int, int]) -> None:
    hits, trials = counts
    expected = binomtest(hits, trials).proportion_ci(0.95, method="wilson") if trials else (0.0, 1.0)
    lower, upper = wilson(pl.col("hits"), pl.col("trials"))
    row = pl.DataFrame({"hits": [hits], "trials": [trials]}).select(lower=lower, upper=upper).row(0)
    assert row == pytest.approx(tuple(expected), abs=1e-6)


def test_events_are_counted_by_kind() -> None:
    events = [
        *answer(0, "a", ["p1", "p2"]),
        event("click", 0, "a", 1, product_id="p1"),
        event("click", 1, "b", 2 * 24 * 60, product_id="p1", is_fraud=True),
    ]
    sessions = session_frame([{"shopper": "k1~0"}, {"shopper": "k1~1", "is_fraud": True}, {}])
    found = traffic(
        inputs(events=event_frame(events), sessions=sessions, rejected=rejected_frame([{"reason": "duplicate"}]))
    )
    assert found.kinds == (KindCount("impression", 2, 0, 0), KindCount("click", 1, 1, 1))
    assert (found.events, found.rejected) == (2 + 1 + 1 + 1, 1)
    assert (found.sessions, found.flagged_sessions, found.shoppers, found.anonymous_sessions) == (3, 1, 1, 3 - 1 - 1)
    assert [kind.kind for kind in found.kinds] == [kind for kind in EventKind if kind in ("impression", "click")]


def test_funnel_counts_answers_and_sessions_per_step() -> None:
    events = [
        event("query", 0, "nothing", query="dril", results=0),
        *answer(0, "looked", ["p1"], at=1),
        *answer(0, "clicked", ["p1"], at=2),
        event("click", 0, "clicked", 3, product_id="p1"),
        *answer(1, "bought", ["p1", "p2"]),
        event("click", 1, "bought", 1, product_id="p2"),
        event("purchase", 1, "", 2, product_id="p2"),
        event("purchase", 1, "", 3, product_id="p9"),
        *answer(2, "page", ["p1"], query=""),
        event("cart", 2, "page", 1, product_id="p1"),
        event("cart", 2, "", 2, product_id="p8"),
    ]
    found = funnel(event_frame(events))
    assert found.searches == (
        FunnelStep("searches", 4, 2, 1.0, 1.0, None, None),
        FunnelStep("with results", 3, 2, 3 / 4, 2 / 2, 3 / 4, 2 / 2),
        FunnelStep("clicked", 2, 2, 2 / 4, 2 / 2, 2 / 3, 2 / 2),
        FunnelStep("cart", 1, 1, 1 / 4, 1 / 2, 1 / 2, 1 / 2),
        FunnelStep("purchase", 1, 1, 1 / 4, 1 / 2, 1 / 1, 1 / 1),
    )
    assert {step.name: step.answers for step in found.pages} == {"pages": 1, "clicked": 1, "cart": 1, "purchase": 0}
    assert (found.carts_elsewhere, found.purchases_elsewhere) == (1, 1)
    nothing = funnel(event_frame())
    assert {(step.answers, step.answer_share, step.answer_rate) for step in nothing.searches} == {(0, None, None)}


def test_zero_result_searches_depend_on_the_impressions_of_the_day() -> None:
    next_day = 24 * 60
    events = [
        *answer(0, "shown", ["p1"]),
        event("query", 1, "empty", 5, query="dril"),
        event("query", 2, "untold", next_day, query="dril"),
    ]
    searches = funnel(event_frame(events)).searches
    assert [(step.name, step.answers) for step in searches[:2]] == [("searches", 3), ("with results", 3 - 1)]


def swapped_answers(lists: int, clicks_first: int, clicks_second: int) -> list[Event]:
    """Answers with two products, in both orders equally often, with these numbers of clicks by position."""
    events: list[Event] = []
    for at in range(2 * lists):
        shown = ["p1", "p2"] if at % 2 else ["p2", "p1"]
        events += answer(at, f"a{at}", shown, at=at)
        clicked = [at // 2 < clicks_first, at // 2 < clicks_second]
        events += [
            event("click", at, f"a{at}", at + 0.5, product_id=product, position=position)
            for position, (product, is_clicked) in enumerate(zip(shown, clicked, strict=True), 1)
            if is_clicked
        ]
    return events


def test_click_rates_are_divided_by_examination() -> None:
    events = event_frame(swapped_answers(lists=200, clicks_first=120, clicks_second=30))
    found = positions(events, PositionOptions(least_impressions=1))
    first, second = found.rows
    assert found.answers == 2 * 200
    assert (first.impressions, first.clicks, first.ctr.value) == (400, 240, 240 / 400)
    assert (second.impressions, second.clicks, second.ctr.value) == (400, 60, 60 / 400)
    assert first.ctr.lower == pytest.approx(lower_end(240, 400))
    # Both products are equally attractive, so the position causes all of the difference.
    assert first.examination.value == first.examination.lower == first.examination.upper == 1.0
    assert second.examination.value == pytest.approx(60 / 240, abs=0.01)
    assert second.debiased.value == pytest.approx(240 / 400, abs=0.02)
    assert second.debiased.lower is not None
    assert second.debiased.upper is not None
    # The delta method: 1 / clicks is about the variance of the logarithm of a rate.
    spread = sqrt((1 - 0.15) / 60 + (1 - 0.6) / 240)
    lower, upper = second.examination.lower, second.examination.upper
    assert lower is not None
    assert upper is not None
    assert upper / lower == pytest.approx(2.718281828 ** (2 * Z * spread), rel=0.35)


def test_answer_with_a_query_event_is_a_search() -> None:
    result = swapped_answers(10, 6, 2)
    untold = [
        *({**each, "query": ""} for each in result),
        *(event("query", at, f"a{at}", at - 0.1, query="drill") for at in range(2 * 10)),
    ]
    options = PositionOptions(least_impressions=1, resamples=3)
    assert positions(event_frame(untold), options) == positions(event_frame(result), options)


def test_click_model_is_fitted_to_the_latest_answers() -> None:
    events = swapped_answers(10, 5, 0)
    found = positions(event_frame(events), PositionOptions(least_impressions=1, most_answers=4, resamples=3))
    assert (found.answers, found.rows[0].impressions, found.rows[0].clicks) == (4, 4, 0)
    assert found.rows[0].debiased.lower is None


def test_failing_queries_are_ranked_by_the_lower_bound_of_the_excess_loss() -> None:
    table = query_frame(
        [
            {"query": "good", "searches": 1_000},
            {"query": "empty", "searches": 40, "empty": 30, "clicked_share": 10 / 40},
            {"query": "rare empty", "searches": 5, "empty": 5, "clicked_share": 0.0},
            {"query": "unclicked", "searches": 200, "clicked_share": 0.5},
            {"query": "again", "searches": 100, "reformulated_share": 0.6},
        ]
    )
    found = {row.query: row for row in failing_queries(table)}
    assert list(found) == ["unclicked", "again", "empty", "rare empty"]
    assert found["empty"].problem is Problem.EMPTY
    assert (found["empty"].failed, found["empty"].share, found["empty"].overall) == (30, 30 / 40, 0.0)
    assert found["empty"].lost == pytest.approx(40 * lower_end(30, 40))
    assert found["rare empty"].lost == pytest.approx(5 * lower_end(5, 5))
    assert found["unclicked"].problem is Problem.UNCLICKED
    with_results = 1_000 + 10 + 0 + 200 + 100
    assert found["unclicked"].overall == pytest.approx(100 / with_results)
    assert found["unclicked"].lost == pytest.approx(200 * (lower_end(100, 200) - 100 / with_results))
    assert found["again"].problem is Problem.REFORMULATED
    assert found["again"].overall == pytest.approx(60 / (1_000 + 40 + 5 + 200 + 100))
    # Queries that fail as often as all others are not called failing.
    alike = query_frame([{"query": f"q{at}", "searches": 30, "clicked_share": 0.4} for at in range(5)])
    assert failing_queries(alike) == ()


def test_successful_reformulations() -> None:
    table = query_frame(
        [
            {"query": "drill", "spelling": "Drill", "searches": 50, "trend": 1.0},
            {"query": "saw", "searches": 60, "trend": 0.1, "clicked_share": 0.9},
            {"query": "new", "searches": 20, "trend": 2.0},
        ]
    )
    pairs = reformulation_frame(
        [
            {"query": "dril", "to_query": "drill", "count": 8, "clicked": 3, "carted": 2, "purchased": 1},
            {"query": "saw", "to_query": "new", "count": 20, "clicked": 2},
            {"query": "saw", "to_query": "hopeless", "count": 50},
        ]
    )
    first, second = successful_reformulations(pairs, table)
    assert (first.query, first.to_query, first.share) == ("dril", "Drill", (3 + 2 + 1) / 8)
    assert (first.clicked_share, first.to_clicked_share) == (None, 1.0)
    assert (second.query, second.to_query, second.share, second.clicked_share) == ("saw", "new", 2 / 20, 0.9)
    assert first.lower == pytest.approx(lower_end(6, 8))


def fraudulent(reasons: Sequence[str], **values: object) -> Event:
    return {"is_fraud": True, "reasons": list(reasons), "score": 0.9, **values}


def test_fraud_is_counted_by_reason_and_by_shopper() -> None:
    sessions = session_frame(
        [
            {"shopper": "k1~honest", "clicks": 4, "score": 0.1},
            fraudulent(["fast", "deep"], shopper="k1~abcdefghijkl", clicks=3, score=0.8),
            fraudulent(["fast"], shopper="k1~abcdefghijkl", clicks=2, first=START + timedelta(days=1)),
            fraudulent(["deep"], session="k1~session", clicks=1, score=1.0),
            fraudulent([], clicks=0, score=0.5),
        ]
    )
    events = [
        *answer(1, "a", ["p1", "p2"], query="", is_fraud=True),
        event("query", 1, "a", 0.5, query="Cordless  drill", is_fraud=True),
        event("click", 1, "a", 1, product_id="p2", is_fraud=True),
        event("click", 1, "a", 2, product_id="p2", is_fraud=True),
        event("click", 1, "a", 3, product_id="p1", is_fraud=True),
        event("click", 2, "b", 4, product_id="p2", query="secret wish", is_fraud=True),
        event("click", 2, "", 5, product_id="p2", is_fraud=True),
        event("click", 2, "", 6, product_id="rare", is_fraud=True),
    ]
    tables = {
        "sessions": sessions,
        "events": event_frame(events),
        "queries": query_frame([{"query": "cordless drill"}]),
        "popularity": popularity_frame([{"product_id": "p1"}, {"product_id": "p2"}]),
    }
    found = fraud_found(inputs(**tables))
    assert (found.sessions, found.clicks, found.shoppers) == (4, 3 + 2 + 1, 3)
    assert found.click_share == (3 + 2 + 1) / (4 + 3 + 2 + 1)
    assert [(row.reason, row.sessions, row.clicks, row.shoppers) for row in found.reasons] == [
        ("deep", 2, 3 + 1, 2),
        ("fast", 2, 3 + 2, 1),
    ]
    session, shopper, nobody = found.suspects
    assert (session.who, shopper.who, nobody.who) == ("k1~session", "k1~abcdefgh", "")
    assert (shopper.sessions, shopper.clicks, shopper.reasons) == (2, 3 + 2, ("fast", "deep"))
    assert (shopper.first, shopper.last) == (START, START + timedelta(days=1))
    assert shopper.queries == (Subject("cordless drill", 3),)
    assert shopper.products == (Subject("p2", 2 + 2), Subject("p1", 1))
    assert nobody.products == ()


def test_rejected_events_are_counted_with_examples() -> None:
    rows = [{"reason": "duplicate", "time": START + timedelta(minutes=at)} for at in (5, 3, 1, 4)]
    found = summarize_events(rejected_frame([*rows, {"reason": "never shown", "kind": "cart"}]))
    assert [(one.reason, one.count) for one in found] == [("duplicate", 4), ("never shown", 1)]
    assert [example.time for example in found[0].examples] == [START + timedelta(minutes=at) for at in (1, 3, 4)]
    assert found[1].examples == (EventExample(START, "cart"),)


def test_rejected_import_rows_are_read_from_their_file(tmp_path: Path) -> None:
    path, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    assert summarize_rows([]) == ()
    path.write_text(
        '{"file":"f","line":3,"reason":"bad time","detail":"x","event":{"kind":"click"}}\n'
        '{"file":"f","line":1,"reason":"no JSON","detail":""}\n' + '{"file":"f","line":9,"reason":"no JSON"}\n' * 3
    )
    other.write_text('{"file":"g","line":5,"reason":"no JSON"}\n')
    first = tuple(RowExample("f", line, "") for line in (1, 9, 9))
    assert summarize_rows([path, other]) == (
        RejectedRows("no JSON", 1 + 4, first),
        RejectedRows("bad time", 1, (RowExample("f", 3, "x"),)),
    )
    path.write_text("what is this\n")
    with pytest.raises(StoreDamagedError, match="an import creates it again"):
        summarize_rows([path])
