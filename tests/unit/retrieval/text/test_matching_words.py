"""Highlighted words of a text: all words that match the query, in any way that search does."""

from __future__ import annotations

import pytest

from shelfwise.retrieval.text.analysis import Analyzer, Synonyms
from shelfwise.retrieval.text.highlight import Marks, Matcher, excerpt, marked

MARKS = Marks("[", "]")
SYNONYMS = ("sofa, couch, love seat", "cell phone, handset", "电钻, 钻机, drill", "无线电钻 => 充电钻", "tv => 电视")


@pytest.mark.parametrize(
    ("text", "query", "value"),
    [
        ("WiFi router", "wi fi", "[WiFi] router"),
        ("Wi-Fi router", "wifi", "[Wi-Fi] router"),
        ("DCD771C2 kit", "dcd 771 c2", "[DCD771C2] kit"),
        ("Drill c 5", "c2", "Drill c 5"),
        ("18V battery", "18 volt", "[18V] battery"),
        ("无线电钻", "电钻", "无线[电钻]"),
        ("电视", "电钻", "电视"),
        ("Red couch", "sofa", "Red [couch]"),
        ("A love seat", "sofa", "A [love] [seat]"),
        ("A child seat", "sofa", "A child seat"),
        ("A child seat", "love seat", "A child [seat]"),
        ("A sofa", "red love seats", "A [sofa]"),
        ("A couch", "seat", "A couch"),
        ("Handsets", "cell phone case", "[Handsets]"),
        ("Phone of a cell", "handset", "[Phone] of a [cell]"),
        ("家用钻机 18V", "电钻", "家用[钻机] 18V"),
        ("家用钻机", "drill", "家用[钻机]"),
        ("Drills", "电钻", "[Drills]"),
        ("充电钻", "无线电钻", "[充电][钻]"),
        ("TV 电视机 电视", "tv", "[TV] [电视]机 [电视]"),
    ],
)
def test_typed_words_and_complete_synonyms_match(text: str, query: str, value: str) -> None:
    matcher = Matcher(Analyzer(Synonyms.parse(SYNONYMS)), query)
    assert marked(text, ((each.start, each.end) for each in matcher.matches(text)), MARKS) == value


def test_synonym_match_names_the_query_words() -> None:
    matcher = Matcher(Analyzer(Synonyms.parse(SYNONYMS)), "red love seat")
    (match,) = matcher.matches("Grey sofa")
    assert match.words == {"love", "seat"}
    assert matcher.words == ("red", "love", "seat")


@pytest.mark.parametrize(
    ("words", "first", "value"), [(0, 0, "…"), (2, 0, "a b…"), (3, 12, "…e f g…"), (9, 0, "a b c d e f g h")]
)
def test_excerpt_marks_truncation(words: int, first: int, value: str) -> None:
    text = "a b c d e f g h"
    assert marked(text, (), MARKS, bounds=excerpt(text, words, first)) == value


def test_spans_outside_the_bounds_are_left_out() -> None:
    assert marked("a<b<c", ((0, 1), (2, 3), (4, 5)), MARKS, lambda text: text.replace("<", "&lt;"), (1, 4)) == (
        "…&lt;[b]&lt;…"
    )
