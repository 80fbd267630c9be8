"""What the protocol answers, field by field; the names of its JSON are the protocol's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET, Struct, UnsetType

from service.instantsearch.record import Record

_SPECIAL = {
    "query_id": "queryID",
    "processing_time_ms": "processingTimeMS",
    "facets_stats": "facets_stats",
}


def _named(name: str) -> str:
    first, *others = name.split("_")
    return _SPECIAL.get(name) or first + "".join(map(str.capitalize, others))


class Range(Struct, frozen=True):
    """What a numeric facet reaches over."""

    min: float
    max: float


class Exhaustive(Struct, frozen=True, rename=_named):
    """What was counted to the end: all of it, always."""

    nb_hits: bool = True
    facets_count: bool = True
    typo: bool = True


class SearchResult(Struct, frozen=True, rename=_named):
    """One search of a batch."""

    hits: list[Record]
    nb_hits: int
    page: int
    nb_pages: int
    hits_per_page: int
    query: str
    params: str
    index: str
    facets: Mapping[str, Mapping[str, int]]
    facets_stats: Mapping[str, Range]
    rendering_content: Mapping[str, object]
    processing_time_ms: int
    exhaustive: Exhaustive = Exhaustive()
    exhaustive_nb_hits: bool = True
    exhaustive_facets_count: bool = True
    exhaustive_typo: bool = True
    query_id: str | UnsetType = UNSET
    """Send it with the events that come of these hits; only where it was asked for."""
    message: str | UnsetType = UNSET
    """What is out of the ordinary with this answer, where something is."""


class FacetHit(Struct, frozen=True):
    """A value of a facet."""

    value: str
    highlighted: str
    count: int


class FacetResult(Struct, frozen=True, rename=_named):
    """A search among the values of a facet."""

    facet_hits: list[FacetHit]
    processing_time_ms: int
    exhaustive_facets_count: bool = True


class Recommended(Struct, frozen=True, rename=_named):
    """Recommendations of one model."""

    hits: list[Record]
    nb_hits: int
    processing_time_ms: int
    exhaustive_nb_hits: bool = True
    message: str | UnsetType = UNSET
    """What stands instead of what was asked for, where something does."""


class Results(Struct, frozen=True):
    """Of a batch, in the order of its requests."""

    results: Sequence[SearchResult | FacetResult | Recommended | Record | None]


class Taken(Struct, frozen=True):
    """Events were taken."""

    status: int = 200
    message: str = "OK"
