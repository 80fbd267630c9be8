"""Which texts have which words: found by whole words and by the beginning of one, the best texts first.

Texts are numbered from 0, the best one first, so whoever wants the best of those that match takes the lowest numbers.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from retrieval.surface_words import forms

Numbers = NDArray[np.uint32]
Offsets = NDArray[np.int64]

_AFTER_ALL = b"\xff"
"""Stands behind every word that is UTF-8."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a text must have: a word, in the singular or the plural, or one that begins so."""

    word: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class WordPostings:
    """Words in the order of their UTF-8, each with the texts that have it. May be mapped files; read-only."""

    words: bytes
    """All words, one after the other."""
    ends: Offsets
    """(words + 1,): word i is `words[ends[i]:ends[i + 1]]`."""
    starts: Offsets
    """(words + 1,): the texts of word i are `texts[starts[i]:starts[i + 1]]`, ascending."""
    texts: Numbers
    size: int
    """How many texts there are."""

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, place: int) -> str:
        return self._bytes(place).decode()

    def place(self, word: str) -> int | None:
        """The place of a word, or None."""
        wanted = _encoded(word)
        at = bisect.bisect_left(range(len(self)), wanted, key=self._bytes)
        return at if at < len(self) and self._bytes(at) == wanted else None

    def places(self, prefix: str) -> range:
        """The places of all words that begin so."""
        wanted = _encoded(prefix)
        first = bisect.bisect_left(range(len(self)), wanted, key=self._bytes)
        return range(first, bisect.bisect_left(range(len(self)), wanted + _AFTER_ALL, lo=first, key=self._bytes))

    def with_word(self, place: int) -> Numbers:
        """The texts that have a word."""
        return self.texts[self.starts[place] : self.starts[place + 1]]

    def matching(self, lookups: Iterable[Lookup]) -> Offsets:
        """The numbers of the texts that have all of these words, ascending; of none, all texts."""
        alive = np.ones(self.size, dtype=bool)
        for lookup in lookups:
            found = self._found(lookup)
            if not len(found):
                return np.empty(0, dtype=np.int64)
            here = np.zeros(self.size, dtype=bool)
            here[found] = True
            alive &= here
        return np.flatnonzero(alive)

    def _found(self, lookup: Lookup) -> Numbers:
        found = [self.with_word(place) for place in map(self.place, forms(lookup.word)) if place is not None]
        if lookup.is_prefix:
            places = self.places(lookup.word)
            found.append(self.texts[self.starts[places.start] : self.starts[places.stop]])
        return np.concatenate(found) if found else self.texts[:0]

    def _bytes(self, place: int) -> bytes:
        return self.words[self.ends[place] : self.ends[place + 1]]


def postings_of(texts: Sequence[Sequence[str]]) -> WordPostings:
    """The postings of texts, each given as its words, the best text first."""
    numbers = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    return made_postings(list(chain.from_iterable(texts)), numbers, len(texts))


def made_postings(words: Sequence[str], texts: NDArray[np.integer], size: int) -> WordPostings:
    """The postings of pairs (p,) of a word and the number of a text that has it, in any order; a pair may repeat."""
    known = {word: at for at, word in enumerate(dict.fromkeys(words))}
    places = np.fromiter((known[word] for word in words), np.int64, len(words))
    return numbered_postings(list(known), places, texts, size)


def numbered_postings(
    words: Sequence[str], places: NDArray[np.integer], texts: NDArray[np.integer], size: int
) -> WordPostings:
    """The same of distinct words, where pairs (p,) name a word by its place among them."""
    encoded = [_encoded(word) for word in words]
    order = sorted(range(len(words)), key=encoded.__getitem__)
    rank = np.empty(len(words), np.int64)
    rank[order] = np.arange(len(words))
    pairs = np.unique(rank[places] * max(size, 1) + texts.astype(np.int64)) if len(places) else np.empty(0, np.int64)
    lengths = [len(encoded[at]) for at in order]
    return WordPostings(
        b"".join(encoded[at] for at in order),
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        np.searchsorted(pairs, np.arange(len(words) + 1) * max(size, 1)).astype(np.int64),
        (pairs % max(size, 1)).astype(np.uint32),
        size,
    )


def _encoded(word: str) -> bytes:
    # A lone surrogate becomes bytes that no stored word has.
    return word.encode("utf-8", "surrogatepass")
