"""Synonyms proposed from shoppers' queries: words are aligned, compared, and proposed for a person to accept."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rapidfuzz.distance import OSA

from shelfwise.retrieval.errors import SynonymError
from shelfwise.retrieval.store.files import SealedFile
from shelfwise.retrieval.store.manifest import PROPOSALS_FILE
from shelfwise.retrieval.text.analysis import chinese_words, contains_chinese, dictionary_words, word_term
from shelfwise.retrieval.text.vocabulary import CatalogWords, edits_of, words_of
from shelfwise.service.curation.synonyms import (
    MARKS,
    Synonym,
    SynonymKind,
    name_synonym,
    products_with,
    validate_synonym,
)
from shelfwise.service.events.popular_queries import query_vectors, similar_by_products
from shelfwise.service.events.signals import CURE

if TYPE_CHECKING:
    import polars as pl

    from shelfwise.rerank.sessions.tables import DerivedTables


MOST_WORDS = 3
"""Maximum length of a proposed phrase: longer ones describe a wish, not a name."""
_WITHIN_SENTENCES = frozenset(
    {"a", "an", "the", "my", "your", "to", "on", "in", "at", "who", "how", "what", "something"}
)


@dataclass(frozen=True, slots=True)
class Alignment:
    """The differing words of one query and of the other, and whether nothing was shared."""

    one: tuple[str, ...]
    other: tuple[str, ...]
    is_whole: bool


def split(query: str) -> tuple[str, ...]:
    """The words of a query; a run of Chinese is segmented."""
    words = (chinese_words(word) if contains_chinese(word) else (word,) for word in words_of(query))
    return tuple(chain.from_iterable(words))


def joined(words: Sequence[str]) -> str:
    """The phrase of some words; Chinese is written without spaces."""
    text = ""
    for word in words:
        text += f" {word}" if text and not (contains_chinese(word) and contains_chinese(text[-1])) else word
    return text


def align(one: Sequence[str], other: Sequence[str]) -> Alignment | None:
    """The difference between the words of two queries. None if one side is empty, if they differ in several places, or
    if the difference cannot be a synonym: it is too long, has a digit, or is part of a sentence."""
    shared = _terms(one) & _terms(other)
    left, right = (_differing(words, Counter(shared)) for words in (one, other))
    if not left or not right or not (_is_name(left) and _is_name(right)):
        return None
    return Alignment(left, right, not shared)


def are_spellings(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two phrases are spellings of one: as one or two words, in another form, or with a typing error."""
    if "".join(one) == "".join(other) or _terms(one) == _terms(other):
        return True
    if len(one) != len(other) or any(map(contains_chinese, (*one, *other))):
        return _are_chinese_slips(one, other)
    return all(_is_slip(left, right) for left, right in zip(one, other, strict=True))


def _is_slip(one: str, other: str) -> bool:
    most = max(edits_of(one), edits_of(other))
    return word_term(one) == word_term(other) or OSA.distance(one, other, score_cutoff=most) <= most


def _are_chinese_slips(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two Chinese phrases differ by a wrong character, which breaks one of them into more words."""
    first, second = "".join(one), "".join(other)
    if not (contains_chinese(first) and contains_chinese(second)) or len(first) != len(second):
        return False
    is_near = OSA.distance(first, second, score_cutoff=1) <= 1
    return is_near and len(dictionary_words(first)) != len(dictionary_words(second))


def _terms(words: Iterable[str]) -> Counter[str]:
    return Counter(map(word_term, words))


def _differing(words: Sequence[str], shared: Counter[str]) -> tuple[str, ...]:
    """The words that are not shared; empty if they are not adjacent."""
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


# INDEX/synonym_proposals.json contains the proposals, under a checksum; each refresh of the tables replaces it. It has
# no queries of fewer shoppers than the settings require.

SCHEMA = 1
"""Incremented when the file changes so that an older program cannot read it."""
MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Example:
    """Two queries in which a proposal occurred."""

    query: str
    to_query: str
    shoppers: int
    """Number of shoppers who went from one to the other, or else who searched for the rarer of the two."""
    share: float
    """Among shoppers who reformulated the first query, the share who went to the other."""
    alike: float
    """Similarity of the products chosen after both: a cosine, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A synonym proposed from shoppers' queries, with its evidence."""

    id: str
    """Id derived from the words, so that the same proposal always has the same id."""
    kind: SynonymKind
    phrases: tuple[str, ...]
    to: tuple[str, ...]
    shoppers: int
    """Number of shoppers of its strongest example."""
    share: float
    alike: float
    examples: tuple[Example, ...]
    """Examples, strongest first."""

    @property
    def synonym(self) -> Synonym:
        """The synonym that accepting the proposal stores."""
        return name_synonym(self.kind, self.phrases, self.to)


_FILE = SealedFile(SCHEMA, CURE, "proposals", msgspec.json.Decoder(tuple[Proposal, ...]))


def proposal_id(one: str, other: str) -> str:
    """Id of a proposal, equal for both orders of its phrases."""
    return hashlib.sha256("\t".join(sorted((one, other))).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def write_proposals(root: Path, proposals: Sequence[Proposal], made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError if it cannot be written."""
    _FILE.write(root / PROPOSALS_FILE, tuple(proposals), made)


def read_proposals(root: Path) -> tuple[Proposal, ...]:
    """The proposals in the file of an index directory; empty if there is none.

    Raises StoreDamagedError for a file that cannot be read or is damaged, StoreForeignError for one of another schema.
    """
    return _FILE.read(root / PROPOSALS_FILE, MOST_BYTES) or ()


# Two queries propose that their differing words mean the same if the same products were chosen after both, or if
# nothing was chosen after one, and shoppers went on to the other and chose there. Words that differ in several pairs of
# queries are proposed by themselves: "couch cover" and "sofa cover", "grey couch" and "grey sofa" propose couch and
# sofa. A single pair proposes its whole texts, since "hair dryer" and "blow dryer" do not make hair equal to blow.

MOST_QUERIES = 20_000
MOST_PROPOSALS = 1_000
MOST_EXAMPLES = 5
LEAST_ALIKE = 0.3
"""Minimum similarity of the choices after two queries."""
LEAST_SHARE = 0.2
"""Minimum share, among reformulations of a query without a choice, of those that ended with a choice after the same
other query."""
LEAST_AGREEING = 0.9
"""Minimum similarity of the categories of two queries: a broad query leads to more than a narrow one."""
_LEAST_NEAR = 0.2
"""Similarity from which a query may be a misspelling of another one."""

_Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Two queries with the same meaning in other words, ordered by their differing words."""

    differing: tuple[_Words, _Words]
    is_whole: bool
    one: int
    other: int
    shoppers: int
    share: float
    alike: float

    @property
    def rank(self) -> tuple[float, int, int]:
        """Sort key, strongest first."""
        return -self.alike - self.share / 2, self.one, self.other


@dataclass(frozen=True, slots=True)
class _Change:
    """Shoppers' changes from one query to the other, in the more frequent direction."""

    share: float = 0.0
    shoppers: int = 0
    origin: int = -1
    """Number of the query that they left."""


_NO_CHANGE = _Change()


def synonym_proposals(derived: DerivedTables, words: CatalogWords | None = None) -> list[Proposal]:
    """The proposals, strongest first. `words` are those of the serving catalog: if only one side is in it, the other
    leads to it; if neither side is, nothing is proposed."""
    by_words: defaultdict[tuple[_Words, _Words], list[_Evidence]] = defaultdict(list)
    queries = _Queries(derived, words)
    for seen in sorted(queries.pairs(), key=lambda each: each.rank):
        by_words[seen.differing].append(seen)
    found: dict[str, Proposal] = {}
    for examples in by_words.values():
        if proposal := queries.proposal(examples):
            found.setdefault(proposal.id, proposal)
    return list(found.values())[:MOST_PROPOSALS]


class _Queries:
    """The most frequent queries by number, with data on each and on pairs."""

    def __init__(self, derived: DerivedTables, words: CatalogWords | None) -> None:
        table = derived.queries.head(MOST_QUERIES)
        self._words = words
        self._texts: list[str] = table["query"].to_list()
        self._shoppers: list[int] = table["shoppers"].to_list()
        self._split = [split(text) for text in self._texts]
        self._chosen = [clicks + carts > 0 for clicks, carts in table.select("clicks", "carts").iter_rows()]
        vectors = query_vectors(self._texts, derived.query_categories, "category")
        ends, categories, sizes = vectors.indptr.tolist(), vectors.indices.tolist(), vectors.data.tolist()
        self._categories = [
            dict(zip(categories[start:end], sizes[start:end], strict=True)) for start, end in pairwise(ends)
        ]
        near = similar_by_products(self._texts, derived.labels, _LEAST_NEAR)
        self._alike = {(one, other): alike for one, other, alike in near}
        self._changes = _changes(table, derived.reformulations)
        self._misspelt = {
            self._worse(*pair) for pair in self._alike if are_spellings(*(self._split[at] for at in pair))
        }

    def pairs(self) -> Iterator[_Evidence]:
        """The pairs with enough evidence for their differing words."""
        for one, other in self._alike.keys() | self._changes.keys():
            if one not in self._misspelt and other not in self._misspelt:
                seen = self._evidence(one, other)
                if seen and self._say_enough(one, other):
                    yield seen

    def proposal(self, examples: Sequence[_Evidence]) -> Proposal | None:
        """The proposal of pairs of queries that differ in the same words, strongest first."""
        best = examples[0]
        if len(examples) > 1 and not any(each.is_whole for each in examples):
            left, right = map(joined, best.differing)
        else:
            whole = next((each for each in examples if each.is_whole), best)
            if max(len(self._split[whole.one]), len(self._split[whole.other])) > MOST_WORDS:
                return None
            left, right = self._phrase(whole.one), self._phrase(whole.other)
        synonym = self._synonym(left, right)
        if synonym is None:
            return None
        try:
            validate_synonym(synonym)
        except SynonymError:
            # Nobody could accept it.
            return None
        is_turned = synonym.phrases[0] == right
        shown = tuple(self._example(each, is_turned=is_turned) for each in examples[:MOST_EXAMPLES])
        shoppers, share, alike = max(each.shoppers for each in examples), shown[0].share, shown[0].alike
        name = proposal_id(left, right)
        return Proposal(name, synonym.kind, synonym.phrases, synonym.to, shoppers, share, alike, shown)

    def _example(self, seen: _Evidence, *, is_turned: bool) -> Example:
        """The example in the direction in which shoppers went, or else in that of the synonym."""
        change = self._change(seen.one, seen.other)
        first = change.origin if change.shoppers else (seen.other if is_turned else seen.one)
        second = seen.one if first == seen.other else seen.other
        query, to_query = self._texts[first], self._texts[second]
        return Example(query, to_query, seen.shoppers, round(seen.share, 3), round(seen.alike, 3))

    def _phrase(self, at: int) -> str:
        """A whole query as a phrase of a synonym."""
        text = self._texts[at]
        return joined(self._split[at]) if any(mark in text for mark in MARKS) else text

    def _say_enough(self, one: int, other: int) -> bool:
        alike = self._alike.get((one, other), 0.0)
        if alike >= LEAST_ALIKE:
            return self._category_similarity(one, other) >= LEAST_AGREEING
        given_up = not (self._chosen[one] and self._chosen[other])
        return given_up and self._change(one, other).share >= LEAST_SHARE

    def _category_similarity(self, one: int, other: int) -> float:
        """The cosine of two queries' categories; 1 if too little is known about one of them."""
        left, right = self._categories[one], self._categories[other]
        return sum(size * right.get(category, 0.0) for category, size in left.items()) if left and right else 1.0

    def _change(self, one: int, other: int) -> _Change:
        return self._changes.get((min(one, other), max(one, other)), _NO_CHANGE)

    def _evidence(self, one: int, other: int) -> _Evidence | None:
        found = align(self._split[one], self._split[other])
        if found is None or are_spellings(found.one, found.other):
            return None
        change = self._change(one, other)
        shoppers = change.shoppers or min(self._shoppers[one], self._shoppers[other])
        alike = self._alike.get((one, other), 0.0)
        (first, one), (second, other) = sorted(((found.one, one), (found.other, other)))
        return _Evidence((first, second), found.is_whole, one, other, shoppers, change.share, alike)

    def _synonym(self, left: str, right: str) -> Synonym | None:
        """The synonym from the phrase that the catalog lacks to the one that it has; None if it has neither."""
        words = self._words
        has_left, has_right = (words is None or products_with(words, phrase) > 0 for phrase in (left, right))
        if has_left and has_right:
            return name_synonym(SynonymKind.TWO_WAY, (left, right))
        if has_left:
            return name_synonym(SynonymKind.ONE_WAY, (right,), (left,))
        return name_synonym(SynonymKind.ONE_WAY, (left,), (right,)) if has_right else None

    def _worse(self, one: int, other: int) -> int:
        """The worse of two spellings: the one that the catalog lacks, or else the rarer one."""

        def rank(at: int) -> tuple[bool, int, int]:
            has = self._words is not None and products_with(self._words, self._texts[at]) > 0
            return has, self._shoppers[at], -at

        return min(one, other, key=rank)


def _changes(queries: pl.DataFrame, reformulations: pl.DataFrame) -> Mapping[tuple[int, int], _Change]:
    """Changes by the numbers of both queries, the smaller first."""
    places = {query: at for at, query in enumerate(queries["query"].to_list())}
    shares = queries.select("searches", "reformulated_share").iter_rows()
    replaced = [round(searches * (share or 0)) for searches, share in shares]
    found: dict[tuple[int, int], _Change] = {}
    for row in reformulations.iter_rows(named=True):
        one, other = places.get(row["query"]), places.get(row["to_query"])
        chosen = row["purchased"] + row["carted"] + row["clicked"]
        if one is None or other is None or not chosen:
            continue
        change = _Change(min(1.0, chosen / max(replaced[one], 1)), row["shoppers"], one)
        key = (min(one, other), max(one, other))
        found[key] = max(change, found.get(key, _NO_CHANGE), key=lambda each: each.share)
    return found
