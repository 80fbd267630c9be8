"""Text analysis: the one place where terms are made, for products and queries, in English and Chinese.

Both keyword backends get finished terms and split them at spaces only, so that the same query ranks the same in each.
The rules were chosen by measuring; docs/decisions has the figures. There are no stop words: they bought nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from retrieval.chunks import Alternatives, Chunk, chunks, word_term
from retrieval.synonyms import Synonyms
from retrieval.textfold import contains_chinese, fold, identifier_key

__all__ = ["Analyzer", "TermGroup", "contains_chinese", "identifier_key", "phrase_key"]

RULES = "terms-1"
"""Goes up whenever a text would give other terms: an index made by other rules must be rebuilt."""
MAX_TEXT = 200_000
"""Characters of one text that are analysed; what stands behind them is not searched."""
MAX_GROUPS = 128
"""Groups of one query; the words behind them are not searched."""
_LONGEST_JOINT = 3

_Key = tuple[tuple[str, ...], ...]
_Expansions = Mapping[_Key, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, slots=True)
class TermGroup:
    """One word of a query (or one quantity, or one phrase with synonyms).

    Each alternative is a conjunction of terms; the group scores as its best alternative (dis_max). The first is what
    the user typed.
    """

    alternatives: Alternatives
    words: int = 1
    """How many of the query's words it stands for: more where a phrase has synonyms."""


class Analyzer:
    """Makes the terms of products and queries. Immutable, cheap to make, safe to share between threads.

    `identity` changes when a text would give other terms or the synonyms changed; `synonyms` are those that it was made
    with.
    """

    __slots__ = ("_expansions", "_longest", "identity", "synonyms")

    def __init__(self, synonyms: Synonyms | None = None) -> None:
        self.synonyms = synonyms = synonyms or Synonyms()
        self.identity = f"{RULES}+{synonyms.fingerprint}"
        self._expansions = _expansions(synonyms)
        self._longest = max(map(len, self._expansions), default=0)

    def terms(self, text: str) -> list[str]:
        """The terms to index for `text`; none holds whitespace.

        Any string is taken. A term's own terms include it, so terms can be analysed again (Chinese words that the
        segmenter made from their context excepted).
        """
        return [term for chunk in _read(text) for term in chunk.terms]

    def groups(self, text: str) -> tuple[TermGroup, ...]:
        """The groups to search for, in the order of the words. Each finds a product whose text is `text`."""
        found = list(islice(_read(text), MAX_GROUPS))
        characters = (TermGroup(((character,),)) for chunk in found for character in chunk.characters)
        return tuple(islice(chain(self._expanded(_with_joints(found)), characters), MAX_GROUPS))

    def _expanded(self, groups: Sequence[Alternatives]) -> Iterator[TermGroup]:
        at = 0
        while at < len(groups):
            size = self._match(groups, at)
            yield TermGroup(self._merged(groups[at : at + size]), size) if size else TermGroup(groups[at])
            at += size or 1

    def _match(self, groups: Sequence[Alternatives], at: int) -> int:
        """How many groups from `at` on the longest synonym covers; 0 where none begins there."""
        for size in range(min(self._longest, len(groups) - at), 0, -1):
            if _key(groups[at : at + size]) in self._expansions:
                return size
        return 0

    def _merged(self, groups: Sequence[Alternatives]) -> Alternatives:
        """The typed words, their synonyms, then each word alone, so that a synonym never loses a match."""
        key = _key(groups)
        return tuple(dict.fromkeys((_flat(key), *self._expansions[key], *chain.from_iterable(groups))))


def phrase_key(phrase: str) -> tuple[tuple[str, ...], ...]:
    """Equal for two phrases that are the same to a synonym; empty for one without a word."""
    return _typed(phrase)


def _read(text: str) -> Iterator[Chunk]:
    # Cut again after folding: one character can fold to eighteen.
    return chunks(fold(text[:MAX_TEXT])[:MAX_TEXT])


def _with_joints(found: Sequence[Chunk]) -> list[Alternatives]:
    """The groups of the chunks, where neighbours that may be one word ("wi fi", "dcd 771 c2") are also met by it."""
    joints: list[list[tuple[str, ...]]] = [[] for _ in found]
    for start in range(len(found)):
        for end, whole in _joints(found, start):
            # A word may be half of many compounds, so only the first half counts it; pieces of a model number all do.
            for at in range(start, start + 1 if whole.isalpha() else end):
                joints[at].append((word_term(whole),))
    return [
        (*alternatives, *(joints[at] if chunk.joint else ()))
        for at, chunk in enumerate(found)
        for alternatives in chunk.groups
    ]


def _joints(found: Sequence[Chunk], start: int) -> Iterator[tuple[int, str]]:
    """Each run of two or three chunks from `start` on that may be one word: where it ends, and the word.

    Three only where they are pieces of a model number, so have letters and digits.
    """
    whole = found[start].joint
    for end in range(start + 1, min(start + _LONGEST_JOINT, len(found))):
        if not (whole and found[end].joint):
            return
        whole += found[end].joint
        if not whole.isdigit() and (end == start + 1 or not whole.isalpha()):
            yield end + 1, whole


def _expansions(synonyms: Synonyms) -> _Expansions:
    table: dict[_Key, tuple[tuple[str, ...], ...]] = {}
    for rule in synonyms.rules:
        key = _typed(rule.phrase)
        others = (_flat(_typed(other)) for other in rule.others)
        table[key] = tuple(dict.fromkeys((*table.get(key, ()), *others)))
    return table


def _typed(phrase: str) -> _Key:
    return _key([group for chunk in _read(phrase) for group in chunk.groups])


def _key(groups: Sequence[Alternatives]) -> _Key:
    return tuple(alternatives[0] for alternatives in groups)


def _flat(key: _Key) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(key)))
