"""Highlighting: the matches of a query in a product's texts, as escaped HTML; and the spans of words and tokens."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.encoders.base import TokenSpans
from shelfwise.retrieval.errors import UnknownFieldError, close_names
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR, FieldCatalog, FieldInfo
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import HAN, Analyzer, chinese_words, chunks, contains_chinese, fold

MAX_WORDS = 1_000
"""The most words to which a text may be cut."""
_BEFORE = 3
"""The number of words of an excerpt before the first match, if there are as many."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The tags around matches, and the sign at cuts of a text."""

    before: str = "<em>"
    after: str = "</em>"
    cut: str = "…"


def marked(
    text: str,
    spans: Iterable[tuple[int, int]],
    marks: Marks,
    shown: Callable[[str], str] = str,
    bounds: tuple[int, int] | None = None,
) -> str:
    """The text with tags around its spans (ascending and disjoint), and `shown` applied to each piece; only the part
    within `bounds`, with a sign at each cut."""
    begin, end = bounds or (0, len(text))
    pieces, done = [marks.cut if begin else ""], begin
    for start, stop in spans:
        if begin <= start and stop <= end:
            pieces += [shown(text[done:start]), marks.before, shown(text[start:stop]), marks.after]
            done = stop
    return "".join([*pieces, shown(text[done:end]), marks.cut if end < len(text) else ""])


def excerpt(text: str, words: int, first: int) -> tuple[int, int]:
    """The bounds of an excerpt of so many words, a few of which are before the character `first`."""
    if not words:
        return 0, 0
    spans = list(word_spans(text))
    if len(spans) <= words:
        return 0, len(text)
    at = next((place for place, (_, end) in enumerate(spans) if end > first), 0)
    begin = max(0, min(at - min(_BEFORE, words - 1), len(spans) - words))
    chosen = list(islice(spans, begin, begin + words))
    return (chosen[0][0] if begin else 0), (chosen[-1][1] if begin + words < len(spans) else len(text))


_MAX_WORDS = 64
_LONGEST_MATCH = 50_000
"""The number of characters of a text that are searched for matches."""
_PLAIN = Analyzer()
"""An analyzer without synonyms."""


@dataclass(frozen=True, slots=True)
class Match:
    """A word of a text that matches the query."""

    start: int
    end: int
    words: frozenset[str]
    """The words of the query that it matches."""


@dataclass(frozen=True, slots=True)
class _WordForms:
    """Terms that match words of the query if a text has all of them."""

    terms: frozenset[str]
    words: frozenset[str]


class Matcher:
    """Finds the words of one query in texts as search does: by terms ("drills" matches "drill") and by synonyms."""

    def __init__(self, analyzer: Analyzer, query: str) -> None:
        typed = query_words(query)
        self.words = tuple(dict.fromkeys(map(fold, typed)))
        """The distinct words of the query, folded."""
        self._wanted: dict[str, list[_WordForms]] = {}
        for way in (*_own_forms(self.words), *_additional_forms(analyzer, query, self.words)):
            for term in way.terms:
                self._wanted.setdefault(term, []).append(way)
        # A single character would be cut out of every word that contains it.
        further = (term for term in self._wanted if contains_chinese(term) and len(term) > 1)
        self._known = tuple(dict.fromkeys((*typed, *further)))

    def matches(self, text: str) -> Iterator[Match]:
        """The words of a text that match, in order."""
        if not self._wanted:
            return
        spans = word_spans(text[:_LONGEST_MATCH], self._known)
        analyzed = ((start, end, _terms(text[start:end])) for start, end in spans)
        found = [(start, end, [term for term in terms if term in self._wanted]) for start, end, terms in analyzed]
        there = frozenset[str]().union(*(terms for _, _, terms in found))
        for start, end, terms in found:
            ways = (way for term in terms for way in self._wanted[term] if way.terms <= there)
            if words := frozenset[str]().union(*(way.words for way in ways)):
                yield Match(start, end, words)


def query_words(query: str) -> tuple[str, ...]:
    """The first distinct words (at most 64) of a query as they were typed."""
    runs = (query[start:end] for start, end in word_spans(query))
    known = (word for run in runs for word in (chinese_words(run) if contains_chinese(run) else [run]))
    return tuple(islice(dict.fromkeys(known), _MAX_WORDS))


def _own_forms(words: Sequence[str]) -> Iterator[_WordForms]:
    """The forms that match each word of a query. Chinese words match as a whole: many others share a character."""
    for word in words:
        if contains_chinese(word):
            yield _WordForms(frozenset((word,)), frozenset((word,)))
            continue
        for group in _PLAIN.groups(word):
            for terms in group.alternatives:
                yield _WordForms(frozenset(terms), frozenset((word,)))


def _additional_forms(analyzer: Analyzer, query: str, words: Sequence[str]) -> Iterator[_WordForms]:
    """Further forms that match words of a query: synonyms, and one word for two typed words."""
    terms_of = {word: frozenset(_PLAIN.terms(word)) for word in words}
    own = frozenset[str]().union(*terms_of.values())
    for group in analyzer.analyze(query).groups:
        for typed in group.alternatives:
            # The first is what was typed, unless it has another spelling: "wifi" for "wi fi".
            if covered := frozenset(word for word, terms in terms_of.items() if not terms.isdisjoint(typed)):
                break
        else:
            continue
        for alternative in map(_read_whole, (*group.alternatives, *group.synonyms)):
            if not alternative <= own:
                yield _WordForms(alternative, covered)


def _read_whole(terms: Sequence[str]) -> frozenset[str]:
    """The terms except Chinese words that are part of longer ones of the same phrase: a text is not cut into both."""
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


MAX_FIELDS = 10
MAX_HITS = 200
"""The most hits of one search whose texts are highlighted."""
WORDS = 30
"""The number of words to which a longer text is cut by default."""
_LONGEST = 10_000
"""The most characters of a text that are shown."""
_MARKS = Marks("<mark>", "</mark>")
_TEXTS = ("title", "description", "brand", "category")


@dataclass(frozen=True, slots=True)
class HighlightedFields:
    """The texts of products to highlight, and the number of words to which a longer one is cut."""

    fields: Mapping[str, str]
    """Fields by their names in the request."""
    words: int = WORDS

    @classmethod
    def of(cls, names: Iterable[str], catalog: FieldCatalog, words: int = WORDS) -> HighlightedFields:
        """The fields of these names; raises UnknownFieldError for a name that is not a text of this catalog."""
        return cls({name: _field(name, catalog) for name in names}, words)

    def marked_of(self, product: Product, matcher: Matcher) -> dict[str, str]:
        """The shown part of each field's text, with `<mark>` around the words that matched."""
        texts = {name: _text(product, field) for name, field in self.fields.items()}
        return {name: self._marked(text, matcher) for name, text in texts.items() if text}

    def _marked(self, text: str, matcher: Matcher) -> str:
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}{_MARKS.cut}"
        spans = [(each.start, each.end) for each in matcher.matches(text)]
        bounds = excerpt(text, self.words, spans[0][0] if spans else 0)
        return marked(text, spans, _MARKS, html.escape, bounds)


def _field(name: str, catalog: FieldCatalog) -> str:
    if name in _TEXTS:
        return name
    for key in (name, f"attributes.{name}"):
        info = catalog.fields.get(key)
        if info and _has_texts(info):
            return key
    close = close_names(name, [*_TEXTS, *(info.name for info in catalog.fields.values() if _has_texts(info))])
    key = f"did you mean {' or '.join(close)}?" if close else f"such as {', '.join(_TEXTS)}"
    raise UnknownFieldError(f"highlight: products have no text field {name!r}; {key}", name, close)


def _has_texts(info: FieldInfo) -> bool:
    return info.is_textual and info.name.startswith(("attributes.", "identifiers."))


def _text(product: Product, field: str) -> str:
    if field == "category":
        return CATEGORY_SEPARATOR.join(product.category)
    table, _, name = field.partition(".")
    value = getattr(product, table)
    if name:
        value = value.get(name, "")
    texts = value if isinstance(value, tuple) else (value,)
    return ", ".join(each for each in texts if isinstance(each, str))


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
