"""The words of a text as shoppers type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.text.vocabulary import forms, index_words, is_correctable, letter_set, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Cordless Drill, 18V", ["cordless", "drill", "18v"]),
        ("Men's T-Shirt", ["mens", "t", "shirt"]),
        ("Men’s", ["mens"]),
        ("Café Crème", ["cafe", "creme"]),
        ("Cafe\u0301", ["cafe"]),
        ("无线drill电钻", ["无线", "drill", "电钻"]),
        ("snake_case", ["snake", "case"]),
        ("Ёлка", ["ёлка"]),
        ("\x00\x1f ,.;", []),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_chinese_is_found_by_pairs_and_its_last_character() -> None:
    assert index_words("无线电钻") == ["无线", "线电", "电钻", "钻"]
    assert index_words("钻") == ["钻"]


def test_nobody_types_a_word_of_fifty_letters() -> None:
    assert index_words("a" * 40) == ["a" * 40]
    assert index_words("a" * 41) == []


@pytest.mark.parametrize(("word", "others"), [("drill", ("drill", "drills")), ("drills", ("drills", "drill"))])
def test_singular_and_plural(word: str, others: tuple[str, ...]) -> None:
    assert forms(word) == others


@pytest.mark.parametrize("word", ["tv", "18v", "电钻", "дрель"])
def test_what_has_no_plural_by_s(word: str) -> None:
    assert forms(word) == (word,)


@pytest.mark.parametrize(
    ("word", "is_it"), [("drill", True), ("дрель", True), ("café", True), ("18v", False), ("电钻", False)]
)
def test_which_words_are_spelled_by_letters(word: str, is_it: bool) -> None:
    assert is_correctable(word) is is_it


@given(st.text("abcdefzé", min_size=1, max_size=8), st.data())
def test_an_edit_changes_two_bits_of_the_letters_at_most(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(word) - 1))
    letter = data.draw(st.sampled_from("abxyzñ"))
    for edited in (word[:at] + word[at + 1 :], word[:at] + letter + word[at:], word[:at] + letter + word[at + 1 :]):
        assert (letter_set(word) ^ letter_set(edited)).bit_count() <= 2
