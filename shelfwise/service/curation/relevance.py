"""Relevance settings of a store (candidate limits, typo tolerance, signals), with a log of every change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

from shelfwise.retrieval.errors import RelevanceError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import DEFAULT_WEIGHTS, FieldWeights
from shelfwise.retrieval.text.vocabulary import words_of
from shelfwise.service.curation.document_store import DocumentCodec, DocumentStore

DOCUMENT_ID = "relevance"
"""Id of the only document of an index."""


class TypoTolerance(StrEnum):
    """Use of spelling corrections."""

    ON = "on"
    """A certain correction is searched for, any other is offered."""
    OFFER = "offer"
    """Corrections are only offered."""
    OFF = "off"
    """No corrections."""


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A numeric field that moves hits."""

    field: Annotated[str, Meta(min_length=1, max_length=256)]
    """Name in filters: `rating`, `created`, `margin` for an attribute."""
    weight: Annotated[float, Meta(gt=0, le=10)] = 1.0
    """Standard deviations of the scores of the best hits that the best value of the catalog adds and the worst
    subtracts."""
    descending: bool = True
    """Whether the highest value is the best."""


class Relevance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The relevance settings of a store; the defaults do not change searches."""

    cutoff: Annotated[float, Meta(ge=-3, le=3)] = 0.0
    """Offset added to the measured cutoff, in deviations of unrelated products."""
    margin: Annotated[float, Meta(ge=0.5, le=10)] = 3.0
    """Maximum distance of a candidate below the nearest product, in deviations."""
    typo_tolerance: TypoTolerance = TypoTolerance.ON
    never_corrected: Annotated[tuple[Annotated[str, Meta(max_length=100)], ...], Meta(max_length=1_000)] = ()
    """Words that are never corrected."""
    signals: Annotated[tuple[Signal, ...], Meta(max_length=10)] = ()
    fields: FieldWeights = DEFAULT_WEIGHTS
    """Weights of the searched fields, effective from the next rebuild."""
    hidden: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=200)] = ()
    """Fields and attributes, as named in filters, that the service only sends to keys with the scope `admin`."""

    @property
    def id(self) -> str:
        """The id, which is the same for all."""
        return DOCUMENT_ID

    @property
    def protected_words(self) -> frozenset[str]:
        """`never_corrected`, folded."""
        return _folded(self.never_corrected)


@lru_cache(maxsize=8)
def _folded(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(each for word in words for each in words_of(word))


DEFAULT_RELEVANCE = Relevance()
_BLANK = Product("", "")


def without_fields(product: Product, hidden: Collection[str]) -> Product:
    """A product without hidden fields and attributes; a hidden attribute includes those of its object."""
    blank = {name: getattr(_BLANK, name) for name in hidden if hasattr(_BLANK, name)}
    kept = {name: value for name, value in product.attributes.items() if not is_hidden(name, hidden)}
    return replace(product, **{"attributes": kept, **blank})


def is_hidden(name: str, hidden: Collection[str]) -> bool:
    """Whether a field or attribute is hidden, or the object that it is of, as products and filters name it."""
    name = name.removeprefix("attributes.")
    names = {name, name.partition(".")[0]}
    return not names.isdisjoint(hidden) or any(f"attributes.{each}" in hidden for each in names)


_ALLOWED: Mapping[str, str] = {
    "cutoff": "a number from -3 to 3",
    "margin": "a number from 0.5 to 10",
    "typo_tolerance": f"one of {', '.join(TypoTolerance)}",
    "never_corrected": "a list of at most 1,000 words",
    "signals": "a list of at most 10, each with a field, a weight (above 0, at most 10) and descending (true or false)",
    "hidden": "a list of at most 200 fields or attributes besides id and title",
    "fields": "whole numbers from 0 to 10: title (at least 1), brand, category, description, attributes by name",
}


def _check(relevance: Relevance, place: str) -> Relevance:
    for number, word in enumerate(relevance.never_corrected):
        if len(tuple(words_of(word))) != 1:
            message = f"{place}: never_corrected[{number}]: {word!r} is not one word; list each word by itself"
            raise RelevanceError(message, field="never_corrected")
    if shown := {"id", "title"}.intersection(relevance.hidden):
        raise RelevanceError(f"{place}: hidden: {min(shown)} cannot be hidden; name other fields", field="hidden")
    names = [signal.field for signal in relevance.signals]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise RelevanceError(
            f"{place}: signals: {twice!r} is listed twice; give each field one weight", field="signals"
        )
    return relevance


class RelevanceStore(DocumentStore[Relevance]):
    """The relevance settings of an index directory and their changes (INDEX/relevance.sqlite): one document, or none
    for the defaults."""

    kind = DocumentCodec(
        one="document",
        many="relevance",
        entry=Relevance,
        application=0x5357524C,
        error=RelevanceError,
        check=_check,
        allowed=_ALLOWED,
    )

    def current(self) -> Relevance:
        """The current settings."""
        documents = self.read().documents
        return documents[0] if documents else DEFAULT_RELEVANCE
