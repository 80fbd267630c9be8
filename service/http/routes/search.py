"""Searching over HTTP: one query, several, what is like a product, and suggestions."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response

from retrieval.errors import UnknownProductError
from retrieval.filters.ast import Comparison, format_filter
from retrieval.records import Hit, Page
from service.engine.engine import SearchEngine
from service.engine.highlight import MOST_HITS, HighlightedFields, Matcher
from service.engine.search import MOST_TEXT
from service.engine.spelling import Suggestions
from service.experiments.assignment import ShopperSearch, answer_search
from service.http.auth import Permit, combine_filters
from service.http.context import Contextual, MaySearch, ServiceContext
from service.http.errors import RequestError
from service.http.impressions import ShopperIdentity
from service.http.schemas import (
    MOST_ID,
    RESPONSES,
    MultiSearchBody,
    MultiSearchResponse,
    ProductResponse,
    RecommendBody,
    SearchBody,
    SearchHit,
    SearchParameters,
    SearchResponse,
    SimilarResponse,
    json_response,
    search_hit,
    search_response,
    tagged_response,
)
from service.http.telemetry import record_search

search_router = APIRouter(prefix="/v1", tags=["search"], responses=RESPONSES)

ProductPath = Annotated[str, Path(min_length=1, max_length=MOST_ID, description="A product's id.")]
PrivacyHeader = Annotated[
    str, Header(alias="Sec-GPC", description="1: nothing of this is recorded, and no history is looked at.")
]


@search_router.get("/search", response_model=SearchResponse, summary="Search products")
async def search(
    context: Contextual,
    permit: MaySearch,
    parameters: Annotated[SearchParameters, Query()],
    privacy: PrivacyHeader = "",
) -> Response:
    """One page of hits for what a shopper typed, with counts over all of them."""
    given = SearchBody(**parameters.model_dump())
    return json_response(
        await context.threads.run(lambda: run_search(context, permit, given, is_private=privacy == "1"))
    )


@search_router.post("/search", response_model=SearchResponse, summary="Search products, with a shopper's history")
async def search_with_body(
    context: Contextual, permit: MaySearch, body: SearchBody, privacy: PrivacyHeader = ""
) -> Response:
    """The same; a body may be longer than an address, and may tell what the shopper did before."""
    return json_response(
        await context.threads.run(lambda: run_search(context, permit, body, is_private=privacy == "1"))
    )


@search_router.post("/multi-search", response_model=MultiSearchResponse, summary="Several searches at once")
async def multi_search(
    context: Contextual, permit: MaySearch, body: MultiSearchBody, privacy: PrivacyHeader = ""
) -> Response:
    """Answers several searches in their order; one that cannot be answered has all of them refused."""

    def answers() -> MultiSearchResponse:
        return MultiSearchResponse(
            tuple(run_search(context, permit, each, is_private=privacy == "1") for each in body.searches)
        )

    return json_response(await context.threads.run(answers))


@search_router.get("/products/{product_id:path}/similar", response_model=SimilarResponse, summary="Products like one")
async def similar(
    context: Contextual,
    permit: MaySearch,
    product_id: ProductPath,
    size: Annotated[int, Query(ge=1, le=100)] = 10,
    filters: Annotated[str, Query(max_length=10_000)] = "",
) -> Response:
    """The products that are nearest in meaning or looked at by the same shoppers, itself left out."""

    def found() -> SimilarResponse:
        context.engine.product(product_id, filters=combine_filters(permit.filters))
        page = context.engine.similar(product_id, size=size, filters=combine_filters((*permit.filters, filters)))
        return SimilarResponse(page.hits, page.degraded, page.version)

    return json_response(await context.threads.run(found))


@search_router.get("/products/{product_id:path}", response_model=ProductResponse, summary="One product")
async def product(context: Contextual, permit: MaySearch, request: Request, product_id: ProductPath) -> Response:
    """All that is known of it. Ask again with If-None-Match for a 304 where nothing changed."""
    found = await context.threads.run(
        lambda: context.engine.product(product_id, filters=combine_filters(permit.filters))
    )
    return tagged_response(request, ProductResponse(found))


def run_search(context: ServiceContext, permit: Permit, given: SearchBody, *, is_private: bool) -> SearchResponse:
    """Searches as a request says, within what its key lets through, and has it recorded."""
    started = time.perf_counter()
    wanted = _requested_highlights(context, given)
    asked = ShopperSearch(
        given.q,
        size=given.size,
        page=given.page,
        filters=combine_filters((*permit.filters, given.filters)),
        facets=given.facets,
        sort=given.sort,
        explain=given.explain,
        correct=given.correct,
        history=() if is_private else [each.to_past_act() for each in given.history],
        shopper="" if is_private else given.shopper,
        session="" if is_private else given.session,
    )
    found = answer_search(context.engine, context.experiments.running(), asked)
    page = found.page
    hits = _hits(context, page, given.q, wanted)
    took = (time.perf_counter() - started) * 1_000
    record_search(page)
    if not is_private:
        context.impressions.record_page(found.query_id, given.q, page, ShopperIdentity(given.shopper, given.session))
    return search_response(found.query_id, given.q, page, hits, took)


def _requested_highlights(context: ServiceContext, given: SearchBody) -> HighlightedFields:
    if given.highlight and given.size > MOST_HITS:
        told = f"highlight: words are marked in at most {MOST_HITS} hits of a search, not in {given.size:,}"
        raise RequestError(400, told, field="highlight")
    return HighlightedFields.of(given.highlight, context.engine.snapshot.catalog, given.highlight_words)


def _hits(context: ServiceContext, page: Page, typed: str, wanted: HighlightedFields) -> tuple[SearchHit, ...]:
    """The hits of a page, marked by what was searched for."""
    if not wanted.fields:
        return tuple(search_hit(hit, {}) for hit in page.hits)
    matcher = Matcher(context.engine.snapshot.analyzer, page.suggestion if page.corrected else typed)
    return tuple(search_hit(hit, wanted.marked_of(hit.product, matcher)) for hit in page.hits)


# What comes before and after a search: suggestions while one types, related searches, what to show next.

suggest_router = APIRouter(prefix="/v1", tags=["suggestions"], responses=RESPONSES)

Typed = Annotated[str, Query(max_length=MOST_TEXT, description="What has been typed so far.")]
Size = Annotated[int, Query(ge=1, le=50)]


@dataclass(frozen=True, slots=True)
class RelatedResponse:
    """Queries that go with one, nearest first."""

    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecommendResponse:
    """Products to show next."""

    hits: tuple[Hit, ...]
    degraded: tuple[str, ...]
    version: str


@suggest_router.get("/suggest", response_model=Suggestions, summary="Suggestions while one types")
async def suggest(context: Contextual, permit: MaySearch, q: Typed = "", size: Size = 8) -> Response:
    """Queries, categories, brands and products that what was typed may become; `spans` are what to show bold."""
    filters = combine_filters(permit.filters)

    def found() -> Suggestions:
        made = context.engine.suggest(q, size=size)
        return narrow_suggestions(context.engine, made, filters) if filters else made

    return json_response(await context.threads.run(found))


@suggest_router.get("/related", response_model=RelatedResponse, summary="Related searches")
async def related(context: Contextual, permit: MaySearch, q: Typed = "", size: Size = 8) -> Response:
    """What shoppers searched for before or after, or to choose the same; a key with a filter is told none."""
    queries = () if permit.filters else await context.threads.run(lambda: context.engine.related(q, size=size))
    return json_response(RelatedResponse(queries))


@suggest_router.post("/recommend", response_model=RecommendResponse, summary="What to show next")
async def recommend(
    context: Contextual, permit: MaySearch, body: RecommendBody, privacy: PrivacyHeader = ""
) -> Response:
    """What the user tower foretells, where one serves; else products near to those that a shopper did something with
    last; without a history, what most choose."""
    acts = [] if privacy == "1" else [each.to_past_act() for each in body.history]

    def found() -> RecommendResponse:
        page = context.engine.recommend(
            acts,
            size=body.size,
            filters=combine_filters((*permit.filters, body.filters)),
            include_seen=body.include_seen,
        )
        return RecommendResponse(page.hits, page.degraded, page.version)

    return json_response(await context.threads.run(found))


# Suggestions for a key that sees a part of the store: of them, those that lead to something there.

_DEPTH = " > "


def narrow_suggestions(engine: SearchEngine, made: Suggestions, filters: str) -> Suggestions:
    """The suggestions that `filters` lets something through of."""

    def leads(text: str, *conditions: str) -> bool:
        found = engine.search(
            text, size=0, filters=combine_filters((filters, *conditions)), stage="bm25", correct=False
        )
        return found.total > 0 and not found.relaxed

    def is_there(product_id: str) -> bool:
        try:
            engine.product(product_id, filters=filters)
        except UnknownProductError:
            return False
        return True

    return replace(
        made,
        queries=tuple(each for each in made.queries if leads(each.text)),
        categories=tuple(each for each in made.categories if leads("", _is("category", _DEPTH.join(each.path)))),
        brands=tuple(each for each in made.brands if leads("", _is("brand", each.name))),
        products=tuple(each for each in made.products if is_there(each.product.id)),
    )


def _is(field: str, value: str) -> str:
    return format_filter(Comparison(field, "=", value))
