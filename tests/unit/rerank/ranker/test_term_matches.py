"""Which word of a product each word of a query meets, on states made by hand."""

from __future__ import annotations

import numpy as np

from rerank.ranker.explanation import QueryWords, term_matches
from retrieval.encoders.base import unit_rows
from retrieval.index.token_states import SCALE
from retrieval.records import TermMatch
from retrieval.text.spans import TokenWords


def query(words: tuple[str, ...], word_of: list[int], states: list[list[float]], idf: list[float]) -> QueryWords:
    made = TokenWords(words, np.array(word_of, np.int64))
    return QueryWords(made, unit_rows(np.array(states, np.float32)), np.array(idf, np.float32))


def product(words: tuple[str, ...], word_of: list[int]) -> TokenWords:
    return TokenWords(words, np.array(word_of, np.int64))


def stored(states: list[list[float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.rint(unit_rows(np.array(states, np.float32)) * SCALE).astype(np.int8)


def test_each_word_meets_its_nearest_and_rare_ones_come_first() -> None:
    asked = query(("for", "drill"), [0, 1], [[1, 0, 0], [0, 1, 0]], [1, 6])
    found = term_matches(asked, product(("saw", "screwdriver"), [0, 1]), stored([[1, 0, 0.2], [0, 3, 4]]))
    assert [(each.query_word, each.product_word, each.exact) for each in found] == [
        ("drill", "screwdriver", False),
        ("for", "saw", False),
    ]
    assert abs(found[0].similarity - 3 / 5) < 0.01


def test_the_same_word_is_met_though_another_is_nearer() -> None:
    asked = query(("drill",), [0], [[1, 0]], [1])
    (found,) = term_matches(asked, product(("bit", "Drill"), [0, 1]), stored([[1, 0], [3, 4]]))
    assert (found.product_word, found.exact) == ("Drill", True)
    assert abs(found.similarity - 3 / 5) < 0.01


def test_a_word_of_several_tokens_is_as_near_as_they_are_on_average() -> None:
    asked = query(("dcd771",), [0, 0], [[1, 0], [0, 1]], [2, 2])
    (found,) = term_matches(asked, product(("dcd", "x"), [0, 0, 1]), stored([[1, 0], [3, 4], [0, -1]]))
    assert found.product_word == "dcd"
    assert abs(found.similarity - (1 + 4 / 5) / 2) < 0.01


def test_a_word_that_is_asked_twice_is_told_once() -> None:
    asked = query(("Drill", "drill"), [0, 1], [[1, 0], [0, 1]], [1, 1])
    (found,) = term_matches(asked, product(("drill",), [0]), stored([[1, 0]]))
    assert found == TermMatch("Drill", "drill", 1.0, exact=True)


def test_punctuation_meets_nothing() -> None:
    asked = query(("drill",), [-1, 0], [[1, 0], [0, 1]], [9, 1])
    (found,) = term_matches(asked, product(("saw",), [-1, 0]), stored([[1, 0], [3, 4]]))
    assert abs(found.similarity - 4 / 5) < 0.01


def test_without_words_there_are_no_matches() -> None:
    nothing = query((), [-1], [[1, 0]], [1])
    assert term_matches(nothing, product(("saw",), [0]), stored([[1, 0]])) == ()
    asked = query(("drill",), [0], [[1, 0]], [1])
    assert term_matches(asked, product((), [-1]), stored([[1, 0]])) == ()
    assert term_matches(asked, product((), []), np.empty((0, 2), np.int8)) == ()
