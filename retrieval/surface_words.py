"""The words of a text as shoppers type them: folded, not stemmed. What suggestions and corrections go by, where search
goes by the terms of retrieval/analysis.py."""

from __future__ import annotations

import re

from retrieval.textfold import HAN, contains_chinese, fold

LONGEST_WORD = 40
"""Characters of a word that is still kept; longer ones are nobody's typing."""

_LETTER = rf"(?:[^\W_{HAN}]|[\u0300-\u036f])"
RAW_WORD = re.compile(rf"[{HAN}]+|{_LETTER}+(?:['’]s(?!{_LETTER}))?")
"""Finds the words of a text that is not folded yet, or is: a run of Chinese counts as one, and so does "men's"."""

_SHORTEST_PLURAL = 3
_LAST_OF_ALPHABETS = "\u0590"
"""Latin, Greek, Cyrillic and Armenian stand before it: scripts in which a word is spelled letter by letter."""


def words_of(text: str) -> list[str]:
    """The folded words of a text, runs of Chinese whole, in order; "men's" is "mens", as many type it."""
    return words_of_folded(fold(text))


def words_of_folded(folded: str) -> list[str]:
    """The words of a text that `fold` returned."""
    found: list[str] = RAW_WORD.findall(folded)
    return [word.replace("'", "") for word in found] if "'" in folded else found


def forms(word: str) -> tuple[str, ...]:
    """A folded word, and its plural or singular where that is told by an s."""
    if len(word) < _SHORTEST_PLURAL or not (word.isascii() and word.isalpha()):
        return (word,)
    return (word, word[:-1]) if word.endswith("s") else (word, f"{word}s")


def index_words(word: str) -> list[str]:
    """What one of `words_of` is found by: itself; a run of Chinese by each pair of neighbours and its last character,
    so that every piece of it is found whether or not it is a word."""
    if not contains_chinese(word):
        return [word] if len(word) <= LONGEST_WORD else []
    return [word[at : at + 2] for at in range(len(word))]


def is_spelled(word: str) -> bool:
    """Whether a folded word can have a misspelling that edits tell: of letters alone, in an alphabet."""
    return word.isalpha() and max(word) < _LAST_OF_ALPHABETS


def letter_set(word: str) -> int:
    """Which letters a word has, as 32 bits. An edit changes two of them at most, so words whose sets differ by more
    need no comparing."""
    bits = 0
    for letter in word:
        code = ord(letter) - 97
        bits |= 1 << (code if 0 <= code < 26 else 26 + ord(letter) % 6)
    return bits
