"""Makes proposals for synonyms out of the derived tables.

Two queries propose that the words in which they differ mean the same, where the same products were chosen after both,
or where nothing was chosen after the one, and shoppers went on with the other and chose there. Words that differ in
several pairs of queries are proposed by themselves: "couch cover" and "sofa cover", "grey couch" and "grey sofa"
propose couch and sofa. One pair alone proposes its whole texts, since "hair dryer" and "blow dryer" do not make hair
the same as blow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from rerank.behaviour.derived import Derived
from retrieval.catalog_words import CatalogWords
from retrieval.errors import SynonymError
from service.synonyms.aligning import MOST_WORDS, aligned, are_spellings, joined, split
from service.synonyms.alike import Categories, alike_by_products
from service.synonyms.checking import MARKS, sound
from service.synonyms.in_catalog import products_with
from service.synonyms.proposal import Example, Proposal, proposal_id
from service.synonyms.synonym import Kind, named

MOST_QUERIES = 20_000
MOST_PROPOSALS = 1_000
MOST_EXAMPLES = 5
LEAST_ALIKE = 0.3
"""Of queries after which the same is chosen."""
LEAST_SHARE = 0.2
"""Of the times that a query without a choice was put in other words, those that ended with a choice after the same
other one."""
LEAST_AGREEING = 0.9
"""Of the categories that two queries lead to: a broad query leads to more than a narrow one."""
_LEAST_NEAR = 0.2
"""From which on a query may be another one's misspelling."""

_Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Two queries that say the same in other words, the one whose differing words come first in the alphabet first."""

    differing: tuple[_Words, _Words]
    is_whole: bool
    one: int
    other: int
    shoppers: int
    share: float
    alike: float

    @property
    def rank(self) -> tuple[float, int, int]:
        """The strongest first."""
        return -self.alike - self.share / 2, self.one, self.other


@dataclass(frozen=True, slots=True)
class _Change:
    """How shoppers went from one query to the other, in whichever direction more did."""

    share: float = 0.0
    shoppers: int = 0
    origin: int = -1
    """The place of the query that they went from."""


_NO_CHANGE = _Change()


def synonym_proposals(derived: Derived, words: CatalogWords | None = None) -> list[Proposal]:
    """The proposals, the strongest first. `words` are those of the catalog that serves: where one side alone is in it,
    the other leads there, and what neither side of is in it is not proposed."""
    by_words: defaultdict[tuple[_Words, _Words], list[_Seen]] = defaultdict(list)
    queries = _Queries(derived, words)
    for seen in sorted(queries.pairs(), key=lambda each: each.rank):
        by_words[seen.differing].append(seen)
    found: dict[str, Proposal] = {}
    for examples in by_words.values():
        proposal = queries.proposal(examples)
        if proposal is not None:
            found.setdefault(proposal.id, proposal)
    return list(found.values())[:MOST_PROPOSALS]


class _Queries:
    """The queries that are asked most, by their places, and what is known of each and of two."""

    def __init__(self, derived: Derived, words: CatalogWords | None) -> None:
        table = derived.queries.head(MOST_QUERIES)
        self._words = words
        self._texts: list[str] = table["query"].to_list()
        self._shoppers: list[int] = table["shoppers"].to_list()
        self._split = [split(text) for text in self._texts]
        self._chosen = [clicks + carts > 0 for clicks, carts in table.select("clicks", "carts").iter_rows()]
        self._categories = Categories(self._texts, derived.query_categories)
        near = alike_by_products(self._texts, derived.labels, _LEAST_NEAR)
        self._alike = {(each.one, each.other): each.alike for each in near}
        self._changes = _changes(table, derived.reformulations)
        self._misspelt = {self._worse(*pair) for pair in self._alike if self._are_spellings(*pair)}

    def pairs(self) -> Iterator[_Seen]:
        """Those that say enough for the words in which they differ."""
        for one, other in self._alike.keys() | self._changes.keys():
            if one not in self._misspelt and other not in self._misspelt:
                seen = self._seen(one, other)
                if seen and self._say_enough(one, other):
                    yield seen

    def proposal(self, examples: Sequence[_Seen]) -> Proposal | None:
        """What pairs of queries that differ in the same words propose, the strongest of them first."""
        best = examples[0]
        if len(examples) > 1 and not any(each.is_whole for each in examples):
            left, right = map(joined, best.differing)
        else:
            whole = next((each for each in examples if each.is_whole), best)
            if max(len(self._split[whole.one]), len(self._split[whole.other])) > MOST_WORDS:
                return None
            left, right = self._phrase(whole.one), self._phrase(whole.other)
        direction = self._direction(left, right)
        if direction is None:
            return None
        kind, phrases, to = direction
        try:
            sound(named(kind, phrases, to))
        except SynonymError:
            # What nobody could accept.
            return None
        told = tuple(self._example(each, is_turned=phrases[0] == right) for each in examples[:MOST_EXAMPLES])
        shoppers = max(each.shoppers for each in examples)
        return Proposal(proposal_id(left, right), kind, phrases, to, shoppers, told[0].share, told[0].alike, told)

    def _example(self, seen: _Seen, *, is_turned: bool) -> Example:
        """As shoppers went, or else in the direction of the synonym."""
        change = self._change(seen.one, seen.other)
        first = change.origin if change.shoppers else (seen.other if is_turned else seen.one)
        second = seen.one if first == seen.other else seen.other
        query, to_query = self._texts[first], self._texts[second]
        return Example(query, to_query, seen.shoppers, round(seen.share, 3), round(seen.alike, 3))

    def _phrase(self, at: int) -> str:
        """A whole query as a synonym can have it."""
        text = self._texts[at]
        return joined(self._split[at]) if any(mark in text for mark in MARKS) else text

    def _say_enough(self, one: int, other: int) -> bool:
        alike = self._alike.get((one, other), 0.0)
        if alike >= LEAST_ALIKE:
            return self._categories.agree(one, other) >= LEAST_AGREEING
        given_up = not (self._chosen[one] and self._chosen[other])
        return given_up and self._change(one, other).share >= LEAST_SHARE

    def _change(self, one: int, other: int) -> _Change:
        return self._changes.get((min(one, other), max(one, other)), _NO_CHANGE)

    def _seen(self, one: int, other: int) -> _Seen | None:
        found = aligned(self._split[one], self._split[other])
        if found is None or are_spellings(found.one, found.other):
            return None
        change = self._change(one, other)
        shoppers = change.shoppers or min(self._shoppers[one], self._shoppers[other])
        alike = self._alike.get((one, other), 0.0)
        sides = sorted(((found.one, one), (found.other, other)))
        (first, one), (second, other) = sides
        return _Seen((first, second), found.is_whole, one, other, shoppers, change.share, alike)

    def _direction(self, left: str, right: str) -> tuple[Kind, _Words, _Words] | None:
        """Which of two phrases leads to which; None where the catalog has neither."""
        if self._words is None:
            return Kind.TWO_WAY, (left, right), ()
        has_left, has_right = (products_with(self._words, phrase) > 0 for phrase in (left, right))
        if has_left and has_right:
            return Kind.TWO_WAY, (left, right), ()
        if has_left:
            return Kind.ONE_WAY, (right,), (left,)
        return (Kind.ONE_WAY, (left,), (right,)) if has_right else None

    def _are_spellings(self, one: int, other: int) -> bool:
        return are_spellings(self._split[one], self._split[other])

    def _worse(self, one: int, other: int) -> int:
        """Of two spellings the one that the catalog has not, else the rarer one."""

        def rank(at: int) -> tuple[bool, int, int]:
            has = self._words is not None and products_with(self._words, self._texts[at]) > 0
            return has, self._shoppers[at], -at

        return min(one, other, key=rank)


def _changes(queries: pl.DataFrame, reformulations: pl.DataFrame) -> Mapping[tuple[int, int], _Change]:
    """By the places of both queries, the first before the second."""
    places = {query: at for at, query in enumerate(queries["query"].to_list())}
    replaced = [
        round(searches * (share or 0))
        for searches, share in queries.select("searches", "reformulated_share").iter_rows()
    ]
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
