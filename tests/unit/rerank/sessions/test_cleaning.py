"""Events cleaned and joined to sessions."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.sessions.cleaning import (
    CLEAN_SCHEMA,
    MAX_QUANTITY,
    REJECTED_SCHEMA,
    RejectReason,
    clean,
    correct_clocks,
    find_faults,
)
from shelfwise.rerank.sessions.sessionize import add_needs, same_need, sessionize
from shelfwise.retrieval.events.stored import SPONSORED_MARK
from shelfwise.retrieval.records import EventKind
from tests.unit.rerank.sessions.session_logs import at, event, in_order, log, shown

ANSWER: dict[str, Any] = {"session": "s", "query_id": "q", "query": "drill"}


ids = st.sampled_from(["", "a", "b"])
kinds = st.sampled_from([kind.value for kind in EventKind])
numbers = st.sampled_from([None, 0, 1, 2, 20_000])
rows = st.tuples(st.integers(0, 9_000), kinds, ids, ids, ids, st.sampled_from(["", "pan", "frying pan"]), ids, numbers)
catalogs = st.sampled_from([None, pl.DataFrame({"product_id": ["a"], "created": [None]})])


@given(st.lists(rows, max_size=30), catalogs, st.sampled_from([0, 4_000]))
def test_every_event_is_in_exactly_one_table(
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


def corrected(table: pl.DataFrame) -> int:
    return int((correct_clocks(table)["time"] != table["time"]).sum())


def test_slow_clock_is_corrected_by_the_minimum_difference() -> None:
    hour = 3_600
    late = (hour + 3, hour + 1, hour + 4)
    table = log(event(60 * n, session="s", late=by) for n, by in enumerate(late))
    right = correct_clocks(table)
    assert right["time"].to_list() == [at(60 * n + min(late)) for n in range(3)]
    assert right.drop("time").equals(table.drop("time"))


def test_fast_clock_is_corrected() -> None:
    right = correct_clocks(log(event(60 * n, session="s", late=-240) for n in range(3)))
    assert right["time"].to_list() == [at(60 * n - 240) for n in range(3)]


def test_only_the_wrong_clock_of_two_is_corrected() -> None:
    server = [event(600 + 60 * n, "impression", session="s", late=1) for n in range(3)]
    client = [event(60 * n, session="s", late=601) for n in range(3)]
    right = correct_clocks(log([*server, *client]))
    assert right["time"].to_list() == [at(600), at(660), at(720), at(601), at(661), at(721)]


@pytest.mark.parametrize(
    "events",
    {
        "imported: another offset each": [event(60 * n, session="s", late=86_400 - 60 * n) for n in range(20)],
        "sent at once after being offline": [event(n, session="s", late=7_200) for n in range(3)],
        "only two": [event(60 * n, session="s", late=3_600) for n in range(2)],
        "two of a session, two of a shopper of the same name": [
            event(60 * n, **{column: "x"}, late=3_600) for column in ("session", "shopper") for n in range(2)
        ],
    }.values(),
)
def test_times_without_evidence_of_skew_are_kept(events: list[dict[str, object]]) -> None:
    assert corrected(log(events)) == 0


def test_events_received_in_time_are_unchanged() -> None:
    assert corrected(log(event(60 * n, session="s", late=90) for n in range(5))) == 0
    assert corrected(log(event(60 * n, session="s", late=130) for n in range(5))) == 5


def reasons(*events: dict[str, object], products: pl.DataFrame | None = None) -> list[str | None]:
    judged = find_faults(sessionize(log(events)), products)
    return [None if each is None else str(each) for each in in_order(judged, "reason")]


PAGE = shown(0, "ab", **ANSWER)
CLICK: dict[str, Any] = {"product_id": "a", "position": 1, **ANSWER}


@pytest.mark.parametrize(
    ("events", "expected"),
    {
        "a double click keeps the first": ([event(time, **CLICK) for time in (5, 5.4, 8)], [None, "duplicate", None]),
        "an answer shown again by a reload keeps the first": (
            [*shown(300, "ab", **ANSWER), event(301, product_id="b", **ANSWER)],
            ["duplicate", "duplicate", None],
        ),
        "a product browsed again, without an answer": (
            [*shown(0, "a", session="s"), *shown(9, "a", session="s")],
            [None] * 2,
        ),
        "acts on an answer that nothing names": (
            [event(5, kind, product_id="a", session="s", query_id="never") for kind in ("click", "cart")],
            ["unknown query", "unknown query"],
        ),
        "a click on a sponsored hit": (
            [event(5, product_id="x", session="s", query_id=f"q{SPONSORED_MARK}Zm9v")],
            [None],
        ),
        "a purchase, whatever answer it names": ([event(5, "purchase", product_id="x", query_id="never")], [None]),
        "a product that the answer did not show": ([event(5, product_id="c", **ANSWER)], ["never shown"]),
    }.values(),
)
def test_acts_are_checked_against_their_answers(events: list[dict[str, object]], expected: list[str | None]) -> None:
    assert reasons(*PAGE, *events) == [None, None, *expected]


def test_unknown_answers_reject_nothing() -> None:
    assert reasons(event(0, product_id="a", **ANSWER)) == [None]
    assert reasons(event(0, "query", **ANSWER), event(5, product_id="c", **ANSWER)) == [None, None]


@pytest.mark.parametrize(
    "other", [{"kind": "cart"}, {"product_id": "b"}, {"position": 2}, {"session": "t"}, {"query_id": "r"}]
)
def test_different_events_are_not_duplicates(other: dict[str, object]) -> None:
    one = event(5, product_id="a", position=1, session="s")
    assert reasons(one, {**event(5.2, product_id="a", position=1, session="s"), **other}) == [None, None]


@pytest.mark.parametrize("other", [{"quantity": 6}, {"rating": 4.0}])
def test_lines_of_one_order_are_not_duplicates(other: dict[str, object]) -> None:
    line = event(5, "purchase", product_id="a", session="s", quantity=1, rating=5.0)
    assert reasons(line, {**line, **other}) == [None, None]
    assert reasons(line, line) == [None, RejectReason.DUPLICATE]


def test_answer_of_an_earlier_day_is_known() -> None:
    output = log(shown(7_200, "ab", **ANSWER))
    acts = [event(0, product_id=each, **ANSWER) for each in "ac"]
    # Shown again later, and by a fast clock: the earlier answer still counts.
    judged = find_faults(sessionize(log([*acts, *shown(300, "ab", **ANSWER)])), None, earlier=output)
    assert in_order(judged, "reason") == [None, RejectReason.NEVER_SHOWN, None, None]


def catalog(**created: float | None) -> pl.DataFrame:
    times = [None if seconds is None else at(seconds) for seconds in created.values()]
    schema = pl.Schema({"product_id": pl.String(), "created": pl.Datetime("us", "UTC")})
    return pl.DataFrame({"product_id": list(created), "created": times}, schema=schema)


def test_unknown_products_are_rejected_by_the_catalog() -> None:
    events = [event(0, product_id=each, session="s") for each in ("old", "new", "undated", "other")]
    products = catalog(old=-10, new=3_600, undated=None)
    expected = [None, RejectReason.BEFORE_PRODUCT, None, RejectReason.UNKNOWN_PRODUCT]
    assert reasons(*events, products=products) == expected
    assert reasons(*events) == [None] * 4
    assert reasons(event(0, "query", **ANSWER), products=catalog()) == [None]


def test_click_before_its_answer_is_rejected() -> None:
    early = [event(time, product_id="a", **ANSWER) for time in (-60, -5)]
    assert reasons(*shown(0, "a", **ANSWER), *early) == [None, RejectReason.OUT_OF_ORDER, None]


def test_impossible_event_order_is_rejected() -> None:
    line = {"product_id": "a", "session": "s"}
    bought = [event(time, "purchase", quantity=n, **line) for time, n in ((0, MAX_QUANTITY), (9, MAX_QUANTITY + 1))]
    nowhere = event(20, product_id="a", session="s", position=0)
    assert reasons(*bought, nowhere) == [None, RejectReason.IMPOSSIBLE, RejectReason.IMPOSSIBLE]


def surplus(table: pl.DataFrame) -> dict[str, int]:
    """The number of surplus events by kind."""
    rejected = clean(table, None).rejected.filter(pl.col("reason") == str(RejectReason.SURPLUS))
    return dict(rejected.group_by(pl.col("kind").cast(pl.String)).len().iter_rows())


def test_address_counts_once_for_each_product_whatever_names_it_uses() -> None:
    times = enumerate((address, kind) for address in ("home", "cafe", "") for kind in ("click", "cart", "purchase") * 3)
    acts = [(60 * number, kind, address) for number, (address, kind) in times]
    new = [event(at, kind, product_id="a", session=f"s{at}", address=address) for at, kind, address in acts]
    assert sum(surplus(log(new)).values()) == 16
    same = [event(at, kind, product_id="a", shopper=f"u{address}", address=address) for at, kind, address in acts]
    assert surplus(log(same)) == {"click": 4, "cart": 4, "purchase": 4}


def test_address_has_few_answers_of_one_shopper_to_a_query_and_loses_the_others_whole() -> None:
    def answer(number: int, text: str, product: str, shopper: str) -> list[dict[str, Any]]:
        names = {"session": f"{shopper}{number}", "shopper": shopper, "query_id": f"q{number}", "address": "home"}
        click = event(100 * number + 5, product_id=product, **names)
        return [*shown(100 * number, "abcdef", query=text, **names), click]

    own = [answer(number, text, "abcdef"[number], "u") for number, text in enumerate(["drill", "Drill"] * 3)]
    saw = answer(7, "saw", "a", "u")
    cleaned = clean(log([*sum(own, saw), *answer(8, "saw", "f", "v"), *answer(9, "drill", "f", "v")]), None).events
    lists = cleaned.filter(pl.col("kind") == "impression").unique("query_id")
    whose = lists.group_by(pl.col("query").str.to_lowercase()).agg(pl.col("shopper").n_unique(), pl.len())
    assert dict(whose.select("query", "shopper").iter_rows()) == {"drill": 1, "saw": 1}
    assert 1 <= lists.filter(pl.col("query") == "saw").height <= 1 and lists.height in (2, 5)
    # No click is left on an answer that was rejected.
    assert set(cleaned.filter(pl.col("kind") == "click")["query_id"]) <= set(lists["query_id"])


def test_address_has_a_largest_number_of_acts_and_answers() -> None:
    acts = [event(number, product_id=f"p{number}", session="s", address="home") for number in range(150)]
    assert surplus(log(acts)) == {"click": 50}


def test_click_without_a_position_has_that_of_the_recorded_list() -> None:
    click = event(5, product_id="b", session="s", query_id="q", address="home")
    cleaned = clean(log([*shown(0, "ab", **ANSWER, address="home"), click]), None)
    assert cleaned.events.filter(pl.col("kind") == "click")["position"].to_list() == [2]


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
