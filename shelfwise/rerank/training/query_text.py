"""Tokenisation of a text into query words: plain words, quantities, model numbers, joining words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import cast

from shelfwise.retrieval.text import units
from shelfwise.retrieval.text.analysis import CHUNKS, contains_chinese, fold

MAX_TEXT = 1_000
"""The number of characters of a text that are read."""

JOINING = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "per", "the", "to", "w", "with", "x")
)
"""Words that only join other words."""
COMPLEMENT_WORDS = frozenset({"for", "in", "w", "with"})
"""Joining words after which a title describes accessories or uses."""

_QUANTITY = re.compile(rf"(?:{units.QUANTITIES})|[0-9]+[-'][a-z]+")
_ONE = re.compile(r"1[ -]?(?:pc\(s\)|pcs?|pieces?|packs?|pk|ct|count)\.?")
"""A quantity of one piece, which is ignored."""
_MODEL = re.compile(r"(?=.*[0-9])(?=.*[a-z0-9].*[a-z0-9].*[a-z0-9])[^ ]+")
_JOINING_TAGS = ("c", "e", "m", "p", "q", "r", "u", "w", "x", "y")
"""Chinese parts of speech that do not describe products: conjunctions, numerals, particles, pronouns ..."""

_SALES_TALK = frozenset(("代购", "促销", "包邮", "新款", "正品", "热卖", "热销", "爆款", "特价", "现货", "顺丰"))
"""Chinese words about the offer, not the product."""

_NOUN_TAGS = ("n", "nl", "nz")
"""Common nouns, without names of places and persons."""


class WordKind(Enum):
    """The kind of a word."""

    WORD = auto()
    QUANTITY = auto()
    """A number with or without its unit, dimensions, or a count such as "2-pack"."""
    MODEL = auto()
    """Letters and digits together."""
    JOINING = auto()


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text, folded."""

    text: str
    kind: WordKind
    after_break: bool = False
    """Whether a comma, a bracket or another sign precedes it."""
    in_brackets: bool = False
    noun: bool = False
    """Whether it is a common noun; Chinese only."""


def read_words(text: str) -> list[Word]:
    """The words of a text in order, without "1 pc(s)"."""
    folded = fold(text[:MAX_TEXT])
    found: list[Word] = []
    end = depth = 0
    for chunk in CHUNKS.finditer(folded):
        if _ONE.fullmatch(chunk[0]):
            continue
        gap = folded[end : chunk.start()]
        end = chunk.end()
        depth = max(depth + gap.count("(") + gap.count("[") - gap.count(")") - gap.count("]"), 0)
        broken = bool(gap.strip(" \t\n&+#*"))
        found += _words_of(chunk[0], broken, depth > 0)
    return found


def phrase(words: Iterable[str]) -> str:
    """Joins words with spaces, except between two Chinese words."""
    text = ""
    for word in filter(None, words):
        glued = text and contains_chinese(text[-1]) and contains_chinese(word[0])
        text += word if glued or not text else f" {word}"
    return text


def _words_of(chunk: str, broken: bool, in_brackets: bool) -> Iterator[Word]:
    if contains_chinese(chunk[0]):
        for place, (text, tag) in enumerate(_tag()(chunk)):
            joining = text in _SALES_TALK or (len(text) == 1 and tag.startswith(_JOINING_TAGS))
            noun = tag in _NOUN_TAGS and len(text) > 1
            yield Word(text, WordKind.JOINING if joining else WordKind.WORD, broken and not place, in_brackets, noun)
        return
    yield Word(chunk.rstrip("."), _kind(chunk), broken, in_brackets)


def _kind(chunk: str) -> WordKind:
    if chunk in JOINING:
        return WordKind.JOINING
    if chunk.isalpha():
        return WordKind.WORD
    if _QUANTITY.fullmatch(chunk):
        return WordKind.QUANTITY
    return WordKind.MODEL if _MODEL.fullmatch(chunk) else WordKind.WORD


@cache
def _tag() -> Callable[[str], list[tuple[str, str]]]:
    # Imported for Chinese texts only: the dictionary is slow to load.
    import rjieba

    return cast(Callable[[str], list[tuple[str, str]]], rjieba.Jieba().tag)
