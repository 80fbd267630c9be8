"""Which word of the catalog a misspelled one was meant to be.

The catalog's words are its dictionary. Those whose letters differ by too much are passed over by their letter sets, all
at once; the others are compared by optimal string alignment (edits and swaps of neighbours: Boytsov 2011, Indexing
Methods for Approximate Dictionary Searching).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from retrieval.catalog_words import CatalogWords
from retrieval.surface_words import LONGEST_WORD, is_spelled, letter_set
from retrieval.word_postings import Offsets

SHORTEST = 4
"""Letters of a word that is corrected: shorter ones are one edit away from too many."""
SHORTEST_TWICE = 7
"""Letters from which on two edits may be told; with fewer they make another word."""
SHORTEST_PART = 3
"""Letters of each of two words that were typed as one."""
_FREQUENT = 3
_FREQUENT_IF_SHORT = 20
_FREQUENT_IF_TWICE = 10
"""How often a word must be there to be searched for unasked: the rarer it is, the likelier the typed one is another
word, which the catalog lacks. More often where it was typed with `SHORTEST` letters, or with two edits."""
_MOST_COMPARED = 2_000
_CLEARLY = 3
"""How many times more frequent the best word must be than the next one that is as near, to be sure of it."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What was meant, and whether that is sure enough to search for it unasked."""

    text: str
    is_sure: bool


@dataclass(frozen=True, slots=True)
class _Near:
    word: str
    place: int
    edits: float


class Corrections:
    """Looks words up among those of a catalog. It does not ask whether a word may be corrected at all."""

    def __init__(self, words: CatalogWords) -> None:
        self._words = words

    def meant(self, word: str, beside: Sequence[str] = ()) -> Meant | None:
        """The word that a folded word was meant to be, None where nothing is near; `beside` are the query's other
        words, which tell words apart that are equally near."""
        edits = edits_of(word)
        if not edits:
            return None
        near = self._near(word, edits)
        if near and near[0].edits == 1:
            return self._best(word, near, beside)
        return self._two_words(word) or (self._best(word, near, beside) if near else None)

    def begun(self, prefix: str) -> str:
        """The word that a misspelled beginning of one is most likely to become; nothing where none is near."""
        edits = edits_of(prefix)
        if not edits:
            return ""
        words, size = self._words, len(prefix)
        inside = words.postings.places(prefix[0])
        letters = words.letters[inside.start : inside.stop]
        missing = np.bitwise_count(np.uint32(letter_set(prefix)) & ~letters)
        long_enough = words.lengths[inside.start : inside.stop] >= size - edits
        places = inside.start + np.flatnonzero((letters != 0) & long_enough & (missing <= edits))
        begins: dict[str, int] = {}
        frequent = self._frequent(places)
        for rank, word in enumerate(frequent):
            # Whichever length fits best; of words that begin the same the most frequent one.
            for length in range(size - 1, size + 2):
                begins.setdefault(word[:length], rank)
        near = process.extract(prefix, list(begins), scorer=OSA.distance, score_cutoff=edits, limit=None)
        best = min(((distance, begins[begin]) for begin, distance, _ in near), default=None)
        return frequent[best[1]] if best else ""

    def _near(self, word: str, edits: int) -> list[_Near]:
        """The words within so many edits that are as near as the nearest."""
        words = self._words
        differing = np.bitwise_count(words.letters ^ np.uint32(letter_set(word)))
        apart = np.abs(words.lengths.astype(np.int16) - len(word))
        places = np.flatnonzero((words.letters != 0) & (differing <= 2 * edits) & (apart <= edits))
        texts = {int(place): words.postings[int(place)] for place in places}
        found = process.extract(word, texts, scorer=OSA.distance, score_cutoff=edits, limit=None)
        near = [_Near(text, place, distance) for text, distance, place in found if len(text) >= SHORTEST_PART]
        nearest = min((each.edits for each in near), default=0)
        return [each for each in near if each.edits == nearest]

    def _best(self, word: str, near: list[_Near], beside: Sequence[str]) -> Meant:
        """Of words that are equally near the one that goes with the others; then by first letter, then the more
        frequent one."""

        def rank(each: _Near) -> tuple[int, bool, int, str]:
            together = self._words.together([each.word, *beside]) if beside and len(near) > 1 else 0
            return -together, each.word[0] != word[0], -self._words.frequency(each.place), each.word

        ranked = sorted(((rank(each), each) for each in near), key=lambda pair: pair[0])
        (together, _, count, _), best = ranked[0]
        others = [other for other, _ in ranked[1:]]
        is_clear = all(_is_clearly_more(together, other[0]) or _is_clearly_more(count, other[2]) for other in others)
        return Meant(best.word, is_clear and -count >= _least_frequent(word, best))

    def _two_words(self, word: str) -> Meant | None:
        """The two words that were typed as one, where products have both."""
        found: list[tuple[int, str]] = []
        for cut in range(SHORTEST_PART, len(word) - SHORTEST_PART + 1):
            pair = (word[:cut], word[cut:])
            if all(part in self._words for part in pair) and (count := self._words.together(pair)) >= _FREQUENT:
                found.append((-count, " ".join(pair)))
        return Meant(min(found)[1], is_sure=True) if found else None

    def _frequent(self, places: Offsets) -> list[str]:
        """Words by their places, at most `_MOST_COMPARED` of them, the more frequent ones first."""
        starts = self._words.postings.starts
        counts = starts[places + 1] - starts[places]
        order = np.argsort(-counts, kind="stable")[:_MOST_COMPARED]
        return [self._words.postings[place] for place in places[order].tolist()]


def edits_of(word: str) -> int:
    """How many edits of a folded word are undone: 0 where it is never corrected, as what has a digit, what is Chinese
    or short is not."""
    if not SHORTEST <= len(word) <= LONGEST_WORD or not is_spelled(word):
        return 0
    return 1 if len(word) < SHORTEST_TWICE else 2


def _least_frequent(typed: str, meant: _Near) -> float:
    """How often a word must be there to be searched for unasked; never is it where two edits gave another beginning."""
    if meant.edits > 1:
        return _FREQUENT_IF_TWICE if meant.word[0] == typed[0] else math.inf
    return _FREQUENT_IF_SHORT if len(typed) <= SHORTEST else _FREQUENT


def _is_clearly_more(best: int, other: int) -> bool:
    """Of two counts with a minus before them."""
    return best <= _CLEARLY * min(other, -1)
