"""Words as a person sees them, and the tokens that make them up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoders.base import TokenSpans
from retrieval.text.spans import token_words, word_spans


def words(text: str, *known: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text, known)]


def places(text: str, *spans: tuple[int, int]) -> TokenSpans:
    return TokenSpans(text, np.arange(len(spans), dtype=np.int32), np.array(spans, np.int64).reshape(-1, 2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bosch cordless-drill, 18V (2.0Ah)", ["Bosch", "cordless-drill", "18V", "2.0Ah"]),
        ("1/2 in. men's M8x40 · Café", ["1/2", "in", "men's", "M8x40", "Café"]),
        ("博世 18V充电电钻", ["博世", "18V", "充电", "电钻"]),
        ("--- … _", []),
        ("", []),
    ],
)
def test_words_are_what_a_person_reads(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_known_chinese_word_is_found_inside_a_longer_one() -> None:
    assert words("博世无线电钻充电式") == ["博世", "无线电", "钻", "充电式"]
    assert words("博世无线电钻充电式", "电钻", "drill") == ["博世", "无线", "电钻", "充电式"]
    assert words("电钻电钻", "电", "电钻") == ["电钻", "电钻"]


@given(
    st.text(st.sampled_from("ab1 -.'电钻无线é_½\u0301\n"), max_size=40), st.lists(st.sampled_from(("电钻", "线", "a")))
)
def test_spans_go_upwards_and_leave_no_letter_out(text: str, known: list[str]) -> None:
    spans = list(word_spans(text, known))
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    covered = {place for start, end in spans for place in range(start, end)}
    assert {place for place, letter in enumerate(text) if letter.isalnum()} <= covered


def test_tokens_are_put_to_the_words_that_they_are_part_of() -> None:
    # The first token begins with the blank before its word; the hyphen's token is part of the whole word.
    found = token_words(places(" Torx-bit, x", (0, 5), (5, 6), (6, 9), (9, 10), (11, 12)), 9)
    assert found.words == ("Torx-bit", "x")
    assert found.keys == ("torx-bit", "x")
    assert found.word_of.tolist() == [0, 0, 0, -1, 1]


def test_words_behind_the_last_token_are_left_out() -> None:
    found = token_words(places("a b c", (0, 1), (2, 3), (4, 5)), 2)
    assert (found.words, found.word_of.tolist()) == (("a", "b"), [0, 1])


@pytest.mark.parametrize("text", ["", "?!"])
def test_a_text_without_words_has_none(text: str) -> None:
    found = token_words(places(text, *((at, at + 1) for at in range(len(text)))), 9)
    assert (found.words, found.word_of.tolist()) == ((), [-1] * len(text))
