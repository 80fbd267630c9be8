"""Spelling corrections and the parsing of typed text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from shelfwise.indexer.version_writer import WordsWriter
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import product_to_json
from shelfwise.retrieval.text.vocabulary import CatalogWords, edits_of
from shelfwise.service.engine.spelling import MAX_WORDS, Correction, TypedText, WordCorrector

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
def test_unambiguous_correction(corrections: WordCorrector, typed: str, meant: str) -> None:
    assert corrections.correct(typed) == Correction(meant, is_sure=True)


@pytest.mark.parametrize(("typed", "begun"), [("cordel", "cordless"), ("bluetoth", "bluetooth"), ("ketle", "kettle")])
def test_prefix_correction(corrections: WordCorrector, typed: str, begun: str) -> None:
    assert corrections.complete(typed) == begun


@pytest.mark.parametrize("typed", ["abc", "drx", "18v2", "电钻机", "qqqqqq", "d" * 41, "kettle18"])
def test_words_that_are_not_corrected(corrections: WordCorrector, typed: str) -> None:
    assert corrections.correct(typed) is None
    assert corrections.complete(typed) == ""
    assert [edits_of(word) for word in ("abc", "abcd", "abcdef", "abcdefg")] == [0, 1, 1, 2]


def test_words_that_are_not_visible_do_not_decide(words: CatalogWords) -> None:
    seen = {"horse", "cordless", "hammer drill"}
    corrections = WordCorrector(words, seen.__contains__)
    assert corrections.correct("hose") == Correction("horse", is_sure=False), "a hose may be meant"
    assert corrections.correct("hosse", ["garden"]) == Correction("horse", is_sure=True)
    assert corrections.correct("kettel") is None
    assert (corrections.complete("ketle"), corrections.complete("cordel")) == ("", "cordless")
    assert corrections.words_from("ho") == ["horse"]
    assert corrections.correct("gardenhose") is None
    assert corrections.correct("hammerdrill") == Correction("hammer drill", is_sure=True)


def test_other_query_words_disambiguate_the_correction(corrections: WordCorrector) -> None:
    assert corrections.correct("hosse", ["garden"]) == Correction("hose", is_sure=True)
    assert corrections.correct("hosse", ["wooden"]) == Correction("horse", is_sure=True)
    assert corrections.correct("hosse") == Correction("hose", is_sure=False), "as many have the one as the other"


@given(st.text("cordlesbutho", min_size=1, max_size=12))
def test_nearest_word_equals_a_full_scan(words: CatalogWords, corrections: WordCorrector, typed: str) -> None:
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
def test_correction_spans(typed: str, text: str, shown: str | None) -> None:
    spans = TypedText(typed).spans_in(text)
    if spans is not None:
        for start, end in reversed(spans):
            text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    assert (text if spans is not None else None) == shown
    assert TypedText("bosch dr").spans_in("Drill", partly=True) == ((0, 2),)


def test_correction_replaces_only_the_words() -> None:
    assert TypedText("Cordles  DRILL,\n18V").replaced({0: "cordless"}) == "cordless  DRILL,\n18V"
    assert TypedText("a\ud800 cordles").replaced({1: "cordless"}) == "a cordless"


def test_long_query_is_not_corrected() -> None:
    assert not TypedText("a " * MAX_WORDS).is_too_long
    assert TypedText("a " * (MAX_WORDS + 1)).is_too_long
    assert TypedText("钻" * (MAX_WORDS + 1)).is_too_long


@given(st.text(), st.text())
def test_spans_ascend_without_overlap(typed: str, text: str) -> None:
    spans = TypedText(typed).spans_in(text, partly=True) or ()
    places = [place for span in spans for place in span]
    assert places == sorted(places)
    assert all(0 <= start < end <= len(text) for start, end in spans)
