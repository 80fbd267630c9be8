"""From one chunk of a folded text (a word, a model number, a quantity, a run of Chinese) to its terms."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations, pairwise
from typing import Any, cast

import Stemmer

from retrieval import units
from retrieval.textfold import HAN, contains_chinese

MAX_WORD = 100
"""Characters after which a run without a break is cut into a further word."""

Alternatives = tuple[tuple[str, ...], ...]
"""What one word of a query may be met by: any one of several conjunctions of terms."""


def _marks() -> str:
    """The combining marks of the basic plane: Python's \\w leaves out the vowel signs inside Indic words."""
    return "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark) in ("Mn", "Mc"))


# Words that titles, too, write with a space, a hyphen or neither. A longer list did not pay (head phone, lap top, ...).
_SPACED = r"(?:(?:wi|hi) fi|t shirts?|blu rays?|x rays?|dish washers?)(?![a-z0-9])"
_WORD = rf"[a-z0-9]{{1,{MAX_WORD}}}+"
_COMPOUND = rf"{_WORD}(?>(?:[-'.&_]{_WORD}){{0,7}})"  # atomic: see retrieval/units.py
_PLAIN = rf"[a-z]{{1,{MAX_WORD}}}+(?![a-z0-9]|[-'.&_][a-z0-9])"
_OTHER_SCRIPT = rf"(?:[^\W_a-z0-9{HAN}]|[{_marks()}]){{1,{MAX_WORD}}}+"
# Plain words come early because nearly every chunk is one.
CHUNKS = re.compile(rf"{_SPACED}|{_PLAIN}|(?=[0-9.m])(?:{units.QUANTITIES})|{_COMPOUND}|[{HAN}]+|{_OTHER_SCRIPT}")
"""Finds the chunks of a folded text."""

_QUANTITIES = re.compile(units.QUANTITIES)
_JOINTS = re.compile("[-'.&_ ]")
_LETTERS_OR_DIGITS = re.compile("[a-z]+|[0-9]+")
_MOST_RUNS = 4

# Without the stemmer's own cache: chunks are cached here, and its purges took longer than the stemming.
_stem = cast(Callable[[str], str], Stemmer.Stemmer("english", 0).stemWord)
# PyStemmer promises nothing about threads that share one stemmer.
_stemming = threading.Lock()


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one chunk gives: `terms` to an index, `groups` to a query."""

    terms: tuple[str, ...]
    groups: tuple[Alternatives, ...]
    characters: tuple[str, ...] = ()
    """Of a Chinese chunk: the characters that are no word by themselves; searched beside the words."""
    joint: str = ""
    """The chunk as typed where it may be half of a compound ("wi" of "wi fi"), else empty."""


def chunks(folded: str) -> Iterator[Chunk]:
    """The chunks of a text that `fold` returned, in order."""
    return map(_cached if folded.isascii() else _any, CHUNKS.findall(folded))


def word_term(word: str) -> str:
    """The term of one word: its unit's name, else its English stem; a word of other than a to z is its own term.

    Stems are stemmed again until nothing changes, so a term is always its own term.
    """
    if word in units.WORDS:
        return units.WORDS[word]
    if not (word.isascii() and word.isalpha()):
        return word
    with _stemming:
        stem = _stem(word)
    return stem if stem == word else word_term(stem)


def _any(chunk: str) -> Chunk:
    # Runs of Chinese seldom repeat and would push the words out of the cache.
    return _chinese(chunk) if contains_chinese(chunk[0]) else _cached(chunk)


@lru_cache(maxsize=2**15)
def _cached(chunk: str) -> Chunk:
    if chunk.isalpha():
        term = word_term(chunk)
        return Chunk((term,), (((term,),),), joint=chunk if chunk.isascii() else "")
    if _QUANTITIES.fullmatch(chunk):
        return _quantities(chunk)
    return _compound(chunk) if chunk.isascii() else Chunk((chunk,), (((chunk,),),))


def _chinese(chunk: str) -> Chunk:
    """Words and characters: the two cut differently when a title and a query break a word at different places."""
    words = cast(list[str], _segmenter().cut_for_search(chunk))
    known = set(words)
    characters = tuple(character for character in chunk if character not in known)
    return Chunk((*words, *characters), tuple(((word,),) for word in words), characters)


def chinese_words(run: str) -> list[str]:
    """The words of a run of Chinese, end to end: what a person reads, where terms overlap."""
    return cast(list[str], _segmenter().cut(run))


def dictionary_words(run: str) -> list[str]:
    """The words of a run of Chinese that stand in the dictionary; what does not falls into characters, as a misspelled
    word does."""
    return cast(list[str], _segmenter().cut(run, False))


@cache
def _segmenter() -> Any:  # noqa: ANN401 - the library ships no types
    # A segmenter of our own: words added to the library's shared one elsewhere must not change terms.
    # Its dictionary takes longer to load than all else here, and a store may never need it.
    import rjieba

    return rjieba.Jieba()


def _quantities(chunk: str) -> Chunk:
    if number := units.in_one(chunk):
        term = f"{number}in1"
        return Chunk((number, term, "1"), (((term,),),))
    found = units.quantities(chunk)
    return _quantity(found[0]) if len(found) == 1 else _dimensions([quantity.number for quantity in found])


def _quantity(quantity: units.Quantity) -> Chunk:
    number = quantity.number
    if not quantity.unit:
        return Chunk((number,), (((number,),),), joint=number if number.isdigit() else "")
    terms = filter(None, (number, quantity.term, quantity.unit_word))
    return Chunk(tuple(terms), (((quantity.term,), (number,)),))


def _dimensions(numbers: list[str]) -> Chunk:
    """The whole ("2x4x8"), its neighbours ("2x4", "4x8") and each number; units would only make titles longer."""
    whole = "x".join(numbers)
    neighbours = (f"{first}x{second}" for first, second in pairwise(numbers))
    return Chunk(tuple(dict.fromkeys((*numbers, whole, *neighbours))), (((whole,),),))


def _compound(chunk: str) -> Chunk:
    if chunk.endswith("'s"):
        return _cached(chunk[:-2])
    pieces = _JOINTS.split(chunk)
    if len(pieces) == 1:
        return Chunk((chunk,), (((chunk,), *_cuts(chunk)),), joint=chunk)
    parts = tuple(term for piece in pieces for term in _piece(piece))
    terms = tuple(dict.fromkeys((*parts, *map(word_term, _LETTERS_OR_DIGITS.findall(chunk)))))
    joined = "".join(pieces)
    if len(joined) > MAX_WORD:
        return Chunk(terms, ((parts,),))
    if joined[0] in "0123456789":
        # "2light" would only make the title longer; "2 light", its joint and its cuts find the parts.
        return Chunk(terms, ((parts, (word_term(joined),)),))
    whole = _cached(joined).terms if _QUANTITIES.fullmatch(joined) else (word_term(joined),)
    return Chunk((*terms, *whole), ((whole, parts),))


def _piece(piece: str) -> tuple[str, ...]:
    """One piece of a compound as it would be read by itself: "8x10ft" of "rug-8x10ft" has dimensions."""
    if piece.isdigit() or not piece[0].isdigit():
        return (word_term(piece),)
    return tuple(term for chunk in CHUNKS.findall(piece) for term in _cached(chunk).terms)


def _cuts(model: str) -> Iterator[tuple[str, ...]]:
    """The ways to type a model number in two or three pieces: dcd771c2 as dcd771 c2, dcd 771c2, dcd 771 c2."""
    runs = _LETTERS_OR_DIGITS.findall(model)
    if not 1 < len(runs) <= _MOST_RUNS:
        return
    for count in (1, 2):
        for places in combinations(range(1, len(runs)), count):
            bounds = (0, *places, len(runs))
            yield tuple(word_term("".join(runs[start:end])) for start, end in pairwise(bounds))
