"""The interface of a search engine that the complaint suite tests, and the values that pass it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

MEANING_FLOOR = 0.26
"""The cosine below which an engine that takes a threshold lets a product go, as a store would set it by hand: just
above the products nearest to the senseless queries of the suite, with the encoder all-MiniLM-L6-v2."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A product of the suite's catalog. `group` names the product that it is a variant of."""

    id: str
    title: str
    kind: str
    brand: str
    price: float
    sku: str
    description: str = ""
    colour: str = ""
    """Empty for a product that has none: then the field is missing, not empty."""
    size: str = ""
    group: str = ""

    @property
    def text(self) -> str:
        """What is encoded, and searched for words where an engine has one searchable text."""
        return f"{self.title}. {self.description}".strip()


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a filter; a search's conditions must all hold."""

    field: str
    operator: str
    """One of =, !=, <, >=."""
    value: str | float

    def holds(self, listing: Listing) -> bool:
        """Whether a listing passes: one without the field passes != alone."""
        value = getattr(listing, self.field)
        if self.operator in {"=", "!="}:
            return bool((value == self.value) == (self.operator == "="))
        return bool(value < self.value) if self.operator == "<" else bool(value >= self.value)


@dataclass(frozen=True, slots=True)
class Search:
    """One request. `vector` is the text's, of unit length, for engines that take one; empty without a text."""

    text: str
    vector: tuple[float, ...] = ()
    conditions: tuple[Condition, ...] = ()
    facets: tuple[str, ...] = ()
    sort: str = ""
    """A field, ascending."""
    page: int = 1
    size: int = 10
    grouped: bool = False
    """One hit for each group."""
    highlight: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A page. What an engine does not offer stays empty; cases `require` it first."""

    ids: tuple[str, ...]
    total: int = -1
    facets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For each hit what found it: words, meaning or both."""
    highlights: Mapping[str, str] = field(default_factory=dict)
    degraded: bool = False


class NotOfferedError(Exception):
    """The engine has no such feature; the message says what it has instead."""


class ComplaintError(Exception):
    """The complaint holds for the engine; the message has what was observed."""


class Engine(Protocol):
    """An engine under test."""

    name: str
    version: str

    @property
    def lacks(self) -> Mapping[str, str]:
        """The reason for each of FEATURES that it does not offer."""

    def index(self, listings: Sequence[Listing], vectors: Sequence[Sequence[float]]) -> None:
        """Makes an index of these alone."""

    def search(self, search: Search) -> Answer:
        """Answers one request."""

    def upsert(self, listing: Listing, vector: Sequence[float]) -> None:
        """Adds or replaces a product; the next search finds it as it is."""

    def delete(self, ids: Sequence[str]) -> None:
        """Removes products."""

    def pin(self, text: str, product: str) -> None:
        """Puts a product first for a query; an empty product ends it."""

    def break_encoder(self, broken: bool) -> None:
        """Lets the engine's encoder fail, or work again."""

    def close(self) -> None:
        """Frees what the engine holds."""


FEATURES = ("total", "facets", "sort", "group", "highlight", "pin", "sides", "encoder")


@dataclass(frozen=True, slots=True)
class Shop:
    """An engine with the suite's catalog in it, as cases use it."""

    engine: Engine
    listings: Mapping[str, Listing]
    encode: Encode

    def require(self, *features: str) -> None:
        """Raises NotOfferedError where the engine lacks one of these features."""
        for feature in features:
            if reason := self.engine.lacks.get(feature):
                raise NotOfferedError(reason)

    def search(self, text: str, *conditions: Condition, **options: object) -> Answer:
        """Searches; `options` are the fields of a Search, and what they need is required."""
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
        """Some more products, as live changes; they are removed in the end."""
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
        """A product put first for a query, until the end."""
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
