"""The interface of a search engine under the complaint suite, and its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

MEANING_FLOOR = 0.26
"""The cosine below which an engine with a threshold drops a product, as a store would set it by hand: just above the
products nearest to the senseless queries of the suite, with the encoder all-MiniLM-L6-v2."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A product of the suite's catalog. `group` names the product of which it is a variant."""

    id: str
    title: str
    kind: str
    brand: str
    price: float
    sku: str
    description: str = ""
    colour: str = ""
    """Empty for a product without a colour; the field is then missing."""
    size: str = ""
    group: str = ""

    @property
    def text(self) -> str:
        """The encoded text, in which an engine with one searchable text also searches words."""
        return f"{self.title}. {self.description}".strip()


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a filter; all conditions of a search must hold."""

    field: str
    operator: str
    """One of =, !=, <, >=."""
    value: str | float

    def holds(self, listing: Listing) -> bool:
        """Whether a listing passes; without the field, it passes only !=."""
        value = getattr(listing, self.field)
        if self.operator in {"=", "!="}:
            return bool((value == self.value) == (self.operator == "="))
        return bool(value < self.value) if self.operator == "<" else bool(value >= self.value)


@dataclass(frozen=True, slots=True)
class Search:
    """One request. `vector` is the text's, of unit length, for engines that need one; empty without a text."""

    text: str
    vector: tuple[float, ...] = ()
    conditions: tuple[Condition, ...] = ()
    facets: tuple[str, ...] = ()
    sort: str = ""
    """A field to sort by, ascending."""
    page: int = 1
    size: int = 10
    grouped: bool = False
    """Whether to return one hit per group."""
    highlight: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A page. Values that an engine does not offer stay empty; cases `require` them first."""

    ids: tuple[str, ...]
    total: int = -1
    facets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Retrievers that found each hit: words, meaning or both."""
    highlights: Mapping[str, str] = field(default_factory=dict)
    degraded: bool = False


class NotOfferedError(Exception):
    """The engine does not have the feature; the message says what it has instead."""


class ComplaintError(Exception):
    """The complaint applies to the engine; the message has the observation."""


class Engine(Protocol):
    """An engine under test."""

    name: str
    version: str

    @property
    def lacks(self) -> Mapping[str, str]:
        """The reason for each of FEATURES that it does not offer."""

    def index(self, listings: Sequence[Listing], vectors: Sequence[Sequence[float]]) -> None:
        """Makes an index of only these."""

    def search(self, search: Search) -> Answer:
        """Answers one request."""

    def upsert(self, listing: Listing, vector: Sequence[float]) -> None:
        """Adds or replaces a product; the next search finds its new state."""

    def delete(self, ids: Sequence[str]) -> None:
        """Removes products."""

    def pin(self, text: str, product: str) -> None:
        """Puts a product first for a query; an empty product removes the pin."""

    def break_encoder(self, broken: bool) -> None:
        """Makes the engine's encoder fail, or work again."""

    def close(self) -> None:
        """Releases the engine's resources."""


FEATURES = ("total", "facets", "sort", "group", "highlight", "pin", "sides", "encoder")


@dataclass(frozen=True, slots=True)
class Shop:
    """An engine with the suite's catalog, for cases."""

    engine: Engine
    listings: Mapping[str, Listing]
    encode: Encode

    def require(self, *features: str) -> None:
        """Raises NotOfferedError if the engine lacks one of these features."""
        for feature in features:
            if reason := self.engine.lacks.get(feature):
                raise NotOfferedError(reason)

    def search(self, text: str, *conditions: Condition, **options: object) -> Answer:
        """Searches; `options` are the fields of a Search, and the features that they need are required."""
        needs = {"facets": "facets", "sort": "sort", "grouped": "group", "highlight": "highlight"}
        self.require(*(feature for option, feature in needs.items() if options.get(option)))
        vector = tuple(self.encode([text])[0]) if text else ()
        return self.engine.search(Search(text, vector, conditions, **options))  # type: ignore[arg-type]

    def matching(self, kind: str, *conditions: Condition) -> set[str]:
        """The ids of the listings of a kind, or of all, that pass."""
        every = (each for each in self.listings.values() if kind in {"", each.kind})
        return {each.id for each in every if all(condition.holds(each) for condition in conditions)}

    @contextmanager
    def added(self, *listings: Listing) -> Iterator[None]:
        """Adds some products as live changes, and removes them at the end."""
        try:
            for each in listings:
                self.change(each)
            yield
        finally:
            self.engine.delete([each.id for each in listings])

    def change(self, listing: Listing) -> None:
        """Adds or replaces a product."""
        self.engine.upsert(listing, self.encode([listing.text])[0])

    @contextmanager
    def pinned(self, text: str, product: str) -> Iterator[None]:
        """Puts a product first for a query, until the end of the context."""
        self.require("pin")
        self.engine.pin(text, product)
        try:
            yield
        finally:
            self.engine.pin(text, "")


class Encode(Protocol):
    """The encoder that all engines share."""

    def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """The unit vectors of texts."""


def expect(holds: bool, observed: str) -> None:
    """Raises ComplaintError with what was observed, unless the expectation holds."""
    if not holds:
        raise ComplaintError(observed)
