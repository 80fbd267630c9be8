"""The parameters of one search, as the engine can use them. Those that are not named here are passed over."""

from __future__ import annotations

from dataclasses import dataclass

from service.highlighting.marking import Marks
from service.instantsearch.body import Said
from service.instantsearch.values import AnyOf, all_of_any, flag, names, text, whole
from service.searching import DEEPEST, MOST_FACET_VALUES, MOST_SIZE

EVERYTHING = ("*",)
COUNTING = frozenset(
    {
        "query",
        "page",
        "hitsPerPage",
        "offset",
        "length",
        "facets",
        "maxValuesPerFacet",
        "facetFilters",
        "numericFilters",
        "tagFilters",
        "filters",
        "attributesToRetrieve",
        "attributesToHighlight",
        "attributesToSnippet",
        "highlightPreTag",
        "highlightPostTag",
        "snippetEllipsisText",
        "clickAnalytics",
        "analytics",
        "userToken",
    }
)
"""The parameters that are looked at."""
_MOST_TAG = 100
_MOST_NAME = 200


_PLAIN = Marks()


@dataclass(frozen=True, slots=True)
class Refinements:
    """What narrows a search, as it was sent: outer entries must all hold, one of each inner."""

    facets: tuple[AnyOf, ...] = ()
    numbers: tuple[AnyOf, ...] = ()
    tags: tuple[AnyOf, ...] = ()
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What of each record is sent."""

    attributes: tuple[str, ...] = EVERYTHING
    highlighted: tuple[str, ...] = EVERYTHING
    snippets: tuple[str, ...] = ()
    """Each an attribute's name, with ":" and a count of words where it is told."""
    marks: Marks = _PLAIN


@dataclass(frozen=True, slots=True)
class Parameters:
    """One search."""

    query: str = ""
    page: int = 0
    """From 0."""
    size: int = 20
    offset: int | None = None
    """The first hit instead of a page, from 0."""
    facets: tuple[str, ...] = ()
    most_values: int = 100
    """Of each facet."""
    refinements: Refinements = Refinements()
    shown: Shown = Shown()
    tells_query_id: bool = False
    is_recorded: bool = True
    shopper: str = ""


def parameters_of(said: Said) -> Parameters:
    """What one request of a batch asks for; raises QueryError, which names the parameter."""
    offset = whole(said, "offset", -1, 0, DEEPEST)
    size = whole(said, "hitsPerPage", 20, 0, MOST_SIZE)
    # They are used together or not at all.
    length = whole(said, "length", 0, 0, MOST_SIZE)
    return Parameters(
        query=text(said, "query"),
        page=whole(said, "page", 0, 0, 10**9),
        size=size if offset < 0 or not length else length,
        offset=offset if offset >= 0 and length else None,
        facets=names(said, "facets"),
        most_values=whole(said, "maxValuesPerFacet", 100, 1, MOST_FACET_VALUES),
        refinements=_refinements(said),
        shown=_shown(said),
        tells_query_id=flag(said, "clickAnalytics", default=False),
        is_recorded=flag(said, "analytics", default=True),
        shopper=text(said, "userToken", most=_MOST_NAME),
    )


def _refinements(said: Said) -> Refinements:
    return Refinements(
        all_of_any(said, "facetFilters"),
        all_of_any(said, "numericFilters"),
        all_of_any(said, "tagFilters"),
        text(said, "filters"),
    )


def _shown(said: Said) -> Shown:
    marks = Marks(
        text(said, "highlightPreTag", _PLAIN.before, _MOST_TAG),
        text(said, "highlightPostTag", _PLAIN.after, _MOST_TAG),
        text(said, "snippetEllipsisText", _PLAIN.cut, _MOST_TAG),
    )
    return Shown(
        names(said, "attributesToRetrieve", EVERYTHING),
        names(said, "attributesToHighlight", EVERYTHING),
        names(said, "attributesToSnippet"),
        marks,
    )
