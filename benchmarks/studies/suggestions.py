"""How fast and how well queries are completed and corrected, and what synonyms bring."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from indexer.version_writer import WordsWriter
from retrieval.store.products import product_to_json
from retrieval.text.analysis import word_term
from retrieval.text.vocabulary import CatalogWords, words_of
from service.curation.synonym_mining import Proposal, joined, split
from service.demo.grammar import GRAMMARS
from service.engine.overlay import Products
from service.engine.spelling import SHORTEST_TWICE, WordCorrector, edits_of

# How fast suggestions come while queries are typed, and how well misspelled words are corrected.

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MOST_TRIES = 20
_BESIDE = 2
"""Other words of the title that a typo is typed with, as a short query has."""


@dataclass(frozen=True, slots=True)
class SuggestLatency:
    """Of one suggestion after each letter, in milliseconds."""

    keystrokes: int
    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class TypoFigures:
    """What became of words: each count is of words, of which `sure` ones are searched for unasked."""

    kind: str
    words: int
    right: int
    wrong: int
    sure_right: int
    sure_wrong: int

    @property
    def recall(self) -> float:
        """The share of the words that are put right."""
        return self.right / self.words if self.words else 0.0

    @property
    def precision(self) -> float:
        """The share of all corrections that are right; 1 where there is none."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0


def measure_keystrokes(suggest: Callable[[str], object], queries: Sequence[str], count: int) -> SuggestLatency:
    """Times every prefix of the queries, letter by letter, up to `count` of them."""
    prefixes = [query[:end] for query in queries for end in range(1, len(query) + 1)][:count]
    spent = []
    for prefix in prefixes:
        started = time.perf_counter()
        suggest(prefix)
        spent.append((time.perf_counter() - started) * 1_000)
    p50, p99 = np.percentile(spent, [50, 99])
    return SuggestLatency(len(spent), float(p50), float(p99), max(spent))


def measure_typos(products: Products, count: int, seed: int) -> list[TypoFigures]:
    """Learns words from one half of the products and corrects words of the other half's titles: with one and two typos
    planted, and as they are, although the first half has not got them."""
    rows = range(len(products))
    titles = [words_of(products[row].title) for row in rows[1::2]]
    dice = random.Random(seed)  # noqa: S311 - the same typos each time
    with tempfile.TemporaryDirectory() as scratch:
        writer = WordsWriter()
        writer.add(product_to_json(products[row]) for row in rows[::2])
        writer.finish(Path(scratch) / "words")
        words = CatalogWords.open(Path(scratch) / "words")
        trial = _Trial(words, WordCorrector(words), titles, dice)
        return [
            trial.planted("1 edit", count, edits=1),
            trial.planted(f"2 edits, from {SHORTEST_TWICE} letters", count, edits=2),
            trial.untouched("right but unknown", count),
        ]


@dataclass(frozen=True, slots=True)
class _Trial:
    words: CatalogWords
    corrections: WordCorrector
    titles: Sequence[list[str]]
    dice: random.Random

    def planted(self, kind: str, count: int, *, edits: int) -> TypoFigures:
        """Words that the catalog knows, misspelled."""
        counts = [0, 0, 0, 0]
        cases = 0
        for word, beside in self._drawn(edits):
            if word in self.words and (typo := self._misspelled(word, edits)):
                cases += 1
                self._judge(counts, typo, word, beside)
            if cases >= count:
                break
        return TypoFigures(kind, cases, *counts)

    def untouched(self, kind: str, count: int) -> TypoFigures:
        """Words that the catalog does not know, nor another form of them by which the search would find them: whatever
        is done to them is wrong."""
        counts = [0, 0, 0, 0]
        known = self.words.postings
        terms = {word_term(known[place]) for place in range(len(known))}
        unknown = sorted(
            {word for title in self.titles for word in title if edits_of(word) and word_term(word) not in terms}
        )
        drawn = self.dice.sample(unknown, min(count, len(unknown)))
        for word in drawn:
            self._judge(counts, word, word, ())
        return TypoFigures(kind, len(drawn), *counts)

    def _judge(self, counts: list[int], typed: str, right: str, beside: Sequence[str]) -> None:
        """Adds to the counts of `TypoFigures`, in their order."""
        meant = self.corrections.correct(typed, beside)
        if meant:
            is_wrong = meant.text != right
            counts[is_wrong] += 1
            counts[2 + is_wrong] += meant.is_sure

    def _drawn(self, edits: int) -> Iterator[tuple[str, list[str]]]:
        """Words of titles as often as they stand there, each with a few others of its title."""
        for _ in range(100 * len(self.titles)):
            title = self.dice.choice(self.titles)
            long_enough = [word for word in title if edits_of(word) >= edits]
            if long_enough:
                word = self.dice.choice(long_enough)
                others = [other for other in title if other != word and other in self.words]
                yield word, self.dice.sample(others, min(_BESIDE, len(others)))

    def _misspelled(self, word: str, edits: int) -> str:
        """The word with typos, which is no word of the catalog; nothing where every try is one."""
        for _ in range(_MOST_TRIES):
            typo = word
            for _ in range(edits):
                typo = _edited(typo, self.dice)
            if typo != word and typo not in self.words and edits_of(typo) >= edits:
                return typo
        return ""


def _edited(word: str, dice: random.Random) -> str:
    """One letter left out, doubled up with another, mistaken, or swapped with the next one, each as often."""
    at = dice.randrange(len(word))
    letter = dice.choice(_LETTERS)
    swapped = word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]
    return dice.choice(
        [word[:at] + word[at + 1 :], word[:at] + letter + word[at:], word[:at] + letter + word[at + 1 :], swapped]
    )


# How good the synonyms are that shoppers' queries propose, on the demo store, whose own are known.


@dataclass(frozen=True, slots=True)
class Proposed:
    """What became of the proposals."""

    proposals: int
    right: int
    """Those both of whose sides the demo store's grammar has as names of one type."""
    planted: int
    """Words of the grammar that no title has, and that enough shoppers searched for."""
    found: int
    """Of them, those that a right proposal leads from."""
    wrong: tuple[str, ...]
    """Proposals that are not right, the strongest first."""
    precision_at: Mapping[int, float]
    """Of the strongest so many."""

    @property
    def precision(self) -> float:
        """The share of the proposals that are right."""
        return self.right / self.proposals if self.proposals else 1.0

    @property
    def recall(self) -> float:
        """The share of the planted words that are found."""
        return self.found / self.planted if self.planted else 1.0


_AT = (10, 25, 50, 100)


def judged(proposals: Sequence[Proposal], asked: Iterable[str]) -> Proposed:
    """Compares proposals with the grammar's names; `asked` are the queries of enough shoppers."""
    types, planted = _names()
    found: set[str] = set()
    marks: list[bool] = []
    wrong: list[str] = []
    for proposal in proposals:
        pairs = list(_pairs(proposal))
        is_right = all(types.get(one, set()) & types.get(other, set()) for one, other in pairs)
        marks.append(is_right)
        if is_right:
            found.update(phrase for pair in pairs for phrase in pair)
        else:
            wrong.append(proposal.synonym.line)
    reachable = planted & {_plain(query) for query in asked}
    precision_at = {size: sum(marks[:size]) / size for size in _AT if size <= len(marks)}
    return Proposed(len(marks), sum(marks), len(reachable), len(found & reachable), tuple(wrong), precision_at)


def _pairs(proposal: Proposal) -> Iterator[tuple[str, str]]:
    for one, other in product(proposal.phrases, proposal.to) if proposal.to else [proposal.phrases[:2]]:
        yield _plain(one), _plain(other)


def _names() -> tuple[dict[str, set[str]], set[str]]:
    """The types that each name is of, and the names that no title has."""
    types: dict[str, set[str]] = {}
    planted: set[str] = set()
    for kind in (kind for grammar in GRAMMARS for kind in grammar.types):
        for name in (*kind.names, *kind.synonyms):
            types.setdefault(_plain(name), set()).add(kind.key)
        planted.update(map(_plain, kind.synonyms))
    return types, planted


def _plain(phrase: str) -> str:
    return joined(split(phrase))
