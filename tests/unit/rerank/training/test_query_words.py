"""Texts as the words that a shopper would type."""

from __future__ import annotations

import pytest

from rerank.training.query_text import MAX_TEXT, WordKind, phrase, read_words


def kinds(text: str) -> list[tuple[str, WordKind]]:
    return [(word.text, word.kind) for word in read_words(text)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Hammer", WordKind.WORD),
        ("t-shirt", WordKind.WORD),
        ("12 in.", WordKind.QUANTITY),
        ("2 in. x 4 in.", WordKind.QUANTITY),
        ("2-pack", WordKind.QUANTITY),
        ("17", WordKind.QUANTITY),
        ("DCD771C2", WordKind.MODEL),
        ("with", WordKind.JOINING),
        ("剃须刀", WordKind.WORD),
        ("的", WordKind.JOINING),
        ("正品", WordKind.JOINING),
    ],
)
def test_each_kind_of_word(text: str, kind: WordKind) -> None:
    assert [word.kind for word in read_words(text)] == [kind]


def test_one_piece_is_no_word_and_parts_what_stands_around_it() -> None:
    toner, black = read_words("Toner 1 pc(s) Black")
    assert (toner.text, black.text) == ("toner", "black")
    assert black.after_break


def test_several_pieces_are_words() -> None:
    assert kinds("Toner 6 pc(s)") == [("toner", WordKind.WORD), ("6 pc(s)", WordKind.QUANTITY)]


def test_brackets_and_signs_are_told() -> None:
    trim, valve, deep = read_words("Trim (valve), deep")
    assert (trim.in_brackets, valve.in_brackets, deep.in_brackets) == (False, True, False)
    assert (trim.after_break, valve.after_break, deep.after_break) == (False, True, True)


def test_chinese_nouns_are_told() -> None:
    assert [(word.text, word.noun) for word in read_words("剃须刀的")] == [("剃须刀", True), ("的", False)]


def test_what_nobody_would_read_is_not_read() -> None:
    assert len(read_words("a " * MAX_TEXT)) == MAX_TEXT // 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("claw", "hammer"), "claw hammer"),
        (("松下", "剃须刀"), "松下剃须刀"),
        (("松下", "es9167", "剃须刀"), "松下 es9167 剃须刀"),
        (("", "hammer"), "hammer"),
        ((), ""),
    ],
)
def test_words_become_a_query(words: tuple[str, ...], text: str) -> None:
    assert phrase(words) == text
