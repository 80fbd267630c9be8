import pytest

from rerank.sessions.sessionize import add_needs, same_need, sessionize
from tests.unit.rerank.sessions.session_logs import event, in_order, log, shown


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
def test_the_same_need_in_other_words(one: str, other: str) -> None:
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
        ("!!", "drill"),
    ],
)
def test_another_need(one: str, other: str) -> None:
    assert not same_need(one, other)
    assert not same_need(other, one)


def needs_of(*events: dict[str, object]) -> list[int]:
    return in_order(add_needs(sessionize(log(events))), "need")


def asked(seconds: float, query: str, query_id: str, session: str = "s") -> dict[str, object]:
    return event(seconds, "query", query=query, query_id=query_id, session=session)


def test_a_chain_is_one_need_until_something_else_is_searched() -> None:
    chain = ("drill", "cordless drill", "cordless drill 18v", "socks", "wool socks")
    assert needs_of(*(asked(n, query, f"q{n}") for n, query in enumerate(chain))) == [0, 0, 0, 1, 1]


def test_the_same_words_after_a_long_pause_are_another_need() -> None:
    assert needs_of(asked(0, "drill", "q1"), asked(16 * 60, "drill", "q2")) == [0, 1]


def test_the_pause_counts_from_the_last_act_on_the_search_before() -> None:
    click = event(10 * 60, session="s", query_id="q1", product_id="a")
    assert needs_of(asked(0, "drill", "q1"), click, asked(20 * 60, "drill", "q2")) == [0, 0, 0]


def test_needs_are_unique_over_sessions() -> None:
    assert needs_of(asked(0, "drill", "q1", "s"), asked(1, "drill", "q2", "t")) == [0, 1]


def test_answers_that_show_the_same_products_are_one_need_without_a_common_word() -> None:
    couch = shown(0, "abcde", session="s", query="couch", query_id="q1")
    sofa = shown(9, "xaybz", session="s", query="sofa", query_id="q2")
    lamp = shown(19, "pqrst", session="s", query="lamp", query_id="q3")
    assert needs_of(*couch, *sofa, *lamp) == [0] * 10 + [1] * 5


def test_a_late_click_goes_with_its_answer() -> None:
    late = event(20, session="s", query_id="q1", product_id="a")
    assert needs_of(asked(0, "drill", "q1"), asked(10, "socks", "q2"), late) == [0, 1, 0]


def test_what_is_done_without_a_query_belongs_to_the_need_before() -> None:
    view = event(20, "consultation", session="s", product_id="a")
    assert needs_of(view | {"time": view["received"]}, asked(0, "drill", "q1")) == [0, 0]
    first = event(-5, "consultation", session="s", product_id="a")
    assert needs_of(first, asked(0, "drill", "q1")) == [0, 0]


def test_no_events_have_no_needs() -> None:
    assert needs_of() == []
