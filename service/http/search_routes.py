"""Searching: one query, several, and what is like a product."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response

from retrieval.records import Page
from service.experiments.serving import Asked, answered
from service.highlighting.highlights import MOST_HITS, HighlightedFields
from service.highlighting.matching import Matcher
from service.http.access.keys import Permit
from service.http.access.narrowing import all_of
from service.http.answers import (
    RESPONSES,
    MultiSearchAnswer,
    ProductAnswer,
    SearchAnswer,
    SearchHit,
    SimilarAnswer,
    json_response,
    search_answer,
    search_hit,
    tagged_response,
)
from service.http.bodies import MOST_ID, MultiSearchBody, SearchBody, SearchParameters
from service.http.context import Context, Contextual, MaySearch
from service.http.errors import Refused
from service.http.exposures import Asker
from service.http.metrics import count_search

router = APIRouter(prefix="/v1", tags=["search"], responses=RESPONSES)

ProductPath = Annotated[str, Path(min_length=1, max_length=MOST_ID, description="A product's id.")]
PrivacyHeader = Annotated[
    str, Header(alias="Sec-GPC", description="1: nothing of this is recorded, and no history is looked at.")
]


@router.get("/search", response_model=SearchAnswer, summary="Search products")
async def search(
    context: Contextual,
    permit: MaySearch,
    parameters: Annotated[SearchParameters, Query()],
    privacy: PrivacyHeader = "",
) -> Response:
    """One page of hits for what a shopper typed, with counts over all of them."""
    given = SearchBody(**parameters.model_dump())
    return json_response(await context.workers.run(lambda: answer(context, permit, given, is_private=privacy == "1")))


@router.post("/search", response_model=SearchAnswer, summary="Search products, with a shopper's history")
async def search_with_body(
    context: Contextual, permit: MaySearch, body: SearchBody, privacy: PrivacyHeader = ""
) -> Response:
    """The same; a body may be longer than an address, and may tell what the shopper did before."""
    return json_response(await context.workers.run(lambda: answer(context, permit, body, is_private=privacy == "1")))


@router.post("/multi-search", response_model=MultiSearchAnswer, summary="Several searches at once")
async def multi_search(
    context: Contextual, permit: MaySearch, body: MultiSearchBody, privacy: PrivacyHeader = ""
) -> Response:
    """Answers several searches in their order; one that cannot be answered has all of them refused."""

    def answers() -> MultiSearchAnswer:
        return MultiSearchAnswer(
            tuple(answer(context, permit, each, is_private=privacy == "1") for each in body.searches)
        )

    return json_response(await context.workers.run(answers))


@router.get("/products/{product_id:path}/similar", response_model=SimilarAnswer, summary="Products like one")
async def similar(
    context: Contextual,
    permit: MaySearch,
    product_id: ProductPath,
    size: Annotated[int, Query(ge=1, le=100)] = 10,
    filters: Annotated[str, Query(max_length=10_000)] = "",
) -> Response:
    """The products that are nearest in meaning or looked at by the same shoppers, itself left out."""

    def found() -> SimilarAnswer:
        context.engine.product(product_id, filters=all_of(permit.filters))
        page = context.engine.similar(product_id, size=size, filters=all_of((*permit.filters, filters)))
        return SimilarAnswer(page.hits, page.degraded, page.version)

    return json_response(await context.workers.run(found))


@router.get("/products/{product_id:path}", response_model=ProductAnswer, summary="One product")
async def product(context: Contextual, permit: MaySearch, request: Request, product_id: ProductPath) -> Response:
    """All that is known of it. Ask again with If-None-Match for a 304 where nothing changed."""
    found = await context.workers.run(lambda: context.engine.product(product_id, filters=all_of(permit.filters)))
    return tagged_response(request, ProductAnswer(found))


def answer(context: Context, permit: Permit, given: SearchBody, *, is_private: bool) -> SearchAnswer:
    """Searches as a request says, within what its key lets through, and has it recorded."""
    started = time.perf_counter()
    wanted = _highlighted(context, given)
    asked = Asked(
        given.q,
        size=given.size,
        page=given.page,
        filters=all_of((*permit.filters, given.filters)),
        facets=given.facets,
        sort=given.sort,
        explain=given.explain,
        correct=given.correct,
        history=() if is_private else [each.act() for each in given.history],
        shopper="" if is_private else given.shopper,
        session="" if is_private else given.session,
    )
    found = answered(context.engine, context.experiments.running(), asked)
    page = found.page
    hits = _hits(context, page, given.q, wanted)
    took = (time.perf_counter() - started) * 1_000
    count_search(page)
    if not is_private:
        context.exposures.note(found.query_id, given.q, page, Asker(given.shopper, given.session))
    return search_answer(found.query_id, given.q, page, hits, took)


def _highlighted(context: Context, given: SearchBody) -> HighlightedFields:
    if given.highlight and given.size > MOST_HITS:
        told = f"highlight: words are marked in at most {MOST_HITS} hits of a search, not in {given.size:,}"
        raise Refused(400, told, field="highlight")
    return HighlightedFields.of(given.highlight, context.engine.snapshot.catalog, given.highlight_words)


def _hits(context: Context, page: Page, typed: str, wanted: HighlightedFields) -> tuple[SearchHit, ...]:
    """The hits of a page, marked by what was searched for."""
    if not wanted.fields:
        return tuple(search_hit(hit, {}) for hit in page.hits)
    matcher = Matcher(context.engine.snapshot.analyzer, page.suggestion if page.corrected else typed)
    return tuple(search_hit(hit, wanted.marked_of(hit.product, matcher)) for hit in page.hits)
