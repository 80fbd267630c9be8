from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.sessions.cleaning import CLEAN_SCHEMA, REJECTED_SCHEMA, clean
from retrieval.records import EventKind
from tests.unit.rerank.sessions.session_logs import event, log, shown


def test_events_come_out_in_sessions_and_what_is_wrong_is_aside() -> None:
    answer: dict[str, Any] = {"session": "s", "query_id": "q", "query": "drill"}
    clicks = [event(time, product_id="b", position=2, **answer) for time in (5.2, 5)]
    cleaned = clean(log([*clicks, *shown(0, "ab", **answer)]), None)
    assert cleaned.events["kind"].to_list() == ["impression", "impression", "click"]
    assert cleaned.events.select("session_number", "need").unique().rows() == [(0, 0)]
    assert cleaned.rejected.select("key", "reason", "detail").rows() == [(b"0", "duplicate", "0.2 s after the same")]


def test_a_corrected_clock_puts_clicks_behind_their_answer() -> None:
    answer: dict[str, Any] = {"session": "s", "query_id": "q", "query": "drill"}
    page = shown(7_200, "abc", late=1, **answer)
    clicks = [event(20 * n, product_id="abc"[n], late=7_230, **answer) for n in range(3)]
    cleaned = clean(log([*page, *clicks]), None)
    assert cleaned.rejected.is_empty()
    assert cleaned.events["session_number"].unique().to_list() == [0]


def test_no_events_are_clean() -> None:
    cleaned = clean(log([]), None)
    assert (cleaned.events.schema, cleaned.rejected.schema) == (CLEAN_SCHEMA, REJECTED_SCHEMA)


ids = st.sampled_from(["", "a", "b"])
kinds = st.sampled_from([kind.value for kind in EventKind])
numbers = st.sampled_from([None, 0, 1, 2, 20_000])
rows = st.tuples(st.integers(0, 9_000), kinds, ids, ids, ids, st.sampled_from(["", "pan", "frying pan"]), ids, numbers)
catalogs = st.sampled_from([None, pl.DataFrame({"product_id": ["a"], "created": [None]})])


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=30), catalogs, st.sampled_from([0, 4_000]))
def test_every_event_is_in_one_of_the_tables(
    drawn: list[tuple[int, str, str, str, str, str, str, int | None]], products: pl.DataFrame | None, late: int
) -> None:
    names = ("session", "shopper", "query_id", "query", "product_id", "position")
    events = log(event(time, kind, late=late, **dict(zip(names, values, strict=True))) for time, kind, *values in drawn)
    cleaned = clean(events, products)
    assert sorted([*cleaned.events["key"], *cleaned.rejected["key"]]) == sorted(events["key"])
    assert (cleaned.events.schema, cleaned.rejected.schema) == (CLEAN_SCHEMA, REJECTED_SCHEMA)
    assert cleaned.events.equals(cleaned.events.sort("session_number", "time", maintain_order=True))
    assert cleaned.rejected["detail"].null_count() == 0
    assert cleaned.events["need"].n_unique() == cleaned.events.select("need", "session_number").n_unique()
    again = clean(events.reverse(), products)
    assert again.events.equals(cleaned.events)
