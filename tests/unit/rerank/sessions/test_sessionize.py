"""Sessions end at pauses, and reworded searches belong to one need."""

from __future__ import annotations

from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.sessions.sessionize import add_needs, same_need, sessionize
from shelfwise.retrieval.events.store import EVENT_SCHEMA
from tests.unit.rerank.sessions.session_logs import event, in_order, log, shown

MINUTE = 60
HOUR = 60 * MINUTE


def sessions_of(*events: dict[str, object]) -> list[int]:
    return in_order(sessionize(log(events)), "session_number")


WHO = ("", "ann", "", "bob", "")
SEARCH = {"query_id": "q", "query": "drill"}


@pytest.mark.parametrize(
    ("events", "sessions"),
    {
        "at once, though of one shopper": (
            [event(0, session="s", shopper="a"), event(1, session="t", shopper="a")],
            [0, 1],
        ),
        "numbered as they begin": ([event(9, session="a"), event(0, session="b"), event(10, session="b")], [1, 0, 0]),
        "several shoppers in one, the unknown join the neighbour": (
            [event(n, session="s", shopper=name) for n, name in enumerate(WHO)],
            [0, 0, 0, 1, 1],
        ),
        "an event with a query only joins the session of that query": (
            [event(0, "query", session="s", **SEARCH), event(20, "purchase", query_id="q"), event(21, query_id="r")],
            [0, 0, 1],
        ),
        "a query of a shopper without sessions brings its anonymous events along": (
            [event(0, "query", shopper="ann", query_id="q"), event(5, query_id="q")],
            [0, 0],
        ),
        "a purchase that a server records joins the shopper's session, within the gap": (
            [event(0, shopper="ann", session="s"), *(event(n * MINUTE, "purchase", shopper="ann") for n in (10, 180))],
            [0, 0, 1],
        ),
        "a query id that two shoppers share does not join them": (
            [event(0, session="s", shopper="ann", query_id="q"), event(1, shopper="bob", query_id="q")],
            [0, 1],
        ),
        **{
            f"by {column} alone": ([event(n, **{column: name}) for n, name in enumerate("xxy")], [0, 0, 1])
            for column in ("session", "shopper", "query_id")
        },
    }.values(),
)
def test_events_share_a_session_by_shopper_or_session_id(events: list[dict[str, object]], sessions: list[int]) -> None:
    assert sessions_of(*events) == sessions


def test_session_longer_than_a_day_is_split_at_midnight() -> None:
    times = range(0, 30 * HOUR, 20 * MINUTE)  # from 9:00, so 15 hours are on the first day
    found = sessions_of(*(event(time, shopper="bot") for time in times))
    assert [found.count(0), found.count(1)] == [15 * 3, 15 * 3]


ids = st.sampled_from(["", "a", "b"])
rows = st.lists(st.tuples(st.integers(0, 5 * HOUR), ids, ids, ids), max_size=25)


@given(rows, st.randoms(use_true_random=False))
def test_every_event_has_one_session_in_any_order(drawn: list[tuple[int, str, str, str]], random: Random) -> None:
    events = [event(time, session=s, shopper=u, query_id=q) for time, s, u, q in drawn]
    table = log(events)
    found = sessionize(table)
    order = list(range(len(events)))
    random.shuffle(order)
    assert sorted(found["key"]) == sorted(table["key"])
    assert found.schema == pl.Schema([*EVENT_SCHEMA.items(), ("session_number", pl.UInt32())])
    assert found.equals(sessionize(table[order]) if events else found)


@given(st.lists(st.tuples(st.integers(0, 5 * HOUR), st.sampled_from("ab")), max_size=25))
def test_sessions_equal_a_loop(drawn: list[tuple[int, str]]) -> None:
    found = sessionize(log([event(time, shopper=shopper) for time, shopper in drawn]))
    expected: list[tuple[str, list[int]]] = []
    for shopper in "ab":
        times = sorted(time for time, who in drawn if who == shopper)
        for number, time in enumerate(times):
            if number == 0 or time - times[number - 1] > 30 * MINUTE:
                expected.append((shopper, []))
            expected[-1][1].append(time)
    seconds = (pl.col("time") - pl.datetime(2026, 3, 2, 9, time_zone="UTC")).dt.total_seconds()
    groups = found.group_by("session_number").agg(pl.col("shopper").first(), seconds.sort().alias("times"))
    assert sorted(zip(groups["shopper"], groups["times"].to_list(), strict=True)) == sorted(expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("drill", "cordless drill"),
        ("Cordless  DRILL", "cordless drill"),
        ("red running shoes", "blue running shoes"),
        ("bluetooht speaker", "bluetooth speaker"),
        ("jeaans", "jeans"),
        ("电钻", "无线电钻"),
        ("无线电钻", "无线 电钻"),
        ("红色跑步鞋", "白色跑步鞋"),
        ("ＵＳＢ cable", "usb cable"),
    ],
)
def test_similar_queries_share_a_need(one: str, other: str) -> None:
    assert same_need(one, other)
    assert same_need(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cordless drill", "dog leash"),
        ("red shoes", "red sofa"),
        ("pan", "pen"),
        ("电钻", "钻石"),
        ("羽绒服", "羽毛球"),
        ("!", "saw"),
    ],
)
def test_different_queries_are_different_needs(one: str, other: str) -> None:
    assert not same_need(one, other)
    assert not same_need(other, one)


def needs_of(*events: dict[str, object]) -> list[int]:
    return in_order(add_needs(sessionize(log(events))), "need")


def search(seconds: float, query: str, query_id: str, session: str = "s") -> dict[str, object]:
    return event(seconds, "query", query=query, query_id=query_id, session=session)


def test_chain_of_similar_queries_is_one_need() -> None:
    chain = ("drill", "cordless drill", "cordless drill 18v", "socks", "wool socks")
    assert needs_of(*(search(n, query, f"q{n}") for n, query in enumerate(chain))) == [0, 0, 0, 1, 1]


def click(seconds: float) -> dict[str, object]:
    return event(seconds, session="s", query_id="q1", product_id="a")


@pytest.mark.parametrize(
    ("events", "needs"),
    {
        "the same words after a long pause": ([search(0, "drill", "q1"), search(16 * 60, "drill", "q2")], [0, 1]),
        "the pause counts from the last act": (
            [search(0, "drill", "q1"), click(10 * 60), search(20 * 60, "drill", "q2")],
            [0, 0, 0],
        ),
        "a late click is of its answer": ([search(0, "drill", "q1"), search(10, "socks", "q2"), click(20)], [0, 1, 0]),
        "unique over sessions": ([search(0, "drill", "q1", "s"), search(1, "drill", "q2", "t")], [0, 1]),
    }.values(),
)
def test_which_searches_share_a_need(events: list[dict[str, object]], needs: list[int]) -> None:
    assert needs_of(*events) == needs


def test_answers_with_the_same_products_share_a_need() -> None:
    couch = shown(0, "abcde", session="s", query="couch", query_id="q1")
    sofa = shown(9, "xaybz", session="s", query="sofa", query_id="q2")
    lamp = shown(19, "pqrst", session="s", query="lamp", query_id="q3")
    assert needs_of(*couch, *sofa, *lamp) == [0] * 10 + [1] * 5


def test_acts_without_a_query_belong_to_the_previous_need() -> None:
    view = event(20, "consultation", session="s", product_id="a")
    assert needs_of(view | {"time": view["received"]}, search(0, "drill", "q1")) == [0, 0]
    first = event(-5, "consultation", session="s", product_id="a")
    assert needs_of(first, search(0, "drill", "q1")) == [0, 0]
