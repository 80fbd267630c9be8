"""Routes of the InstantSearch protocol: batches of searches, facet values, records, recommendations and events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

from fastapi import Depends, Request, Response

from retrieval.errors import QueryError, UnknownProductError
from retrieval.records import Page
from service.experiments.assignment import MarkedPage, ShopperSearch, answer_search
from service.http.auth import Scope, combine_filters
from service.http.context import Contextual, ServiceContext
from service.http.schemas import json_response
from service.http.telemetry import record_search
from service.instantsearch.access import BODY, Index, ObjectId, Payload, permit_of, protocol_of, protocol_router
from service.instantsearch.events import parse_events
from service.instantsearch.recommend import Recommender
from service.instantsearch.request import Hooks, JsonObject, names, objects, text
from service.instantsearch.response import (
    BatchResults,
    BrowseResult,
    EventsAcknowledgement,
    FacetResult,
    RecommendResult,
    Record,
    SearchResult,
)
from service.instantsearch.search import SearchBatch

_MOST_SEARCHES = 50
_MOST_OBJECTS = 1_000
_PARALLEL = 4
"""Searches of one request that run at once, at most: other requests wait, too."""
T = TypeVar("T", SearchResult | FacetResult, RecommendResult)

router = protocol_router()


def _is_private(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1"


def _hooks(context: ServiceContext, request: Request, payload: JsonObject, *rights: str) -> Hooks:
    """The hooks of a request that may search, or has one of the rights."""
    permit = permit_of(context, request, Scope.SEARCH, *rights, payload=payload)
    is_private = _is_private(request)
    running, settings = context.experiments.running(), protocol_of(request).settings

    def record_impressions(query_id: str, text: str, page: Page, shopper: str) -> None:
        if not is_private:
            context.impressions.record_page(query_id, text, page, shopper=shopper)

    def run_experiments(search: ShopperSearch) -> MarkedPage:
        return answer_search(context.engine, running, search)

    return Hooks(
        narrow=lambda filters: combine_filters((*permit.filters, filters)),
        suggest=lambda typed, size: context.suggest(permit, typed, size),
        on_page=record_search,
        run_experiments=run_experiments if running.documents and not is_private else None,
        record_impressions=record_impressions,
        show=partial(context.shown, permit),
        defaults=settings.defaults,
        faceting=settings.facets,
    )


async def _search_hooks(context: Contextual, request: Request, payload: Payload) -> Hooks:
    return _hooks(context, request, payload, "search", "recommendation")


async def _search_batch(context: Contextual, hooks: Annotated[Hooks, Depends(_search_hooks)]) -> SearchBatch:
    return SearchBatch(context.engine, hooks)


async def _browse_batch(context: Contextual, request: Request, payload: Payload) -> SearchBatch:
    return SearchBatch(context.engine, _hooks(context, request, payload, "browse"))


Batch = Annotated[SearchBatch, Depends(_search_batch)]


@router.post("/indexes/*/queries", summary="Several searches", openapi_extra=BODY)
async def queries(context: Contextual, batch: Batch, payload: Payload) -> Response:
    """Results of searches, and of searches among facet values, in their order."""
    return await _run_all(context, batch.answer, payload)


@router.post("/indexes/*/recommendations", summary="Several recommendations", openapi_extra=BODY)
async def recommendations(
    context: Contextual, hooks: Annotated[Hooks, Depends(_search_hooks)], request: Request, payload: Payload
) -> Response:
    """Products similar to one, bought with it, or popular of late; popular values of a facet."""
    recommender = Recommender(context.engine, hooks, request.app.state.statistics)
    return await _run_all(context, recommender.answer, payload)


@router.post("/indexes/*/objects", response_model=None, summary="Several records", openapi_extra=BODY)
def records(context: Contextual, batch: Batch, payload: Payload) -> BatchResults:  # noqa: ARG001
    """Records by their ids; null for an unknown id."""
    return BatchResults([_record_or_none(batch, each) for each in objects(payload, "requests", _MOST_OBJECTS)])


@router.post("/indexes/{index}/query", response_model=None, summary="One search", openapi_extra=BODY)
def query(context: Contextual, batch: Batch, payload: Payload, index: Index) -> SearchResult:  # noqa: ARG001
    """A page of records, with facet counts."""
    return batch.search(payload, index)


@router.post("/indexes/{index}/browse", response_model=None, summary="All records", openapi_extra=BODY)
def browse(
    context: Contextual,  # noqa: ARG001
    batch: Annotated[SearchBatch, Depends(_browse_batch)],
    payload: Payload,
    index: Index,  # noqa: ARG001
) -> BrowseResult:
    """Up to 1,000 of the records that pass the filters, and a cursor for the next ones."""
    return batch.browse(payload)


@router.post(
    "/indexes/{index}/facets/{facet}/query", response_model=None, summary="Values of a facet", openapi_extra=BODY
)
def facet_query(context: Contextual, batch: Batch, payload: Payload, index: Index, facet: str) -> FacetResult:  # noqa: ARG001
    """The values of a facet that match the typed words."""
    return batch.facet_search(payload, facet)


@router.get("/indexes/{index}/{object_id:path}", response_model=None, summary="One record")
def record(context: Contextual, batch: Batch, request: Request, index: Index, object_id: ObjectId) -> Record:  # noqa: ARG001
    """The attributes of a product, or those that `attributesToRetrieve` names."""
    return batch.record(object_id, names(dict(request.query_params), "attributesToRetrieve", ("*",)))


@router.post("/events", response_model=None, summary="Record events of shoppers", openapi_extra=BODY)
async def events(context: Contextual, request: Request, payload: Payload) -> Response:
    """Stores all events or none; they are durable when the response is sent."""
    permit = permit_of(context, request, Scope.EVENTS, "search", payload=payload)
    found = parse_events(payload, is_private=_is_private(request))
    if found:
        await context.threads.run(partial(context.record, permit, found))
    return json_response(EventsAcknowledgement())


async def _run_all(context: ServiceContext, answer: Callable[[JsonObject], T], payload: JsonObject) -> Response:
    """The results of all requests of a batch, in their order."""
    places = asyncio.Semaphore(_PARALLEL)

    async def run(request: JsonObject) -> T:
        async with places:
            return await context.threads.run(partial(answer, request))

    results = await asyncio.gather(*map(run, objects(payload, "requests", _MOST_SEARCHES)))
    return json_response(BatchResults(results))


def _record_or_none(batch: SearchBatch, payload: JsonObject) -> Record | None:
    product_id = text(payload, "objectID")
    if not product_id:
        raise QueryError("each of requests needs an objectID")
    try:
        return batch.record(product_id, names(payload, "attributesToRetrieve", ("*",)))
    except UnknownProductError:
        return None
