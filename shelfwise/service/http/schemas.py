"""Schemas of request bodies and responses. Unknown and invalid fields are rejected by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import msgspec
import xxhash
from fastapi import Request, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from shelfwise.retrieval.filters.ast import Exists
from shelfwise.retrieval.filters.parser import resolve_field
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.records import Event, EventKind, Hit, Page, PastAct, Product, Relation
from shelfwise.retrieval.text.highlight import MAX_FIELDS, MAX_WORDS, WORDS
from shelfwise.retrieval.text.product_types import TypeNames
from shelfwise.retrieval.updates.changes import Change, Delete, Patch, Upsert
from shelfwise.service.answers.questions import MAX_CHARACTERS
from shelfwise.service.engine.request import (
    FACET_VALUES,
    MAX_CHOICES,
    MAX_CONTEXTS,
    MAX_FACETS,
    MAX_OPTIONAL_FILTERS,
    MAX_PER_GROUP,
    MAX_RANGES,
    MAX_SEARCH_FIELDS,
    MAX_SIZE,
    MAX_TEXT,
)
from shelfwise.service.http.auth import Scope
from shelfwise.service.http.errors import ErrorResponse

SelectedProduct = dict[str, Any]
"""The id of a product, and the fields that a request names."""
_PRODUCT_FIELDS = frozenset(each.name for each in fields(Product))
RelatedKind = Literal["goes_with", "complement", "accessory", "fits", "part_of", "substitute"]
"""See `shelfwise.service.engine.recommendations.RELATED_KINDS`."""
MAX_SEARCHES = 20
MAX_CHANGES = 1_000
MAX_EVENTS = 1_000
MAX_ID = 1_000
"""Maximum length of a product's id."""
MAX_RETURNED = 50
_MAX_NAME = 200
_MAX_EXPRESSION = 10_000
_MAX_RANGE = 3_000
"""Maximum length of a field with range bounds."""
_MAX_FACET_VALUES = 1_000

Name = Annotated[str, StringConstraints(max_length=_MAX_NAME)]
ProductId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]


def _split_names(value: object) -> object:
    """The names in a list whose texts may contain several, separated by commas."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        return value
    return [name.strip() for each in texts for name in each.split(",") if name.strip()]


FieldNames = Annotated[list[Name], BeforeValidator(_split_names)]
_FIELDS: list[str] = Field(
    [],
    max_length=MAX_RETURNED,
    description="Fields to return of each product, besides its id; empty for all.",
    examples=[["title", "price", "attributes.color"]],
)


class RequestBody(BaseModel):
    """A JSON object without unknown fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class SearchParameters(RequestBody):
    """One search, as in a query string."""

    q: str = Field("", max_length=MAX_TEXT, description="The shopper's query; empty browses all products.")
    query: str = Field("", max_length=MAX_TEXT, description="Alias of q.")
    size: int = Field(20, ge=0, le=MAX_SIZE, description="Hits on a page.")
    page: int = Field(1, ge=1, le=100_000, description="Page number, from 1.")
    filters: str = Field("", max_length=_MAX_EXPRESSION, examples=["price < 100 AND brand IN (Bosch, Makita)"])
    facets: list[Name] = Field([], max_length=MAX_FACETS, description="Fields to count.", examples=[["brand"]])
    facet_values: int = Field(FACET_VALUES, ge=1, le=_MAX_FACET_VALUES, description="Maximum values of each facet.")
    ranges: list[Annotated[str, StringConstraints(max_length=_MAX_RANGE)]] = Field(
        [],
        max_length=MAX_RANGES,
        description="Numeric fields whose ranges to count: with lower bounds, or at most six ranges by quantiles.",
        examples=[["price:0,50,100", "rating"]],
    )
    search_fields: list[Name] = Field(
        [],
        max_length=MAX_SEARCH_FIELDS,
        description="Fields that must contain the query's words: title, brand, category, description or an attribute.",
        examples=[["title", "brand"]],
    )
    sort: Name = Field(
        "",
        description='Comma-separated numeric fields, "-" before one for descending; distance(LAT,LNG): nearest first.',
        examples=["-price", "-rating,price", "distance(52.52,13.405)"],
    )
    all_types: bool = Field(False, description="With sort: also show products of types that the query does not name.")
    group: Name = Field(
        "",
        description='One hit for each group: "variants" for variants and near copies, or a field whose values are the '
        "groups. Total and facets count groups.",
        examples=["variants", "brand"],
    )
    per_group: int = Field(
        1, ge=1, le=MAX_PER_GROUP, description="With group: maximum hits of each group; size and page count groups."
    )
    diversity: float = Field(0.0, ge=0, le=1, description="How strongly the first 100 hits are diversified.")
    choices: int = Field(0, ge=0, le=MAX_CHOICES, description="Maximum number of fields that narrow a broad query.")
    highlight: list[Name] = Field(
        [],
        max_length=MAX_FIELDS,
        description="Fields of each hit in which to mark matches: title, description, brand, category, an attribute.",
        examples=[["title", "description"]],
    )
    highlight_words: int = Field(WORDS, ge=1, le=MAX_WORDS, description="Length of a highlighted excerpt in words.")
    fields: FieldNames = _FIELDS
    explain: bool = Field(False, description="Explain the ranker's score of each hit.")
    reasons: Literal["", "auto", "en", "zh"] = Field(
        "", description="Language of the reasons for each hit's rank, auto for that of the query; empty for none."
    )
    correct: bool = Field(True, description="Search for the correction of a misspelled query if it is certain.")
    prefix: bool = Field(False, description="The last word is still being typed: it matches words that begin with it.")
    advanced_syntax: bool = Field(
        False, description='Parse operators in q: a "quoted phrase" must match, a -word must not.'
    )
    contexts: list[Name] = Field(
        [], max_length=MAX_CONTEXTS, description="Contexts in which rules may apply.", examples=[["mobile"]]
    )
    optional_filters: list[str] = Field(
        [],
        max_length=MAX_OPTIONAL_FILTERS,
        description="Filters whose hits rank first; each counts, one with a leading minus ranks hits lower.",
        examples=[["brand = Bosch", "-availability = out_of_stock"]],
    )
    shopper: Name = Field("", description="Id of the shopper in the store; stored as a pseudonym.")
    session: Name = Field("", description="Id of the session. With either id, the search is recorded for learning.")
    sponsored: bool = Field(True, description="Whether the first page may have sponsored hits, if the store has them.")

    @model_validator(mode="after")
    def _names_one_query(self) -> Self:
        if self.q and self.query and self.q != self.query:
            raise ValueError("q and query both give the query, and they differ; leave out one")
        return self

    @property
    def text(self) -> str:
        """The shopper's query."""
        return self.q or self.query


class PastActBody(RequestBody):
    """An earlier act of the shopper."""

    product_id: ProductId
    kind: Literal[EventKind.CLICK, EventKind.CONSULTATION, EventKind.CART, EventKind.PURCHASE] = EventKind.CLICK
    at: datetime | None = None

    def to_past_act(self) -> PastAct:
        return PastAct(self.product_id, self.kind, self.at)


class SearchBody(SearchParameters):
    """One search."""

    history: list[PastActBody] = Field([], max_length=500, description="Earlier acts of the shopper, oldest first.")


class IndexSearchBody(SearchBody):
    """One search of an index."""

    index: str = Field("", max_length=_MAX_NAME, description="By default the index in the path, or the only one.")


class MultiSearchBody(RequestBody):
    """Several searches."""

    searches: list[IndexSearchBody] = Field(min_length=1, max_length=MAX_SEARCHES)


class RecommendBody(RequestBody):
    """A shopper's history, for which to recommend products."""

    history: list[PastActBody] = Field([], max_length=500, description="Earlier acts of the shopper, oldest first.")
    size: int = Field(10, ge=1, le=100)
    filters: str = Field("", max_length=_MAX_EXPRESSION)
    include_seen: bool | None = Field(
        None, description="Whether products of the history may be recommended; by default as set."
    )
    language: str = Field(
        "",
        pattern="^([a-z]{2})?$",
        description="Language of the page (ISO 639-1); products in others are last. By default that of the history.",
    )
    fields: FieldNames = _FIELDS


class AboutBody(RequestBody):
    """The subject of the previous question: `about` of its answer."""

    product_id: str = Field("", max_length=MAX_ID)
    product_type: str = Field("", max_length=_MAX_NAME)
    title: str = Field("", max_length=_MAX_EXPRESSION, description="Not read.")


class AnswerBody(RequestBody):
    """A question of a shopper."""

    q: str = Field(
        min_length=1, max_length=MAX_CHARACTERS, description="The question.", examples=["Is it dishwasher safe?"]
    )
    product_id: str = Field("", max_length=MAX_ID, description="Id of the product on whose page it is asked.")
    about: AboutBody | None = Field(None, description="Subject of the previous question, if this one follows it.")
    shopper: Name = Field("", description="Id of the shopper in the store; stored as a pseudonym with the question.")
    session: Name = Field("", description="Id of the session; also stored as a pseudonym.")


@dataclass(frozen=True, slots=True)
class ProductBody(Product):
    """A whole product."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def to_product(self) -> Product:
        return Product(**{each.name: getattr(self, each.name) for each in fields(Product)})


class ChangeOperation(RequestBody):
    """One change: exactly one of the three fields."""

    put: Product | None = Field(None, description="Adds a product, or replaces the one with its id.")
    patch: dict[Name, Any] | None = Field(
        None,
        min_length=2,
        max_length=201,
        description="The id of a product, and new values of some of its fields.",
        examples=[{"id": "p000001", "price": 9.99, "attributes.colour": "red", "description": None}],
    )
    delete: ProductId | None = Field(None, description="Deletes a product, if it exists.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        names = self.model_fields_set
        if len(names) != 1 or getattr(self, *names) is None:
            raise ValueError("an operation must have exactly one of put, patch and delete")
        if self.patch is not None and not (isinstance(self.patch.get("id"), str) and self.patch["id"]):
            raise ValueError("patch needs the id of the product in addition to the new values")
        return self

    def to_change(self) -> Change:
        if self.put is not None:
            return Upsert(self.put)
        if self.patch is not None:
            return Patch(self.patch["id"], {name: value for name, value in self.patch.items() if name != "id"})
        return Delete(self.delete or "")


class ChangesBody(RequestBody):
    """Changes that are applied together or not at all."""

    operations: list[ChangeOperation] = Field(min_length=1, max_length=MAX_CHANGES)


class EventsBody(RequestBody):
    """Events of shoppers, durable when the response is sent."""

    events: list[Event] = Field(min_length=1, max_length=MAX_EVENTS)


class DocumentsBody(RequestBody):
    """Documents that are stored together or not at all."""

    documents: list[dict[str, Any]] = Field(min_length=1, max_length=1_000)


class PreviewBody(RequestBody):
    """A search, and changes of rules or relevance settings to preview on it."""

    q: str = Field("", max_length=MAX_TEXT)
    size: int = Field(20, ge=0, le=100)
    page: int = Field(1, ge=1, le=1_000)
    filters: str = Field("", max_length=_MAX_EXPRESSION)
    put: list[dict[str, Any]] = Field([], max_length=1_000, description="Documents to add or replace.")
    delete: list[Name] = Field([], max_length=1_000, description="Ids of rules to delete.")


class RestoreBody(RequestBody):
    """A revision to restore."""

    revision: int = Field(ge=0, le=2**53)


class RollbackBody(RequestBody):
    """The version or model to serve; by default the previous one."""

    name: Name = ""


class AliasBody(RequestBody):
    """The index of an alias."""

    index: str = Field(min_length=1, max_length=_MAX_NAME, examples=["shop-2026-11"])


class KeyBody(RequestBody):
    """An API key to create."""

    name: str = Field(min_length=1, max_length=100, description="A label that distinguishes it from other keys.")
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope), examples=[["search", "events"]])
    expires: AwareDatetime | None = Field(None, description="By default never.")
    filters: str = Field("", max_length=_MAX_EXPRESSION, description="The key finds no other products.")
    indexes: list[Name] = Field([], max_length=100, description="Index names, * for any characters; by default all.")
    requests_per_minute: int | None = Field(None, ge=1, le=10_000_000, description="By default as in the settings.")
    secured: bool = Field(False, description="May be the parent of secured API keys; then it is also stored encrypted.")


class CheckBody(RequestBody):
    """Columns of a feed for fields of products."""

    map: list[Name] = Field([], max_length=100, examples=[["title=product_name"]])


class PublishBody(CheckBody):
    """Options for publishing an upload."""

    feeds: list[Annotated[str, StringConstraints(min_length=1, max_length=1_000)]] = Field(
        [], max_length=100, description="Other feeds of the catalog; products of feeds that are not named are removed."
    )
    force: bool = Field(False, description="Publish even if much of the catalog would be lost.")


class RebuildBody(PublishBody):
    """Feeds from which to rebuild."""

    kind: Literal["rebuild"]
    feeds: list[Annotated[str, StringConstraints(min_length=1, max_length=1_000)]] = Field(min_length=1, max_length=100)


class RefreshBody(RequestBody):
    """A refresh of the derived tables, as by `shelfwise events refresh`."""

    kind: Literal["refresh"]


class LearnBody(RequestBody):
    """Training of a ranker on events, as by `shelfwise learn`."""

    kind: Literal["learn"]
    if_new: int | None = Field(None, ge=1, description="Minimum number of new events.")


class ForgetBody(RequestBody):
    """A shopper to erase; the name is not stored, and the result has the counts."""

    kind: Literal["forget"]
    shopper: str = Field(min_length=1, max_length=_MAX_NAME)


TaskBody = Annotated[RebuildBody | RefreshBody | LearnBody | ForgetBody, Field(discriminator="kind")]
"""A task to start."""


BINARY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""For `openapi_extra` of a route whose body is a file."""
_encoder = msgspec.json.Encoder(enc_hook=dict)  # encodes a read-only mapping as a dict
RESPONSES: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorResponse, "description": "An error."}}
"""The error responses of every route."""
STRUCT_SCHEMAS: dict[str, Any] = {}
"""JSON schemas, by name, of the msgspec types in responses, which FastAPI does not describe."""


def struct_response(*kinds: object, is_batch: bool = False) -> dict[str, Any]:
    """A response of a msgspec type for `responses` of a route; a batch has `results`, each of one of several types."""
    schemas, definitions = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    STRUCT_SCHEMAS.update(definitions)
    schema = schemas[0]
    if is_batch:
        results = {"type": "array", "items": {"anyOf": list(schemas)}}
        schema = {"type": "object", "properties": {"results": results}, "required": ["results"]}
    return {"description": "Successful Response", "content": {"application/json": {"schema": schema}}}


@dataclass(frozen=True, slots=True)
class ProductHit(Hit):
    """A hit with the product, or with the requested fields of it."""

    product: Product | SelectedProduct  # type: ignore[assignment]  # a hit of the engine has all of it


@dataclass(frozen=True, slots=True)
class ListedHit(ProductHit):
    """A similar, related or recommended product."""

    relation: Relation | None = None
    """The relation of a related product."""


@dataclass(frozen=True, slots=True)
class SearchHit(ProductHit):
    """A hit of a search."""

    highlights: Mapping[str, str] = field(default_factory=dict)
    """HTML of each field in `highlight`: escaped, with `<mark>` around matches."""


SPONSORED_LABEL = "Sponsored"


@dataclass(frozen=True, slots=True)
class SponsoredResult:
    """A sponsored hit, which is shown apart from the hits."""

    product: Product | SelectedProduct
    campaign: str
    advertiser: str
    """The advertiser who pays."""
    place: int
    """Position among the sponsored hits, from 1."""
    relevance: float
    """Similarity to the query, in standard deviations above that of unrelated products."""
    query_id: str
    """Query id to be sent with a click on it, instead of the response's."""
    label: str = SPONSORED_LABEL
    """Label to be shown with it."""


NotSent = Annotated[Any, Field(exclude=True)]
"""A field of the engine's page that responses lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResponse(Page):
    """One page of hits."""

    __pydantic_config__ = ConfigDict(json_schema_serialization_defaults_required=True)

    query_id: str
    """Id of the search, to be sent with clicks on these hits."""
    query: str
    hits: tuple[SearchHit, ...]
    nearest: tuple[SearchHit, ...]
    sponsored: tuple[SponsoredResult, ...]  # type: ignore[assignment]  # the engine's have prices
    took_ms: float
    timings: NotSent
    exposure_goals: NotSent


@dataclass(frozen=True, slots=True)
class MultiSearchResponse:
    """Pages in the order of the searches."""

    results: tuple[SearchResponse, ...]


@dataclass(frozen=True, slots=True)
class ProductsResponse:
    """Similar, related or recommended products."""

    hits: tuple[ListedHit, ...]
    degraded: tuple[str, ...]
    version: str
    sponsored: tuple[SponsoredResult, ...] = ()
    """Sponsored hits, if they were requested and the store has them; they are separate from the hits."""


@dataclass(frozen=True, slots=True)
class ProductResponse:
    """One product."""

    product: Product | SelectedProduct
    types: TypeNames
    """Types of the product."""
    siblings: tuple[str, ...]
    """Ids of the other products of its group of variants, at most 100."""


@dataclass(frozen=True, slots=True)
class HealthResponse:
    """Status of the service."""

    status: str
    version: str = ""
    products: int = 0
    ranker: str = ""
    """Name of the serving ranker; empty if there is none."""
    notices: tuple[str, ...] = ()
    """Problems that do not stop searches."""
    indexes: int = 1
    """Number of indexes; with several, `products` is the sum, and `version` and `ranker` are empty."""


def select_fields(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The named fields of a JSON object; `size.width` is a field of the object `size`, or has this exact name."""
    selection = {}
    for key, value in document.items():
        if any(key == name or key.startswith(f"{name}.") for name in names):
            selection[key] = value
            continue
        inner = [name.removeprefix(f"{key}.") for name in names if name.startswith(f"{key}.")]
        if inner and isinstance(value, Mapping) and (part := select_fields(value, inner)):
            selection[key] = part
    return selection


@dataclass(frozen=True, slots=True)
class ReturnedFields:
    """The fields of each product that a request names; empty for all."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], catalog: FieldCatalog) -> ReturnedFields:
        """Validates names; raises UnknownFieldError for one that is not a field, attribute or identifier of the
        catalog, or an object of attributes."""
        nested = {name.rpartition(".")[0] for name in catalog.fields if name.count(".") > 1}
        field_names = _PRODUCT_FIELDS.union(catalog.fields, nested)
        return cls(tuple(resolve_field(Exists(name), field_names) for name in names))

    def select(self, product: Product) -> Product | SelectedProduct:
        """The selected fields of a product, and its id."""
        if not self.names:
            return product
        return select_fields(msgspec.to_builtins(product, enc_hook=dict), ("id", *self.names))


def product_hits(hits: Iterable[Hit], returned: ReturnedFields) -> tuple[ListedHit, ...]:
    """Hits with the returned fields of their products, and their relations."""
    return tuple(ListedHit(**_hit_values(hit, returned), relation=getattr(hit, "relation", None)) for hit in hits)


def search_hit(hit: Hit, returned: ReturnedFields, highlights: Mapping[str, str]) -> SearchHit:
    """A hit with the returned fields of its product, and its highlights."""
    return SearchHit(**_hit_values(hit, returned), highlights=highlights)


def _hit_values(hit: Hit, returned: ReturnedFields) -> dict[str, Any]:
    return {each.name: getattr(hit, each.name) for each in fields(Hit)} | {"product": returned.select(hit.product)}


def sponsored_results(page: Page, query_ids: Iterable[str], returned: ReturnedFields) -> tuple[SponsoredResult, ...]:
    """The sponsored hits of a page with query ids for clicks on them, without prices."""
    return tuple(
        SponsoredResult(
            returned.select(hit.product), hit.campaign, hit.advertiser, hit.place, round(hit.relevance, 2), query_id
        )
        for hit, query_id in zip(page.sponsored, query_ids, strict=True)
    )


def search_response(page: Page, **own: Any) -> SearchResponse:  # noqa: ANN401 - of several types
    """The response for a page of the engine; `own` are the fields that the page lacks, or has in another form."""
    values = {each.name: getattr(page, each.name) for each in fields(Page)}
    return SearchResponse(**values | {"timings": msgspec.UNSET, "exposure_goals": msgspec.UNSET} | own)


def encode(value: object) -> bytes:
    """The JSON of a value."""
    return _encoder.encode(value)


def json_response(value: object, status: int = 200) -> Response:
    """A JSON response that no cache stores."""
    return Response(encode(value), status, {"Cache-Control": "no-store"}, "application/json")


_PRIVATE = {"Cache-Control": "private, no-cache"}


def tagged_response(
    request: Request, content: bytes, kind: str = "application/json", headers: Mapping[str, str] = _PRIVATE
) -> Response:
    """A response with an ETag, a hash of the content; 304 without a body if the client's If-None-Match contains it."""
    tag = f'"{xxhash.xxh3_128_hexdigest(content)}"'
    tagged = {"ETag": tag, **headers}
    tags = request.headers.get("if-none-match", "").split(",")
    if tag in {each.strip().removeprefix("W/") for each in tags}:
        return Response(None, 304, tagged)
    return Response(content, 200, tagged, kind)
