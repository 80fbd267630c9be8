"""Word spans of a text for display, and the words that an encoder's tokens belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.encoders.base import TokenSpans
from shelfwise.retrieval.text.analysis import HAN, chinese_words, contains_chinese, fold

_PIECE = rf"[^\W_{HAN}]+"
_WORD = re.compile(rf"[{HAN}]+|{_PIECE}(?>(?:[-'’.,&/×+]{_PIECE})*)")


@dataclass(frozen=True, slots=True)
class TokenWords:
    """The words of a text, and the word of each token."""

    words: tuple[str, ...]
    """The words as they are written."""
    word_of: NDArray[np.int64]
    """(t,): the index in `words` of the word that each token is part of, -1 for punctuation."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The words without case, width and accents: words with equal keys are the same word."""
        return tuple(map(fold, self.words))


def token_words(places: TokenSpans, most: int, known: Sequence[str] = ()) -> TokenWords:
    """The words that the first `most` tokens of a text belong to, in order; `known` as in `word_spans`."""
    spans = np.array(list(word_spans(places.text, known)), np.int64).reshape(-1, 2)
    begins, ends = places.spans[:most, 0], places.spans[:most, 1]
    # A token may begin with the space before its word.
    overlap = np.minimum(ends[:, None], spans[:, 1]) - np.maximum(begins[:, None], spans[:, 0])
    if not overlap.size:
        return TokenWords((), np.full(len(begins), -1))
    word_of = np.where(overlap.max(axis=1) > 0, overlap.argmax(axis=1), -1)
    used = np.unique(word_of[word_of >= 0])
    word_of = np.where(word_of >= 0, np.searchsorted(used, word_of), -1)
    return TokenWords(tuple(places.text[start:end] for start, end in spans[used].tolist()), word_of)


def word_spans(text: str, known: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """The span of each word. Chinese is cut into words; `known` words are cut out wherever they occur, since the
    segmenter can cut a word differently in a query and in a title."""
    chinese = sorted(filter(contains_chinese, known), key=len, reverse=True)
    cut = re.compile("|".join(map(re.escape, chinese))) if chinese else None
    for found in _WORD.finditer(text):
        start, word = found.start(), found[0]
        for piece in _chinese(word, cut) if contains_chinese(word[0]) else (word,):
            yield start, start + len(piece)
            start += len(piece)


def _chinese(run: str, known: re.Pattern[str] | None) -> Iterator[str]:
    at = 0
    for found in known.finditer(run) if known else ():
        yield from chinese_words(run[at : found.start()])
        yield found[0]
        at = found.end()
    yield from chinese_words(run[at:])
