"""Shelfwise: product search for web stores. The public names; everything else may change between versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shelfwise.retrieval.errors import (
    ChangeError,
    EncoderError,
    EventError,
    FilterError,
    InputError,
    QueryError,
    ShelfwiseError,
    StoreError,
    UnknownFieldError,
    UnknownProductError,
)
from shelfwise.retrieval.records import (
    Availability,
    Candidate,
    Contribution,
    Event,
    EventKind,
    Explanation,
    Facet,
    FacetCount,
    Hit,
    Page,
    PastAct,
    Place,
    Product,
    RangeCount,
    StageScore,
    TermMatch,
    Variant,
)

if TYPE_CHECKING:
    from shelfwise.service.curation.relevance import Relevance, Signal, TypoTolerance
    from shelfwise.service.curation.rules import Boost, Bury, Data, Hide, Match, Pin, Redirect, Restrict, Rule, When
    from shelfwise.service.engine.engine import SearchEngine
    from shelfwise.service.engine.request import SearchRequest

__all__ = [
    "Availability",
    "Boost",
    "Bury",
    "Candidate",
    "ChangeError",
    "Contribution",
    "Data",
    "EncoderError",
    "Event",
    "EventError",
    "EventKind",
    "Explanation",
    "Facet",
    "FacetCount",
    "FilterError",
    "Hide",
    "Hit",
    "InputError",
    "Match",
    "Page",
    "PastAct",
    "Pin",
    "Place",
    "Product",
    "QueryError",
    "RangeCount",
    "Redirect",
    "Relevance",
    "Restrict",
    "Rule",
    "SearchEngine",
    "SearchRequest",
    "ShelfwiseError",
    "Signal",
    "StageScore",
    "StoreError",
    "TermMatch",
    "TypoTolerance",
    "UnknownFieldError",
    "UnknownProductError",
    "Variant",
    "When",
]


_RELEVANCE = ("Relevance", "Signal", "TypoTolerance")
_RULES = ("Boost", "Bury", "Data", "Hide", "Match", "Pin", "Redirect", "Restrict", "Rule", "When")


def __getattr__(name: str) -> object:
    """Loads the engine, and numpy with it, when it is first used; rules likewise."""
    if name == "SearchEngine":
        from shelfwise.service.engine.engine import SearchEngine

        return SearchEngine
    if name == "SearchRequest":
        from shelfwise.service.engine.request import SearchRequest

        return SearchRequest
    if name in _RULES:
        from shelfwise.service.curation import rules

        return getattr(rules, name)
    if name in _RELEVANCE:
        from shelfwise.service.curation import relevance

        return getattr(relevance, name)
    raise AttributeError(f"module 'shelfwise' has no attribute {name!r}")
