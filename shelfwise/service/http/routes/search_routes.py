"""Routes of searches, products, suggestions and recommendations."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Header, Path, Query, Request, Response

from shelfwise.retrieval.index.grouping import VARIANTS
from shelfwise.retrieval.index.ranges import parse_ranges
from shelfwise.retrieval.records import Page
from shelfwise.retrieval.text.highlight import MAX_HITS, HighlightedFields, Matcher
from shelfwise.service.answers.answering import Answer, AnswerStatus
from shelfwise.service.answers.subjects import QuestionSubject
from shelfwise.service.engine.request import MAX_TEXT, SearchOptions, SearchRequest
from shelfwise.service.engine.search import parse_sort
from shelfwise.service.engine.snapshot import siblings_of
from shelfwise.service.engine.suggest import Suggestions
from shelfwise.service.experiments.assignment import ShopperSearch, answer_search
from shelfwise.service.http.auth import Permit, combine_filters
from shelfwise.service.http.context import (
    Contextual,
    Indexes,
    MaySearch,
    MaySearchAny,
    ServiceContext,
    WorkerRouter,
    counted_address,
)
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.limits import check_batch_hits, search_cost
from shelfwise.service.http.schemas import (
    MAX_ID,
    MAX_RETURNED,
    RESPONSES,
    AnswerBody,
    FieldNames,
    MultiSearchBody,
    MultiSearchResponse,
    ProductResponse,
    ProductsResponse,
    RecommendBody,
    RelatedKind,
    ReturnedFields,
    SearchBody,
    SearchHit,
    SearchParameters,
    SearchResponse,
    encode,
    json_response,
    product_hits,
    search_hit,
    search_response,
    sponsored_results,
    tagged_response,
)
from shelfwise.service.http.telemetry import record_search

search_router = WorkerRouter(prefix="/v1", tags=["search"], responses=RESPONSES)
suggest_router = WorkerRouter(prefix="/v1", tags=["suggestions"], responses=RESPONSES)

ProductPath = Annotated[str, Path(min_length=1, max_length=MAX_ID, description="A product's id.")]
PrivacyHeader = Annotated[
    str, Header(alias="Sec-GPC", description="1: the request is not recorded, and no history is used.")
]
Typed = Annotated[str, Query(max_length=MAX_TEXT, description="The text typed so far.")]
Size = Annotated[int, Query(ge=1, le=50)]
Fields = Annotated[
    FieldNames,
    Query(max_length=MAX_RETURNED, description="Fields to return of each product, besides its id; empty for all."),
]
_ALL_FIELDS: list[str] = []
_SAME = SearchParameters.model_fields.keys() & SearchOptions.__annotations__.keys() - {"filters", "sponsored"}
"""The fields that a request of the engine has from a body as they are."""


@search_router.get("/search", summary="Search products")
def search(
    context: Contextual,
    permit: MaySearch,
    parameters: Annotated[SearchParameters, Query()],
    privacy: PrivacyHeader = "",
) -> SearchResponse:
    """One page of hits for a query, with facet counts over all hits."""
    return search_with_body(context, permit, SearchBody(**parameters.model_dump()), privacy)


@search_router.post("/search", summary="Search products, with a shopper's history")
def search_with_body(
    context: Contextual, permit: MaySearch, body: SearchBody, privacy: PrivacyHeader = ""
) -> SearchResponse:
    """The same with a body, which may be longer than a query string and contain the shopper's earlier acts."""
    context.shared.charge(permit, _cost(body))
    is_private = privacy == "1"
    response, page = _find(context, permit, body, is_private=is_private)
    _record(context, permit, body, response, page, is_private=is_private)
    return response


@search_router.post("/multi-search", response_model=MultiSearchResponse, summary="Several searches at once")
async def multi_search(
    indexes: Indexes, permit: MaySearchAny, body: MultiSearchBody, privacy: PrivacyHeader = ""
) -> Response:
    """Results in the order of the searches, each on its `index`; if one search is invalid, all are refused. The
    searches may have at most 5,000 hits together, and run one by one, in turns with other requests."""
    is_private = privacy == "1"
    check_batch_hits(sum(each.size * each.per_group for each in body.searches), "searches")
    indexes.shared.charge(permit, sum(map(_cost, body.searches)))
    contexts = [indexes.admitted(permit, each.index) for each in body.searches]
    threads = indexes.shared.threads
    find = partial(_find, permit=permit, is_private=is_private)
    works = [partial(find, context, body=each) for context, each in zip(contexts, body.searches, strict=True)]
    results = await threads.run_all(works)

    def respond() -> Response:
        for context, each, (response, page) in zip(contexts, body.searches, results, strict=True):
            _record(context, permit, each, response, page, is_private=is_private)
        return json_response(MultiSearchResponse(tuple(response for response, _ in results)))

    return await threads.run(respond)


def _cost(body: SearchBody) -> int:
    hits = body.size * body.per_group
    facets = len(body.facets) + len(body.ranges)
    characters = sum(map(len, (body.text, body.filters, *body.optional_filters, *body.ranges)))
    return search_cost(hits=hits, page=body.page, facets=facets, characters=characters, explained=body.explain)


@search_router.get("/products/{product_id:path}/similar", summary="Similar products")
def similar(
    context: Contextual,
    permit: MaySearch,
    product_id: ProductPath,
    size: Annotated[int, Query(ge=1, le=100)] = 10,
    filters: Annotated[str, Query(max_length=10_000)] = "",
    fields: Fields = _ALL_FIELDS,
    sponsored: Annotated[bool, Query(description="Whether to include sponsored hits.")] = False,
    by: Annotated[Literal["text", "looks"], Query(description="looks: compare pictures only.")] = "text",
) -> ProductsResponse:
    """The products that are nearest in meaning or viewed by the same shoppers, or whose pictures are nearest. The
    product itself is left out."""
    find = partial(context.engine.similar, product_id, size=size, sponsored=sponsored, by=by)
    return _list_products(context, permit, find, product_id, size=size, filters=filters, fields=fields)


@search_router.get("/products/{product_id:path}/related", summary="Related products")
def related_products(
    context: Contextual,
    permit: MaySearch,
    product_id: ProductPath,
    kind: Annotated[
        RelatedKind, Query(description="Kind of relation; goes_with includes all kinds except substitutes.")
    ] = "goes_with",
    size: Annotated[int, Query(ge=1, le=100)] = 10,
    filters: Annotated[str, Query(max_length=10_000)] = "",
    fields: Fields = _ALL_FIELDS,
) -> ProductsResponse:
    """The products that go with a product, or that shoppers choose instead of it, each with its relation."""
    find = partial(context.engine.relations.of, product_id, kind=kind, size=size)
    return _list_products(context, permit, find, product_id, size=size, filters=filters, fields=fields)


@search_router.get("/products/{product_id:path}", response_model=ProductResponse, summary="One product")
def product(
    context: Contextual, permit: MaySearch, request: Request, product_id: ProductPath, fields: Fields = _ALL_FIELDS
) -> Response:
    """A product; 304 if its ETag matches If-None-Match."""
    returned = context.returned_fields(permit, fields)
    entry = context.engine.product(product_id, filters=combine_filters(permit.filters))
    types = context.engine.rules.product_types(product_id)
    siblings = siblings_of(context.engine.snapshot, product_id, combine_filters(permit.filters))
    document = returned.select(context.shown(permit, entry))
    return tagged_response(request, encode(ProductResponse(document, types, siblings)))


def _record(
    context: ServiceContext, permit: Permit, body: SearchBody, response: SearchResponse, page: Page, *, is_private: bool
) -> None:
    if not is_private:
        context.impressions.record_page(
            response.query_id,
            body.text,
            page,
            shopper=body.shopper,
            session=body.session,
            address=counted_address(permit),
        )


def _find(
    context: ServiceContext, permit: Permit, body: SearchBody, *, is_private: bool
) -> tuple[SearchResponse, Page]:
    started = time.perf_counter()
    highlights = _parse_fields(context, permit, body)
    returned = context.returned_fields(permit, body.fields)
    request = SearchRequest(
        body.text,
        filters=context.narrow(permit, body.filters),
        visible=combine_filters(permit.filters),
        sponsored=body.sponsored and not body.prefix,
        history=() if is_private else context.visible_history(permit, (each.to_past_act() for each in body.history)),
        **{name: getattr(body, name) for name in _SAME},
    )
    shopper, session = ("", "") if is_private else (body.shopper, body.session)
    running = context.engine.experiments.running()
    result = answer_search(context.engine, running, ShopperSearch(request, shopper, session))
    page = context.shown_page(permit, result.page)
    hits = _highlight_hits(context, page, body.text, highlights, returned)
    nearest = tuple(search_hit(hit, returned, {}) for hit in page.nearest)
    query_ids = context.engine.campaigns.issue(result.query_id, page.sponsored)
    sponsored = sponsored_results(page, query_ids, returned)
    took = (time.perf_counter() - started) * 1_000
    record_search(page)
    response = search_response(
        page,
        query_id=result.query_id,
        query=body.text,
        hits=hits,
        nearest=nearest,
        sponsored=sponsored,
        took_ms=round(took, 2),
    )
    return response, page


def _parse_fields(context: ServiceContext, permit: Permit, body: SearchBody) -> HighlightedFields:
    """The fields to highlight. For a key with filters, all fields are checked against those visible to it, since the
    engine's errors name others."""
    if body.highlight and (hits := body.size * body.per_group) > MAX_HITS:
        message = f"highlight: at most {MAX_HITS} hits of a search can be highlighted, not {hits:,}"
        raise RequestError(400, message, field="highlight")
    fields = context.visible(permit).fields
    if permit.filters:
        for name in (*body.facets, *filter(None, [body.group.removeprefix(VARIANTS)])):
            fields.resolve(name)
        for each in body.ranges:
            parse_ranges(each, fields)
        for name in body.search_fields:
            fields.resolve_searched(name)
        for expression in body.optional_filters:
            context.narrow(permit, expression.removeprefix("-"))
        if body.sort:
            parse_sort(body.sort, fields)
    return HighlightedFields.of(body.highlight, fields, body.highlight_words)


def _highlight_hits(
    context: ServiceContext, page: Page, typed: str, highlights: HighlightedFields, returned: ReturnedFields
) -> tuple[SearchHit, ...]:
    """The hits, with matches of the query or its correction marked."""
    if not highlights.fields:
        return tuple(search_hit(hit, returned, {}) for hit in page.hits)
    matcher = Matcher(context.engine.snapshot.analyzer, page.suggestion if page.corrected else page.completion or typed)
    return tuple(search_hit(hit, returned, highlights.marked_of(hit.product, matcher)) for hit in page.hits)


@dataclass(frozen=True, slots=True)
class RelatedResponse:
    """Related queries, nearest first."""

    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswerResponse(Answer):
    """The answer to a question."""

    query_id: str = ""
    """Id of the event that records the question, if a shopper or a session is given."""


@suggest_router.get("/suggest", summary="Suggestions for typed text")
def suggest(context: Contextual, permit: MaySearch, q: Typed = "", size: Size = 8) -> Suggestions:
    """Queries, categories, brands and products that complete the typed text; `spans` mark the typed parts."""
    return context.suggest(permit, q, size)


@suggest_router.get("/related", summary="Related searches")
def related(context: Contextual, permit: MaySearch, q: Typed = "", size: Size = 8) -> RelatedResponse:
    """Queries that shoppers used in the same sessions or for the same products; none for a key with filters."""
    return RelatedResponse(() if permit.filters else context.engine.related(q, size=size))


@suggest_router.post("/answer", summary="Answer a question")
def answer(context: Contextual, permit: MaySearch, body: AnswerBody, privacy: PrivacyHeader = "") -> AnswerResponse:
    """Quotes of the store's own texts that answer a question: fields and descriptions of products, and the FAQ;
    `not_said` if no text does. With `product_id`, any text is a question; without it, a search is `no_question`."""
    context.shared.charge(permit, search_cost(hits=0, characters=len(body.q)))
    about = QuestionSubject(body.about.product_id, body.about.product_type) if body.about else None
    result = context.engine.answer(
        body.q,
        body.product_id or None,
        about,
        filters=combine_filters(permit.filters),
        hidden=context.hidden_from(permit),
    )
    query_id = uuid.uuid4().hex
    if privacy != "1" and result.status is not AnswerStatus.NO_QUESTION:
        page = Page((), int(result.status is AnswerStatus.ANSWERED), 1, 0)
        context.impressions.record_page(
            query_id,
            body.q,
            page,
            shopper=body.shopper,
            session=body.session,
            product_id=body.product_id,
            address=counted_address(permit),
        )
    return AnswerResponse(**{each.name: getattr(result, each.name) for each in fields(result)}, query_id=query_id)


@suggest_router.post("/recommend", summary="Recommended products")
def recommend(
    context: Contextual, permit: MaySearch, body: RecommendBody, privacy: PrivacyHeader = ""
) -> ProductsResponse:
    """Products predicted by the serving user tower; without one, products similar to the last ones of the history;
    without a history, popular products."""
    acts = [] if privacy == "1" else [each.to_past_act() for each in body.history]

    def find(filters: str) -> Page:
        history = context.visible_history(permit, acts)
        options: Mapping[str, Any] = {"include_seen": body.include_seen, "language": body.language}
        return context.engine.recommend(history, size=body.size, filters=filters, **options)

    return _list_products(context, permit, find, size=body.size, filters=body.filters, fields=body.fields)


def _list_products(
    context: ServiceContext,
    permit: Permit,
    find: Callable[..., Page],
    product_id: str = "",
    *,
    size: int,
    filters: str,
    fields: Sequence[str],
) -> ProductsResponse:
    """The products that `find` returns for the argument `filters`, as visible to a key. Raises UnknownProductError for
    a product that is not."""
    context.shared.charge(permit, search_cost(hits=size, characters=len(filters)))
    returned = context.returned_fields(permit, fields)
    if product_id:
        context.engine.product(product_id, filters=combine_filters(permit.filters))
    page = context.shown_page(permit, find(filters=context.narrow(permit, filters)))
    query_ids = context.engine.campaigns.issue(uuid.uuid4().hex, page.sponsored)
    offers = sponsored_results(page, query_ids, returned)
    return ProductsResponse(product_hits(page.hits, returned), page.degraded, page.version, offers)
