"""What was typed, as words, and where another text has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.spelling import MOST_WORDS, TypedText


@pytest.mark.parametrize(
    ("typed", "text", "shown"),
    [
        ("cord", "Cordless Drill", "[Cord]less Drill"),
        ("dr cord", "Cordless Dr", "[Cord]less [Dr]"),
        ("drill ", "Drills & Drill", "[Drill]s & [Drill]"),
        ("drills", "Drill", "[Drill]"),
        ("drills ", "Drill", "[Drill]"),
        ("mens", "Men's Shoes", "[Men's] Shoes"),
        ("cafe", "Café au lait", "[Café] au lait"),
        ("线电", "无线电钻", "无[线电]钻"),
        ("无线钻", "无线电钻", None),
        ("drill saw", "drill", None),
    ],
)
def test_spans(typed: str, text: str, shown: str | None) -> None:
    spans = TypedText(typed).spans_in(text)
    if spans is not None:
        for start, end in reversed(spans):
            text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    assert (text if spans is not None else None) == shown


def test_where_some_may_be_missing() -> None:
    assert TypedText("bosch dr").spans_in("Drill", partly=True) == ((0, 2),)


def test_only_a_last_word_that_the_text_ends_with_may_go_on() -> None:
    assert [each.is_prefix for each in TypedText("cordless dr").lookups] == [False, True]
    assert [each.is_prefix for each in TypedText("cordless dr ").lookups] == [False, False]
    assert [each.is_prefix for each in TypedText("cordless dr,").lookups] == [False, False]


def test_words_are_replaced_and_all_else_stays() -> None:
    assert TypedText("Cordles  DRILL,\n18V").replaced({0: "cordless"}) == "cordless  DRILL,\n18V"
    assert TypedText("a\ud800 cordles").replaced({1: "cordless"}) == "a cordless"


def test_too_long() -> None:
    assert not TypedText("a " * MOST_WORDS).is_too_long
    assert TypedText("a " * (MOST_WORDS + 1)).is_too_long
    assert TypedText("钻" * (MOST_WORDS + 1)).is_too_long


@given(st.text(), st.text())
def test_spans_are_ascending_apart_and_inside(typed: str, text: str) -> None:
    spans = TypedText(typed).spans_in(text, partly=True) or ()
    places = [place for span in spans for place in span]
    assert places == sorted(places)
    assert all(0 <= start < end <= len(text) for start, end in spans)
