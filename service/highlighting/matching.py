"""Which words of a text match a query, as search matches them: by their terms, so that "drills" meets "drill", and by
the synonyms that it was searched with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_PLAIN = Analyzer()
"""Without synonyms."""


@dataclass(frozen=True, slots=True)
class Match:
    """A word of a text that matches."""

    start: int
    end: int
    words: frozenset[str]
    """Words of the query that it matches."""


@dataclass(frozen=True, slots=True)
class _Way:
    """Terms that meet words of the query where a text has all of them."""

    terms: frozenset[str]
    words: frozenset[str]


class Matcher:
    """Finds the words of one query."""

    def __init__(self, analyzer: Analyzer, query: str) -> None:
        known = (word for run in _words(query) for word in _readable(run))
        typed = tuple(islice(dict.fromkeys(known), _MOST_WORDS))
        self.words = tuple(dict.fromkeys(map(fold, typed)))
        """Of the query, folded, each once."""
        self._wanted: dict[str, list[_Way]] = {}
        for way in (*_own_ways(self.words), *_further_ways(analyzer, query, self.words)):
            for term in way.terms:
                self._wanted.setdefault(term, []).append(way)
        # A single character would be cut out of every word that it stands in.
        further = (term for term in self._wanted if contains_chinese(term) and len(term) > 1)
        self._known = tuple(dict.fromkeys((*typed, *further)))

    def matches(self, text: str) -> Iterator[Match]:
        """The words of a text that match, in order."""
        if not self._wanted:
            return
        found = [(start, end, self._terms_of(text[start:end])) for start, end in self._spans(text)]
        there = frozenset[str]().union(*(terms for _, _, terms in found))
        for start, end, terms in found:
            ways = (way for term in terms for way in self._wanted[term] if way.terms <= there)
            if words := frozenset[str]().union(*(way.words for way in ways)):
                yield Match(start, end, words)

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        return word_spans(text[:_LONGEST], self._known)

    def _terms_of(self, word: str) -> list[str]:
        return [term for term in _terms(word) if term in self._wanted]


def _words(text: str) -> Iterator[str]:
    return (text[start:end] for start, end in word_spans(text))


def _readable(word: str) -> list[str]:
    return chinese_words(word) if contains_chinese(word) else [word]


def _own_ways(words: Sequence[str]) -> Iterator[_Way]:
    """By what each word of a query is met. Chinese words are met whole: a character of one stands in many others."""
    for word in words:
        if contains_chinese(word):
            yield _Way(frozenset((word,)), frozenset((word,)))
            continue
        for group in _PLAIN.groups(word):
            for terms in group.alternatives:
                yield _Way(frozenset(terms), frozenset((word,)))


def _further_ways(analyzer: Analyzer, query: str, words: Sequence[str]) -> Iterator[_Way]:
    """By what words of a query are met beside that: synonyms, and one word for what was typed as two."""
    terms_of = {word: frozenset(_PLAIN.terms(word)) for word in words}
    own = frozenset[str]().union(*terms_of.values())
    for group in analyzer.groups(query):
        for typed in group.alternatives:
            # The first is what was typed, unless that is spelled in another way: "wifi" for "wi fi".
            if covered := frozenset(word for word, terms in terms_of.items() if not terms.isdisjoint(typed)):
                break
        else:
            continue
        for alternative in map(_read_whole, group.alternatives):
            if not alternative <= own:
                yield _Way(alternative, covered)


def _read_whole(terms: Sequence[str]) -> frozenset[str]:
    """Without the Chinese words that stand in longer ones of the same phrase: a text is not cut into both."""
    return frozenset(
        term
        for term in terms
        if not contains_chinese(term) or not any(term in other for other in terms if other != term)
    )


@lru_cache(maxsize=2**16)
def _terms(word: str) -> tuple[str, ...]:
    """The terms of a word of a text."""
    folded = fold(word)
    if contains_chinese(word):
        return (folded,)
    return tuple(term for chunk in chunks(folded) for term in chunk.terms)
