"""What a catalog's titles say together: how usual a word is, which words name products, which begin as brands do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rerank.training.query_words import TURNING, Kind, Word
from retrieval import units

_BRAND_TITLES = 3
_BRAND_SHARE = 0.7
"""Words begin brands where at least so many titles begin with them, and so much of the titles that have them."""
_LONGEST_BRAND = 3
_TINTS = 3


class CatalogWords:
    """Counts over the titles of a sample of products; `brands` has each one's brand, folded, or nothing."""

    def __init__(self, titles: Sequence[Sequence[Word]], brands: Sequence[tuple[str, ...]]) -> None:
        self._titles = len(titles)
        self._frequency: Counter[str] = Counter()
        self._heads: Counter[str] = Counter()
        self._tints: Counter[str] = Counter()
        self._openings: Counter[tuple[str, ...]] = Counter()
        self._sequences: Counter[tuple[str, ...]] = Counter()
        for title in titles:
            self._count_words(title)
        for title, brand in zip(titles, brands, strict=True):
            self._count_names(without(title, brand or self.brand(title)))

    def frequency(self, word: str) -> int:
        """The number of titles that have the word."""
        return self._frequency[word]

    def heads(self, word: str) -> int:
        """The number of titles in which the word ends a run of words that may name the product."""
        return self._heads[word]

    def idf(self, word: str) -> float:
        """ln(1 + titles / titles with the word)."""
        return math.log1p(self._titles / max(self._frequency[word], 1))

    def names_nothing(self, word: str) -> bool:
        """Whether the word only describes: a colour or finish (what titles have behind "in"), unit, letter or code."""
        tints = self._tints[word]
        tint = tints >= _TINTS and tints * 4 > self._heads[word]
        return tint or word in units.WORDS or (word.isascii() and len(word) == 1) or any(map(str.isdigit, word))

    def brand(self, title: Sequence[Word]) -> tuple[str, ...]:
        """The longest words at a title's beginning that begin titles as a brand does; empty where none do."""
        texts = []
        for word in title[: min(_LONGEST_BRAND, len(title) - 1)]:
            if word.kind is not Kind.WORD or word.after_break:
                break
            texts.append(word.text)
        for length in range(len(texts), 0, -1):
            if self._opens(tuple(texts[:length])):
                return tuple(texts[:length])
        return ()

    def _opens(self, words: tuple[str, ...]) -> bool:
        times = self._openings[words]
        everywhere = self._frequency[words[0]] if len(words) == 1 else self._sequences[words]
        # What continues a brand in every title belongs to it; what seldom does is the name of a series.
        continues = len(words) == 1 or times >= _BRAND_SHARE * self._openings[words[:-1]]
        return times >= _BRAND_TITLES and times >= _BRAND_SHARE * everywhere and continues

    def _count_words(self, title: Sequence[Word]) -> None:
        texts = tuple(word.text for word in title)
        self._frequency.update(set(texts))
        for length in range(1, min(_LONGEST_BRAND, len(texts)) + 1):
            self._openings[texts[:length]] += 1
        for length in range(2, _LONGEST_BRAND + 1):
            self._sequences.update({texts[at : at + length] for at in range(len(texts) - length + 1)})

    def _count_names(self, title: Sequence[Word]) -> None:
        self._heads.update({head for run in runs(title) for head in run_heads(run)})
        for first, *behind in complements(title):
            if first == "in":
                self._tints[behind[-1]] += 1


def without(title: Sequence[Word], brand: tuple[str, ...]) -> list[Word]:
    """The words of a title less those of the brand."""
    return [word for word in title if word.text not in brand]


def runs(title: Sequence[Word]) -> Iterator[list[Word]]:
    """The runs of plain words of a title that may name the product.

    A sign, a number, a model number or a joining word ends a run; what stands in brackets or behind "with", "for" or
    "in" names something else.
    """
    run: list[Word] = []
    for place, word in enumerate(title):
        plain = word.kind is Kind.WORD and not word.aside
        if run and (not plain or word.after_break):
            yield run
            run = []
        if place and word.text in TURNING:
            return
        if plain:
            run.append(word)
    if run:
        yield run


def run_heads(run: Sequence[Word]) -> Iterator[str]:
    """The words of a run that may name a product: its last, and in Chinese every noun that no other noun follows."""
    for word, following in pairwise(run):
        if word.noun and not following.noun:
            yield word.text
    yield run[-1].text


def complements(title: Sequence[Word], longest: int = 3) -> Iterator[tuple[str, ...]]:
    """What stands behind each "for", "with" or "in" up to the next sign or joining word, that word first."""
    for place, word in enumerate(title):
        if word.text not in TURNING:
            continue
        behind: list[str] = []
        for following in title[place + 1 : place + 1 + longest]:
            if following.kind is Kind.JOINING or (following.after_break and behind):
                break
            behind.append(following.text)
        if behind:
            yield ("with" if word.text == "w" else word.text, *behind)
