"""Completes what was typed: the queries, categories, brands and products that have all of its words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from retrieval.catalog_words import FORMAT, CatalogWords, Entries
from retrieval.fields import CATEGORY_SEPARATOR
from retrieval.records import Product
from retrieval.word_postings import Offsets
from service.merchandising.compiled import CompiledRules
from service.popularity import Popularity
from service.snapshot import Snapshot
from service.suggesting.asked import Asked, asked_key
from service.suggesting.kept_out import KeptOut
from service.suggesting.meaning import Meanings
from service.suggesting.suggestions import (
    QuerySource,
    SuggestedBrand,
    SuggestedCategory,
    SuggestedProduct,
    SuggestedQuery,
    Suggestions,
)
from service.suggesting.typed import Typed

_MOST_LOOKED_AT = 200
"""Of each kind: the best known of those that have the words, which are then looked at one by one."""


_NO_ENTRIES = Entries(FORMAT, (), (), (), 0)


@dataclass(frozen=True, slots=True)
class Material:
    """What completions are made of."""

    snapshot: Snapshot
    asked: Asked
    popularity: Popularity
    words: CatalogWords | None
    """None in a version without them, as its meanings are: then only what shoppers asked is known."""
    meanings: Meanings | None
    rules: CompiledRules | None = None
    """Of the store's merchandisers, where there are any."""


class Completer:
    """Completes texts."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._words = material.words
        self._entries = material.words.entries if material.words else _NO_ENTRIES

    def complete(self, typed: Typed, size: int, known: str) -> Suggestions:
        """At most `size` queries, none of them the `known` one, and half as many of each other kind."""
        if not typed.words or typed.is_too_long or size < 1:
            return Suggestions()
        half = (size + 1) // 2
        phrases, brands, categories, products = self._matching(typed)
        return Suggestions(
            tuple(islice(_distinct(known, chain(self._asked(typed), self._phrases(typed, phrases))), size)),
            tuple(islice(self._categories(typed, categories), half)),
            tuple(islice(self._brands(typed, brands), half)),
            tuple(islice(self._products(typed, products, known), half)),
        )

    def _matching(self, typed: Typed) -> tuple[Offsets, Offsets, Offsets, Offsets]:
        """Of each kind those that have the words, best known first, each counted from 0."""
        if self._words is None:
            nothing = np.empty(0, np.int64)
            return nothing, nothing, nothing, nothing
        found = self._words.postings.matching(typed.lookups)
        bounds = self._words.entries.bounds
        phrases, brands, categories, products, _ = np.split(found, np.searchsorted(found, bounds))
        return phrases, brands - bounds[0], categories - bounds[1], products - bounds[2]

    def _asked(self, typed: Typed) -> Iterator[SuggestedQuery]:
        asked, meanings = self._material.asked, self._material.meanings
        for at in _head(asked.postings.matching(typed.lookups)):
            query = asked.queries[at]
            spans = typed.spans_in(query.text) if query.leads else None
            # A misspelling that many make is not taught to others.
            if spans and (query.sells or meanings is None or not meanings.is_misspelled(query.text)):
                yield SuggestedQuery(query.text, QuerySource.ASKED, spans)

    def _phrases(self, typed: Typed, found: Offsets) -> Iterator[SuggestedQuery]:
        for at in _head(found):
            text, _ = self._entries.phrases[at]
            if spans := typed.spans_in(text):
                yield SuggestedQuery(text, QuerySource.CATALOG, spans)

    def _brands(self, typed: Typed, found: Offsets) -> Iterator[SuggestedBrand]:
        for at in _head(found):
            name, count = self._entries.brands[at]
            if spans := typed.spans_in(name):
                yield SuggestedBrand(name, count, spans)

    def _categories(self, typed: Typed, found: Offsets) -> Iterator[SuggestedCategory]:
        """Those whose own name has a word: else all that is below "Tools" would come with it."""
        for at in _head(found):
            path, count = self._entries.categories[at]
            text = CATEGORY_SEPARATOR.join(path)
            spans = typed.spans_in(text)
            if spans and spans[-1][1] > len(text) - len(path[-1]):
                yield SuggestedCategory(path, count, text, spans)

    def _products(self, typed: Typed, found: Offsets, known: str) -> Iterator[SuggestedProduct]:
        """Those that are still there and still called so, and that no rule keeps out."""
        kept_out = KeptOut(self._material.rules, typed, known, self._material.snapshot.catalog.category_roots)
        for row in self._popular_first(found):
            product = self._product(row)
            if product is None or typed.spans_in(f"{product.title} {product.brand}") is None:
                continue
            if kept_out.has(product):
                continue
            yield SuggestedProduct(product, typed.spans_in(product.title, partly=True) or ())

    def _popular_first(self, found: Offsets) -> list[int]:
        rows = [] if self._words is None else self._words.rows[found[:_MOST_LOOKED_AT]].tolist()
        popularity = self._material.popularity
        if not popularity.shares:
            return rows
        shares = popularity.of(map(self._id, rows))
        return [rows[at] for at in np.argsort(-shares, kind="stable").tolist()]

    def _id(self, row: int) -> str:
        try:
            return self._material.snapshot.products.id_of(row)
        except IndexError:
            return ""

    def _product(self, row: int) -> Product | None:
        try:
            return self._material.snapshot.products[row]
        except IndexError:
            # A live change took it away.
            return None


def _head(found: Offsets) -> list[int]:
    return [int(at) for at in found[:_MOST_LOOKED_AT]]


def _distinct(known: str, queries: Iterable[SuggestedQuery]) -> Iterator[SuggestedQuery]:
    """Without what is known already, and without those that say the same words again."""
    seen = {asked_key(known)}
    for query in queries:
        if (key := asked_key(query.text)) not in seen:
            seen.add(key)
            yield query
