"""Words of a text, their postings and their spans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.encoders.base import TokenSpans
from shelfwise.retrieval.text.highlight import token_words, word_spans
from shelfwise.retrieval.text.vocabulary import (
    WordLookup,
    forms,
    index_words,
    is_correctable,
    language_words,
    postings_of,
    words_of,
)

WORDS = st.sampled_from(("drill", "drills", "drip", "bit", "电钻", "钻", "é", "zoo"))
TEXTS = st.lists(st.lists(WORDS, max_size=5), max_size=12)
LOOKUPS = st.lists(
    st.builds(WordLookup, st.one_of(WORDS, st.sampled_from(("d", "dr", "", "q"))), st.booleans()), max_size=3
)


def test_words_of_every_entry_of_the_dictionary_belong_to_the_language() -> None:
    assert {"drill", "didn't"} <= language_words()
    assert set(words_of("didn't")) <= language_words()


def has(text: list[str], lookup: WordLookup) -> bool:
    begun = lookup.is_prefix and any(word.startswith(lookup.word) for word in text)
    return begun or any(word in forms(lookup.word) for word in text)


@given(TEXTS, LOOKUPS)
def test_lookup_equals_a_scan_of_all_texts(texts: list[list[str]], lookups: list[WordLookup]) -> None:
    postings = postings_of(texts)
    found = postings.matching(lookups).tolist()
    assert found == [at for at, text in enumerate(texts) if all(has(text, lookup) for lookup in lookups)]
    words = [postings[place] for place in range(len(postings))]
    assert words == sorted({word for text in texts for word in text})
    assert [postings.position(word) for word in words] == list(range(len(words)))


def test_lone_surrogate_is_not_a_word() -> None:
    postings = postings_of([["drill"]])
    assert postings.position("\ud800") is None
    assert not postings.prefix_positions("\ud800")
    assert not postings_of([]).matching([WordLookup("a")]).size


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
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_chinese_is_found_by_bigrams_and_last_character() -> None:
    assert index_words("无线电钻") == ["无线", "线电", "电钻", "钻"]
    assert index_words("钻") == ["钻"]
    assert [index_words("a" * length) for length in (40, 41)] == [["a" * 40], []], "nobody types so long a word"


@pytest.mark.parametrize(
    ("word", "other"), [("drill", "drills"), ("drills", "drill"), *((w, "") for w in ("tv", "18v", "电钻", "дрель"))]
)
def test_singular_and_plural_are_matched_by_s(word: str, other: str) -> None:
    assert forms(word) == ((word, other) if other else (word,))


@pytest.mark.parametrize(
    ("word", "is_it"), [("drill", True), ("дрель", True), ("café", True), ("18v", False), ("电钻", False)]
)
def test_words_that_can_be_spell_checked(word: str, is_it: bool) -> None:
    assert is_correctable(word) is is_it


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
def test_spans_cover_readable_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_known_chinese_word_is_found_inside_a_longer_one() -> None:
    assert words("博世无线电钻充电式") == ["博世", "无线电", "钻", "充电式"]
    assert words("博世无线电钻充电式", "电钻", "drill") == ["博世", "无线", "电钻", "充电式"]
    assert words("电钻电钻", "电", "电钻") == ["电钻", "电钻"]


@given(
    st.text(st.sampled_from("ab1 -.'电钻无线é_½\u0301\n"), max_size=40), st.lists(st.sampled_from(("电钻", "线", "a")))
)
def test_spans_ascend_and_cover_every_letter(text: str, known: list[str]) -> None:
    spans = list(word_spans(text, known))
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    covered = {place for start, end in spans for place in range(start, end)}
    assert {place for place, letter in enumerate(text) if letter.isalnum()} <= covered


def test_tokens_are_assigned_to_their_words() -> None:
    # The first token begins with the blank before its word; the hyphen's token is part of the whole word.
    found = token_words(places(" Torx-bit, x", (0, 5), (5, 6), (6, 9), (9, 10), (11, 12)), 9)
    assert found.words == ("Torx-bit", "x")
    assert found.keys == ("torx-bit", "x")
    assert found.word_of.tolist() == [0, 0, 0, -1, 1]
    behind = token_words(places("a b c", (0, 1), (2, 3), (4, 5)), 2)
    assert (behind.words, behind.word_of.tolist()) == (("a", "b"), [0, 1])
