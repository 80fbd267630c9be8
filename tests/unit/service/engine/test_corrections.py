"""Misspelled words and what they were meant to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from indexer.version_writer import WordsWriter
from retrieval.records import Product
from retrieval.store.products import product_to_json
from retrieval.text.vocabulary import CatalogWords, edits_of
from service.engine.spelling import Correction, WordCorrector

TITLES = {
    "cordless drill": 30,
    "hammer drill": 12,
    "garden hose": 30,
    "wooden horse": 25,
    "bluetooth speaker": 20,
    "stainless steel kettle": 10,
    "rare xylophone": 1,
    "无线电钻": 10,
    "дрель": 5,
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> CatalogWords:
    folder = tmp_path_factory.mktemp("corrections")
    titles = [title for title, count in TITLES.items() for _ in range(count)]
    writer = WordsWriter()
    writer.add(product_to_json(Product(str(place), title)) for place, title in enumerate(titles))
    writer.finish(folder / "words")
    return CatalogWords.open(folder / "words")


@pytest.fixture(scope="module")
def corrections(words: CatalogWords) -> WordCorrector:
    return WordCorrector(words)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("drlil", "drill"),
        ("cordles", "cordless"),
        ("cordlesss", "cordless"),
        ("corxless", "cordless"),
        ("blutoth", "bluetooth"),
        ("дрелъ", "дрель"),
        ("gardenhose", "garden hose"),
    ],
)
def test_one_that_is_surely_meant(corrections: WordCorrector, typed: str, meant: str) -> None:
    assert corrections.correct(typed) == Correction(meant, is_sure=True)


@pytest.mark.parametrize("typed", ["abc", "drx", "18v2", "电钻机", "qqqqqq", "d" * 41, "kettle18"])
def test_what_is_never_corrected(corrections: WordCorrector, typed: str) -> None:
    assert corrections.correct(typed) is None
    assert corrections.complete(typed) == ""


def test_what_is_short_has_fewer_edits() -> None:
    assert [edits_of(word) for word in ("abc", "abcd", "abcdef", "abcdefg")] == [0, 1, 1, 2]


def test_the_other_words_tell_which_is_meant(corrections: WordCorrector) -> None:
    assert corrections.correct("hosse", ["garden"]) == Correction("hose", is_sure=True)
    assert corrections.correct("hosse", ["wooden"]) == Correction("horse", is_sure=True)
    assert corrections.correct("hosse") == Correction("hose", is_sure=False), "as many have the one as the other"


def test_a_rare_word_is_only_offered(corrections: WordCorrector) -> None:
    assert corrections.correct("xylophon") == Correction("xylophone", is_sure=False)


@pytest.mark.parametrize(
    ("typed", "begun"), [("cordel", "cordless"), ("bluetoth s"[:8], "bluetooth"), ("ketle", "kettle")]
)
def test_a_beginning(corrections: WordCorrector, typed: str, begun: str) -> None:
    assert corrections.complete(typed) == begun


@given(st.text("cordlesbutho", min_size=1, max_size=12))
def test_it_finds_the_nearest_as_comparing_with_every_word_does(
    words: CatalogWords, corrections: WordCorrector, typed: str
) -> None:
    edits = edits_of(typed)
    there = [words.postings[place] for place in range(len(words.postings)) if words.letters[place]]
    distances = {word: OSA.distance(typed, word) for word in there if len(word) >= 3}
    nearest = min(distances.values(), default=99)
    meant = corrections.correct(typed)
    if not edits or nearest > edits:
        assert meant is None or " " in meant.text
    elif nearest:
        assert meant is not None
        assert " " in meant.text or distances[meant.text] == nearest
