"""Query words: the plain words, quantities, model numbers and joining words of a text, and other spellings of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from random import Random
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


# Other spellings of units, and typing errors.

MIN_LETTERS = 4
"""Minimum letters of a word that gets a typing error or another number."""
_METRIC = ("mm", "cm", "m", "kg", "g", "ml", "l", "ah", "mah", "w", "kw", "v", "mb", "gb", "tb", "hz", "mhz", "ghz")
"""Units with no other spelling than with or without a space."""
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "in": (" in", " inch", "in", '"', ""),
    "ft": (" ft", " foot", "ft", "'", ""),
    "gal": (" gal", " gallon", "gal"),
    "lb": (" lb", " lbs", "lb"),
    "oz": (" oz", " ounce", "oz"),
    "volt": (" volt", "v", " v"),
    "amp": (" amp", " amps", "amp"),
    "watt": (" watt", "w", " watts"),
    **{unit: (f" {unit}", unit) for unit in _METRIC},
}
"""Spellings by unit."""
_SAME = {"inch": "in", '"': "in", "foot": "ft", "'": "ft", "gallon": "gal"}
UNIT = re.compile(rf"""(?<=[0-9])[ -]?(?:(["'])|({"|".join((*_SPELLINGS, *filter(str.isalpha, _SAME)))})\b)\.?""")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def with_other_units(text: str, random: Random) -> str:
    """A text with other spellings of its units."""
    # One choice for the whole text, so that both sides of "24 in. x 80 in." have the same spelling.
    choice = random.random()

    def unit(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        spellings = _SPELLINGS[_SAME.get(name, name)]
        return spellings[int(choice * len(spellings))]

    spelled = UNIT.sub(unit, text)
    return spelled if choice < 0.5 else re.sub("(?<=[0-9\"']) x (?=[0-9])", "x", spelled)


def mistype(words: tuple[str, ...], random: Random) -> tuple[str, ...]:
    """Puts one typing error into one word of English letters; unchanged if there is none."""
    places = [place for place, word in enumerate(words) if is_plain(word) and len(word) >= MIN_LETTERS]
    if not places:
        return words
    place = random.choice(places)
    return (*words[:place], _typo(words[place], random), *words[place + 1 :])


def is_plain(word: str) -> bool:
    """Whether a word has only English letters."""
    return word.isascii() and word.isalpha()


def _typo(word: str, random: Random) -> str:
    at = random.randrange(1, len(word))
    before, letter, behind = word[:at], word[at], word[at + 1 :]
    others = (
        before + behind,
        before + letter + letter + behind,
        before[:-1] + letter + before[-1] + behind,
        before + random.choice(_adjacent_keys(letter)) + behind,
    )
    return random.choice(others)


def _adjacent_keys(letter: str) -> str:
    if letter.isupper():
        return _adjacent_keys(letter.lower()).upper()
    row = next(row for row in _ROWS if letter in row)
    at = row.index(letter)
    return row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
