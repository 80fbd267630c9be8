"""What suggestions are: the values that `SearchEngine.suggest` gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from retrieval.records import Product

Spans = tuple[tuple[int, int], ...]
"""From where up to where a text has what was typed, in characters, ascending and apart: what a page shows bold."""


class QuerySource(StrEnum):
    """Where a suggested query comes from."""

    ASKED = "asked"
    """Enough shoppers asked it, and chose something."""
    CATALOG = "catalog"
    """Several products are called so."""


@dataclass(frozen=True, slots=True)
class SuggestedQuery:
    """A query that goes on from what was typed."""

    text: str
    source: QuerySource
    spans: Spans


@dataclass(frozen=True, slots=True)
class SuggestedCategory:
    """A category; `text` is its path as a page shows it, which the spans are of."""

    path: tuple[str, ...]
    count: int
    """Products in it or below, when the version was built."""
    text: str
    spans: Spans


@dataclass(frozen=True, slots=True)
class SuggestedBrand:
    """A brand."""

    name: str
    count: int
    """Products of it, when the version was built."""
    spans: Spans


@dataclass(frozen=True, slots=True)
class SuggestedProduct:
    """A product, as it is now; the spans are of its title."""

    product: Product
    spans: Spans


@dataclass(frozen=True, slots=True)
class Suggestions:
    """What may be meant by what was typed so far; empty where nothing is."""

    queries: tuple[SuggestedQuery, ...] = ()
    categories: tuple[SuggestedCategory, ...] = ()
    brands: tuple[SuggestedBrand, ...] = ()
    products: tuple[SuggestedProduct, ...] = ()
    corrected: str = ""
    """What they are for instead, where nothing begins as typed and another word was meant; the spans are of it."""
    degraded: tuple[str, ...] = ()
    """What could not take part: "words" in a version of an older program, "corrections" where the cluster is gone."""

    def __bool__(self) -> bool:
        return bool(self.queries or self.categories or self.brands or self.products)
