"""Which words of a text match a query, as search matches them: by their terms, so that "drills" meets "drill"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from retrieval.analysis import Analyzer
from retrieval.chunks import chinese_words, chunks
from retrieval.textfold import contains_chinese, fold
from retrieval.word_spans import word_spans

_MOST_WORDS = 64
_LONGEST = 50_000
"""Characters of a text that are looked at."""


@dataclass(frozen=True, slots=True)
class Match:
    """A word of a text that matches."""

    start: int
    end: int
    words: frozenset[str]
    """Words of the query that it matches."""


class Matcher:
    """Finds the words of one query."""

    def __init__(self, analyzer: Analyzer, query: str) -> None:
        known = (word for run in _words(query) for word in _readable(run))
        self._known = tuple(islice(dict.fromkeys(known), _MOST_WORDS))
        self.words = tuple(dict.fromkeys(map(fold, self._known)))
        """Of the query, folded, each once."""
        self._wanted: dict[str, frozenset[str]] = {}
        for word in self.words:
            for term in _query_terms(analyzer, word):
                self._wanted[term] = self._wanted.get(term, frozenset()) | {word}

    def matches(self, text: str) -> Iterator[Match]:
        """The words of a text that match, in order."""
        if not self._wanted:
            return
        for start, end in word_spans(text[:_LONGEST], self._known):
            words = self._of(text[start:end])
            if words:
                yield Match(start, end, words)

    def _of(self, word: str) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for term in _terms(word):
            found |= self._wanted.get(term, frozenset())
        return found


def _words(text: str) -> Iterator[str]:
    return (text[start:end] for start, end in word_spans(text))


def _readable(word: str) -> list[str]:
    return chinese_words(word) if contains_chinese(word) else [word]


def _query_terms(analyzer: Analyzer, word: str) -> set[str]:
    """What a word of a query is met by. Chinese words are met whole: a character of one stands in many others."""
    if contains_chinese(word):
        return {word}
    return {term for group in analyzer.groups(word) for terms in group.alternatives for term in terms}


@lru_cache(maxsize=2**16)
def _terms(word: str) -> tuple[str, ...]:
    """The terms of a word of a text."""
    folded = fold(word)
    if contains_chinese(word):
        return (folded,)
    return tuple(term for chunk in chunks(folded) for term in chunk.terms)
