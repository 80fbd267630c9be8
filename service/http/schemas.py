"""What requests say, checked on the way in, and what answers say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import msgspec
import xxhash
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from retrieval.records import Event, EventKind, Facet, Hit, Page, PastAct, Product
from retrieval.updates.changes import Change, Delete, Patch, Upsert
from service.curation.synonyms import Synonym, SynonymKind
from service.engine.highlight import MOST_FIELDS, MOST_WORDS, WORDS
from service.engine.search import MOST_FACETS, MOST_SIZE, MOST_TEXT
from service.http.errors import ErrorResponse

# What requests say, checked on the way in: a field that is unknown or wrong is named in the answer.

MOST_SEARCHES = 20
MOST_CHANGES = 1_000
MOST_EVENTS = 1_000
_MOST_NAME = 200
_MOST_EXPRESSION = 10_000
MOST_ID = 1_000
"""Characters of a product's id."""

Name = Annotated[str, StringConstraints(max_length=_MOST_NAME)]
ProductId = Annotated[str, StringConstraints(min_length=1, max_length=MOST_ID)]


class RequestBody(BaseModel):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class SearchParameters(RequestBody):
    """One search, as a query string can say it."""

    q: str = Field("", max_length=MOST_TEXT, description="What the shopper typed; empty browses everything.")
    size: int = Field(20, ge=0, le=MOST_SIZE, description="Hits on a page.")
    page: int = Field(1, ge=1, le=100_000, description="Which page, from 1.")
    filters: str = Field("", max_length=_MOST_EXPRESSION, examples=["price < 100 AND brand IN (Bosch, Makita)"])
    facets: list[Name] = Field([], max_length=MOST_FACETS, description="Fields to count.", examples=[["brand"]])
    sort: Name = Field("", description='A numeric field, "-" before it for descending.', examples=["-price"])
    highlight: list[Name] = Field(
        [],
        max_length=MOST_FIELDS,
        description="Texts of each hit to mark what matched in: title, description, brand, category, an attribute.",
        examples=[["title", "description"]],
    )
    highlight_words: int = Field(WORDS, ge=1, le=MOST_WORDS, description="Words that a longer one of them is cut to.")
    explain: bool = Field(False, description="Say what the ranker's score of each hit is made of.")
    correct: bool = Field(True, description="Search for what a misspelled word surely means.")
    shopper: Name = Field("", description="Who searches, as the store calls them; kept as a pseudonym.")
    session: Name = Field("", description="Their visit. With either, the search is recorded, to learn from.")


class PastActBody(RequestBody):
    """Something that the shopper did before."""

    product_id: ProductId
    kind: Literal[EventKind.CLICK, EventKind.CONSULTATION, EventKind.CART, EventKind.PURCHASE] = EventKind.CLICK
    at: datetime | None = None

    def to_past_act(self) -> PastAct:
        """As the engine takes it."""
        return PastAct(self.product_id, self.kind, self.at)


class SearchBody(SearchParameters):
    """One search."""

    history: list[PastActBody] = Field([], max_length=500, description="What this shopper did before, oldest first.")


class MultiSearchBody(RequestBody):
    """Several searches, answered together."""

    searches: list[SearchBody] = Field(min_length=1, max_length=MOST_SEARCHES)


class RecommendBody(RequestBody):
    """For whom to recommend."""

    history: list[PastActBody] = Field([], max_length=500, description="What this shopper did, oldest first.")
    size: int = Field(10, ge=1, le=100)
    filters: str = Field("", max_length=_MOST_EXPRESSION)
    include_seen: bool | None = Field(
        None, description="Whether products of the history may be among them; by default as the store has set it."
    )


class ProductBody(RequestBody):
    """A whole product."""

    product: Product


class PatchValues(RequestBody):
    """Some fields of a product."""

    id: ProductId
    values: dict[Name, Any] = Field(
        min_length=1, max_length=200, examples=[{"price": 9.99, "attributes.colour": "red", "description": None}]
    )


class ChangeOperation(RequestBody):
    """One change: exactly one of the three."""

    put: Product | None = Field(None, description="Adds a product, or takes the place of the one with its id.")
    patch: PatchValues | None = Field(None, description="Changes some fields of a product.")
    delete: ProductId | None = Field(None, description="Takes a product away; one that is not there is no error.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = self.model_fields_set
        if len(given) != 1 or getattr(self, *given) is None:
            raise ValueError("an operation has exactly one of put, patch and delete")
        return self

    def to_change(self) -> Change:
        """As the engine takes it."""
        if self.put is not None:
            return Upsert(self.put)
        return Patch(self.patch.id, self.patch.values) if self.patch is not None else Delete(self.delete or "")


class ChangesBody(RequestBody):
    """Changes, all of which are taken or none."""

    operations: list[ChangeOperation] = Field(min_length=1, max_length=MOST_CHANGES)


class EventsBody(RequestBody):
    """What shoppers did; all of it is durable when the answer comes."""

    events: list[Event] = Field(min_length=1, max_length=MOST_EVENTS)


class ForgetBody(RequestBody):
    """Whom to forget."""

    shopper: str = Field(min_length=1, max_length=_MOST_NAME)


class RulesBody(RequestBody):
    """Merchandising rules, as docs/rules.md writes them."""

    rules: list[dict[str, Any]] = Field(min_length=1, max_length=1_000)


class PreviewBody(RequestBody):
    """A search, and the rules that would be changed before it."""

    q: str = Field("", max_length=MOST_TEXT)
    size: int = Field(20, ge=0, le=100)
    page: int = Field(1, ge=1, le=1_000)
    filters: str = Field("", max_length=_MOST_EXPRESSION)
    put: list[dict[str, Any]] = Field([], max_length=1_000, description="Rules to add or replace.")
    delete: list[Name] = Field([], max_length=1_000, description="Ids of rules to take away.")


class RestoreBody(RequestBody):
    """Which revision to go back to."""

    revision: int = Field(ge=0, le=2**53)


class SynonymBody(RequestBody):
    """One synonym, as docs/synonyms.md has it."""

    id: str = Field(max_length=_MOST_NAME)
    kind: SynonymKind
    phrases: tuple[Name, ...] = Field(max_length=100, examples=[["sofa", "couch"]])
    to: tuple[Name, ...] = Field((), max_length=100, description="What a one-way one leads to.")
    enabled: bool = True

    def to_synonym(self) -> Synonym:
        """As the engine takes it."""
        return Synonym(self.id, self.kind, self.phrases, self.to, self.enabled)


class SynonymsBody(RequestBody):
    """Synonyms, all of which are taken or none."""

    synonyms: list[SynonymBody] = Field(min_length=1, max_length=1_000)


class RollbackBody(RequestBody):
    """What to let serve; by default the newest before."""

    name: Name = ""


class RebuildBody(RequestBody):
    """What to rebuild from."""

    feeds: list[Annotated[str, StringConstraints(min_length=1, max_length=1_000)]] = Field(min_length=1, max_length=100)
    map: list[Name] = Field([], max_length=100, examples=[["title=product_name"]])
    force: bool = Field(False, description="Publish even where much of the catalog would be lost.")


class LearnBody(RequestBody):
    """When to learn."""

    if_new: int | None = Field(None, ge=1, description="Only where there are so many new events.")


# What the API answers with: values written as JSON by msgspec, with a fingerprint so that a client may ask again.

# A read-only mapping is written as the dict it shows.
_encoder = msgspec.json.Encoder(enc_hook=dict)
_ERRORS = (400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 500, 503, 504)
RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: {"model": ErrorResponse} for status in _ERRORS},
    422: {"model": ErrorResponse, "description": "Never sent: what is not understood is a 400."},
}
"""What every route may answer besides what it is for."""


@dataclass(frozen=True, slots=True)
class SearchHit(Hit):
    """A hit of a search."""

    highlights: Mapping[str, str] = field(default_factory=dict)
    """Of each field that `highlight` names its text as HTML: escaped, with `<mark>` around what matched."""


@dataclass(frozen=True, slots=True)
class SearchResponse:
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
class MultiSearchResponse:
    """Pages, in the order of the searches."""

    results: tuple[SearchResponse, ...]


@dataclass(frozen=True, slots=True)
class SimilarResponse:
    """Products near to one."""

    hits: tuple[Hit, ...]
    degraded: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class ProductResponse:
    """One product."""

    product: Product


@dataclass(frozen=True, slots=True)
class ChangesResponse:
    """Changes that were taken: they are durable, and searches find them."""

    sequence: int
    """The number of the last one; 0 where there was nothing to change."""
    products: int
    """How many products they were about."""


@dataclass(frozen=True, slots=True)
class EventsResponse:
    """Events that are on the disk."""

    recorded: int
    repeated: int
    """Of them, those that were there already."""


@dataclass(frozen=True, slots=True)
class HealthResponse:
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


def search_response(
    query_id: str, text: str, page: Page, hits: tuple[SearchHit, ...], took_ms: float
) -> SearchResponse:
    """A page as the API tells it, with its hits."""
    return SearchResponse(
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


def encode(value: object) -> bytes:
    """Its JSON."""
    return _encoder.encode(value)


def json_response(value: object, status: int = 200) -> Response:
    """An answer that is not kept by anyone in between."""
    return Response(encode(value), status, {"Cache-Control": "no-store"}, "application/json")


def tagged_response(request: Request, value: object) -> Response:
    """The same with a fingerprint; 304 without a body where the client has it already."""
    body = encode(value)
    tag = f'"{xxhash.xxh3_128_hexdigest(body)}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if tag in known:
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")
