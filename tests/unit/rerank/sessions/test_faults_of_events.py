from datetime import timedelta

import polars as pl
import pytest

from rerank.sessions.cleaning import FaultOptions, RejectReason, find_faults
from rerank.sessions.sessionize import sessionize
from tests.unit.rerank.sessions.session_logs import at, event, in_order, log, shown

ANSWER = {"session": "s", "query_id": "q", "query": "drill"}


def reasons(
    *events: dict[str, object], products: pl.DataFrame | None = None, options: FaultOptions | None = None
) -> list[str | None]:
    judged = find_faults(sessionize(log(events)), products, options)
    return [None if each is None else str(each) for each in in_order(judged, "reason")]


def test_a_double_click_keeps_the_first() -> None:
    clicks = [event(time, product_id="a", position=1, **ANSWER) for time in (5, 5.4, 8)]
    assert reasons(*shown(0, "a", **ANSWER), *clicks) == [None, None, RejectReason.DUPLICATE, None]


@pytest.mark.parametrize(
    "other", [{"kind": "cart"}, {"product_id": "b"}, {"position": 2}, {"session": "t"}, {"query_id": "r"}]
)
def test_what_differs_is_no_duplicate(other: dict[str, object]) -> None:
    one = event(5, product_id="a", position=1, session="s")
    assert reasons(one, {**event(5.2, product_id="a", position=1, session="s"), **other}) == [None, None]


@pytest.mark.parametrize("other", [{"quantity": 6}, {"rating": 4.0}])
def test_lines_of_one_order_are_no_duplicates(other: dict[str, object]) -> None:
    line = event(5, "purchase", product_id="a", session="s", quantity=1, rating=5.0)
    assert reasons(line, {**line, **other}) == [None, None]
    assert reasons(line, line) == [None, RejectReason.DUPLICATE]


def test_an_answer_that_was_told_of_before_is_known() -> None:
    answer = {"session": "s", "query_id": "q", "query": "drill"}
    told = log(shown(7_200, "ab", **answer))
    acts = [event(0, product_id=each, **answer) for each in "ac"]
    # Shown again later, and by a clock that is ahead: it was there before all the same.
    judged = find_faults(sessionize(log([*acts, *shown(300, "ab", **answer)])), None, earlier=told)
    assert in_order(judged, "reason") == [None, RejectReason.NEVER_SHOWN, None, None]


def test_an_answer_shown_again_by_a_reload_keeps_the_first() -> None:
    found = reasons(*shown(0, "ab", **ANSWER), *shown(300, "ab", **ANSWER), event(301, product_id="b", **ANSWER))
    assert found == [None, None, RejectReason.DUPLICATE, RejectReason.DUPLICATE, None]


def test_a_product_browsed_again_without_an_answer_is_no_duplicate() -> None:
    assert reasons(*shown(0, "a", session="s"), *shown(9, "a", session="s")) == [None, None]


def catalog(**created: float | None) -> pl.DataFrame:
    times = [None if seconds is None else at(seconds) for seconds in created.values()]
    schema = pl.Schema({"product_id": pl.String(), "created": pl.Datetime("us", "UTC")})
    return pl.DataFrame({"product_id": list(created), "created": times}, schema=schema)


def test_products_are_judged_by_the_catalog() -> None:
    events = [event(0, product_id=each, session="s") for each in ("old", "new", "undated", "other")]
    products = catalog(old=-10, new=3_600, undated=None)
    assert reasons(*events, products=products) == [
        None,
        RejectReason.BEFORE_PRODUCT,
        None,
        RejectReason.UNKNOWN_PRODUCT,
    ]
    assert reasons(*events) == [None] * 4


def test_a_query_is_not_judged_by_the_catalog() -> None:
    assert reasons(event(0, "query", **ANSWER), products=catalog()) == [None]


@pytest.mark.parametrize("kind", ["click", "cart"])
def test_acts_on_answers_that_nothing_tells_of(kind: str) -> None:
    stray = event(5, kind, product_id="a", session="s", query_id="never")
    assert reasons(*shown(0, "a", **ANSWER), stray) == [None, RejectReason.UNKNOWN_QUERY]


def test_a_log_without_answers_is_not_judged_by_them() -> None:
    assert reasons(event(0, product_id="a", **ANSWER)) == [None]


def test_a_purchase_is_kept_whatever_it_says_of_answers() -> None:
    assert reasons(*shown(0, "a", **ANSWER), event(5, "purchase", product_id="x", query_id="never")) == [None, None]


def test_a_product_that_the_answer_did_not_show() -> None:
    assert reasons(*shown(0, "ab", **ANSWER), event(5, product_id="c", **ANSWER)) == [
        None,
        None,
        RejectReason.NEVER_SHOWN,
    ]


def test_an_answer_told_of_by_its_query_alone_may_have_shown_anything() -> None:
    assert reasons(event(0, "query", **ANSWER), event(5, product_id="c", **ANSWER)) == [None, None]


def test_a_click_before_its_answer() -> None:
    early = [event(time, product_id="a", **ANSWER) for time in (-60, -5)]
    assert reasons(*shown(0, "a", **ANSWER), *early) == [None, RejectReason.OUT_OF_ORDER, None]
    wide = FaultOptions(order=timedelta(seconds=60))
    assert reasons(*shown(0, "a", **ANSWER), *early, options=wide) == [None, None, None]


def test_impossible_in_order() -> None:
    most = FaultOptions().quantity
    bought = [
        event(time, "purchase", product_id="a", session="s", quantity=n) for time, n in ((0, most), (9, most + 1))
    ]
    nowhere = event(20, product_id="a", session="s", position=0)
    assert reasons(*bought, nowhere) == [None, RejectReason.IMPOSSIBLE, RejectReason.IMPOSSIBLE]


def test_each_reason_says_what_it_found() -> None:
    events = [*shown(0, "ab", **ANSWER), event(5, product_id="c", **ANSWER), event(-60, product_id="a", **ANSWER)]
    details = in_order(find_faults(sessionize(log(events)), None), "detail")
    assert details == [None, None, "q did not show c", "60.0 s before it was shown"]
