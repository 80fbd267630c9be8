"""Which words of two queries stand for each other: what is left of both when the words that they share are gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import OSA

from retrieval.chunks import chinese_words, dictionary_words, word_term
from retrieval.surface_words import words_of
from retrieval.textfold import contains_chinese
from service.suggesting.corrections import edits_of

MOST_WORDS = 3
"""Of a phrase that is proposed: longer ones say what somebody wants, not what it is called."""
_WITHIN_SENTENCES = frozenset(
    {"a", "an", "the", "my", "your", "to", "on", "in", "at", "who", "how", "what", "something"}
)


@dataclass(frozen=True, slots=True)
class Aligned:
    """The words that differ, of the one query and of the other, and whether nothing was shared."""

    one: tuple[str, ...]
    other: tuple[str, ...]
    is_whole: bool


def split(query: str) -> tuple[str, ...]:
    """The words of a query; a run of Chinese is cut into its words."""
    return tuple(part for word in words_of(query) for part in (chinese_words(word) if _is_chinese(word) else (word,)))


def joined(words: Sequence[str]) -> str:
    """The phrase that words make: Chinese is written without blanks."""
    text = ""
    for word in words:
        glued = not text or (_is_chinese(word) and _is_chinese(text[-1]))
        text += word if glued else f" {word}"
    return text


def aligned(one: Sequence[str], other: Sequence[str]) -> Aligned | None:
    """What differs between the words of two queries; None where that is nothing on one side, is in several places, or
    cannot be a synonym: it is too long, has a digit, or is part of a sentence."""
    shared = _terms(one) & _terms(other)
    left, right = (_differing(words, Counter(shared)) for words in (one, other))
    if not left or not right or not (_is_name(left) and _is_name(right)):
        return None
    return Aligned(left, right, not shared)


def are_spellings(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two phrases are one, spelled in two ways: apart or together, in another form, or with a slip."""
    if "".join(one) == "".join(other) or _terms(one) == _terms(other):
        return True
    if len(one) != len(other) or any(map(_is_chinese, (*one, *other))):
        return _are_chinese_slips(one, other)
    return all(_is_slip(left, right) for left, right in zip(one, other, strict=True))


def _is_slip(one: str, other: str) -> bool:
    most = max(edits_of(one), edits_of(other))
    return word_term(one) == word_term(other) or OSA.distance(one, other, score_cutoff=most) <= most


def _are_chinese_slips(one: Sequence[str], other: Sequence[str]) -> bool:
    """A wrong character leaves pieces that are no words, so one of the two falls into more of them."""
    first, second = "".join(one), "".join(other)
    if not (contains_chinese(first) and contains_chinese(second)) or len(first) != len(second):
        return False
    is_near = OSA.distance(first, second, score_cutoff=1) <= 1
    return is_near and len(dictionary_words(first)) != len(dictionary_words(second))


def _terms(words: Iterable[str]) -> Counter[str]:
    return Counter(map(word_term, words))


def _differing(words: Sequence[str], shared: Counter[str]) -> tuple[str, ...]:
    """The words that are not shared; nothing where they stand apart from each other."""
    places = []
    for at, word in enumerate(words):
        term = word_term(word)
        if shared[term]:
            shared[term] -= 1
        else:
            places.append(at)
    if not places or places[-1] - places[0] >= len(places):
        return ()
    return tuple(words[places[0] : places[-1] + 1])


def _is_name(words: Sequence[str]) -> bool:
    is_short = len(words) <= MOST_WORDS and not _WITHIN_SENTENCES.intersection(words)
    return is_short and not any(character.isdigit() for word in words for character in word)


def _is_chinese(word: str) -> bool:
    return contains_chinese(word)
