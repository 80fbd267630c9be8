"""What the API answers with: values written as JSON by msgspec, with a fingerprint so that a client may ask again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
import xxhash
from fastapi import Request, Response

from retrieval.records import Facet, Hit, Page, Product
from service.http.errors import ErrorBody

# A read-only mapping is written as the dict it shows.
_encoder = msgspec.json.Encoder(enc_hook=dict)
_ERRORS = (400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 500, 503, 504)
RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: {"model": ErrorBody} for status in _ERRORS},
    422: {"model": ErrorBody, "description": "Never sent: what is not understood is a 400."},
}
"""What every route may answer besides what it is for."""


@dataclass(frozen=True, slots=True)
class SearchHit(Hit):
    """A hit of a search."""

    highlights: Mapping[str, str] = field(default_factory=dict)
    """Of each field that `highlight` names its text as HTML: escaped, with `<mark>` around what matched."""


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """One page of hits."""

    query_id: str
    """Send it with the clicks that come of these hits."""
    query: str
    hits: tuple[SearchHit, ...]
    total: int
    """Of all hits, not only this page's."""
    page: int
    size: int
    facets: Mapping[str, Facet]
    degraded: tuple[str, ...]
    """Stages that should have taken part and could not."""
    relaxed: bool
    fit: float | None
    nothing_fits: bool
    suggestion: str
    """What may have been meant instead; empty where nothing is misspelled."""
    corrected: bool
    """Whether that was searched for."""
    rules: tuple[str, ...]
    """The merchandising rules that took part."""
    redirect: str
    """A page to show instead, where a rule names one."""
    version: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class MultiSearchAnswer:
    """Pages, in the order of the searches."""

    results: tuple[SearchAnswer, ...]


@dataclass(frozen=True, slots=True)
class SimilarAnswer:
    """Products near to one."""

    hits: tuple[Hit, ...]
    degraded: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class ProductAnswer:
    """One product."""

    product: Product


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """Changes that were taken: they are durable, and searches find them."""

    sequence: int
    """The number of the last one; 0 where there was nothing to change."""
    products: int
    """How many products they were about."""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """Events that are on the disk."""

    taken: int
    repeated: int
    """Of them, those that were there already."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether requests are answered, and what is wrong although they are."""

    status: str
    version: str = ""
    products: int = 0
    ranker: str = ""
    """The one that puts the last order, where one does."""
    notices: tuple[str, ...] = field(default_factory=tuple)


def search_hit(hit: Hit, highlights: Mapping[str, str]) -> SearchHit:
    """A hit as the API tells it."""
    return SearchHit(**{each.name: getattr(hit, each.name) for each in fields(Hit)}, highlights=highlights)


def search_answer(query_id: str, text: str, page: Page, hits: tuple[SearchHit, ...], took_ms: float) -> SearchAnswer:
    """A page as the API tells it, with its hits."""
    return SearchAnswer(
        query_id,
        text,
        hits,
        page.total,
        page.page,
        page.size,
        page.facets,
        page.degraded,
        page.relaxed,
        page.fit,
        page.nothing_fits,
        page.suggestion,
        page.corrected,
        page.rules,
        page.redirect,
        page.version,
        round(took_ms, 2),
    )


def encoded(value: object) -> bytes:
    """Its JSON."""
    return _encoder.encode(value)


def json_response(value: object, status: int = 200) -> Response:
    """An answer that is not kept by anyone in between."""
    return Response(encoded(value), status, {"Cache-Control": "no-store"}, "application/json")


def tagged_response(request: Request, value: object) -> Response:
    """The same with a fingerprint; 304 without a body where the client has it already."""
    body = encoded(value)
    tag = f'"{xxhash.xxh3_128_hexdigest(body)}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if tag in known:
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")
