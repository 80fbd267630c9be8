"""What was typed, as words; and where another text has these words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice

from retrieval.chunks import chinese_words
from retrieval.surface_words import RAW_WORD, forms, index_words, words_of
from retrieval.textfold import contains_chinese
from retrieval.word_postings import Lookup
from service.suggesting.suggestions import Spans

MOST_WORDS = 16
"""Words, or Chinese characters, of a text that is completed or corrected; nobody types more into a search box."""
_MOST_ENDINGS = 4
"""Words of another text that one which is still being typed is completed to."""


@dataclass(frozen=True, slots=True)
class TypedWord:
    """A word as it stands in a text, and folded; a run of Chinese is one."""

    start: int
    end: int
    word: str

    @property
    def is_chinese(self) -> bool:
        """Whether it is a run of Chinese."""
        return contains_chinese(self.word)


@dataclass(frozen=True)
class Typed:
    """A text that may end within a word."""

    text: str

    @cached_property
    def words(self) -> tuple[TypedWord, ...]:
        """Its words in order."""
        return tuple(_words(self.text))

    @cached_property
    def is_within_word(self) -> bool:
        """Whether the last word may go on."""
        return bool(self.words) and self.words[-1].end == len(self.text)

    @cached_property
    def is_too_long(self) -> bool:
        """Whether it has more than `MOST_WORDS`."""
        return sum(len(each.word) if each.is_chinese else 1 for each in self.words) > MOST_WORDS

    @property
    def lookups(self) -> Iterator[Lookup]:
        """What a text must have."""
        last = len(self.words) - 1
        for at, each in enumerate(self.words):
            if not each.is_chinese:
                yield Lookup(each.word, is_prefix=at == last and self.is_within_word)
            elif len(each.word) == 1:
                # Whatever stands behind it.
                yield Lookup(each.word, is_prefix=True)
            else:
                yield from (Lookup(pair) for pair in index_words(each.word)[:-1])

    def replaced(self, words: Mapping[int, str]) -> str:
        """The text with other words at some places of `words`, all else as it was typed, lone surrogates left out: a
        text that is told to others can be written down."""
        pieces, done = [], 0
        for at in sorted(words):
            pieces += [self.text[done : self.words[at].start], words[at]]
            done = self.words[at].end
        return "".join([*pieces, self.text[done:]]).encode("utf-8", "ignore").decode()

    def completed_by(self, text: str) -> tuple[str, ...]:
        """The queries that this may become by the words of another text: its last word may be the beginning of
        several of them."""
        if not self.is_within_word:
            return ()
        last = self.words[-1]
        ends = dict.fromkeys(end for other in words_of(text) if (end := _completion(last, other)))
        return tuple(self.replaced({len(self.words) - 1: end}) for end in islice(ends, _MOST_ENDINGS))

    def spans_in(self, text: str, *, partly: bool = False) -> Spans | None:
        """Where a text has what was typed; None unless it has all of it, or `partly` lets some be missing."""
        there = list(_words(text))
        found: set[tuple[int, int]] = set()
        last = len(self.words) - 1
        for at, each in enumerate(self.words):
            may_go_on = at == last and self.is_within_word
            wanted = forms(each.word)
            here = [span for other in there if (span := _span(each, wanted, other, may_go_on=may_go_on))]
            if not here and not partly:
                return None
            found.update(here)
        return _apart(sorted(found))


def _words(text: str) -> Iterator[TypedWord]:
    for raw in RAW_WORD.finditer(text):
        # One character can be several words: a fraction.
        yield from (TypedWord(raw.start(), raw.end(), word) for word in words_of(raw[0]))


def _span(typed: TypedWord, wanted: tuple[str, ...], other: TypedWord, *, may_go_on: bool) -> tuple[int, int] | None:
    """What of another text's word was typed, in one of the `wanted` forms; all of it where folding changed its
    length."""
    if typed.is_chinese:
        at = other.word.find(typed.word) if other.is_chinese else -1
    else:
        is_same = other.word in wanted or (may_go_on and other.word.startswith(typed.word))
        at = 0 if is_same else -1
    if at < 0:
        return None
    if len(other.word) != other.end - other.start or len(other.word) < at + len(typed.word):
        return other.start, other.end
    return other.start + at, other.start + at + len(typed.word)


def _completion(typed: TypedWord, other: str) -> str:
    """The word that a typed one begins; of a run of Chinese what stands from there to the end of a word."""
    if not typed.is_chinese:
        return other if other.startswith(typed.word) else ""
    at = other.find(typed.word)
    if at < 0:
        return ""
    rest = other[at:]
    return rest[: next(end for end in accumulate(map(len, chinese_words(rest))) if end >= len(typed.word))]


def _apart(spans: list[tuple[int, int]]) -> Spans:
    """Spans that overlap made one."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
