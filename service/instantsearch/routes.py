"""Routes of the InstantSearch protocol: batches of searches, facet values, records, recommendations and events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request, Response

from retrieval.errors import QueryError, UnknownProductError
from retrieval.records import Page
from service.experiments.assignment import MarkedPage, ShopperSearch, answer_search
from service.http.auth import Permit, Scope, combine_filters
from service.http.context import Contextual, ServiceContext, WorkerRouter, authorize
from service.http.errors import ProtocolErrorResponse
from service.http.request import PREFIX
from service.http.schemas import MOST_ID, json_response
from service.http.telemetry import record_search
from service.instantsearch.events import parse_events
from service.instantsearch.recommend import Recommender
from service.instantsearch.request import Hooks, JsonObject, names, objects, parse_body, text
from service.instantsearch.response import (
    BatchResults,
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
_KEY = "x-algolia-api-key"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: {"model": ProtocolErrorResponse} for status in (400, 401, 403, 404, 413, 429, 500, 503, 504)},
    422: {"model": ProtocolErrorResponse, "description": "Never sent: an invalid request is a 400."},
}
_BODY = {
    "requestBody": {
        "description": "JSON with any content type, or a form.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}

T = TypeVar("T", SearchResult | FacetResult, RecommendResult)
Index = Annotated[str, Path(max_length=500, description="Any name; one that ends in `_price_desc` sorts so.")]
ObjectId = Annotated[str, Path(min_length=1, max_length=MOST_ID, description="A product's id.")]

router = WorkerRouter(prefix=PREFIX.rstrip("/"), tags=["InstantSearch"], responses=_RESPONSES)


async def _read_payload(request: Request) -> JsonObject:
    return parse_body(await request.body())


Payload = Annotated[JsonObject, Depends(_read_payload)]


def _permit(context: ServiceContext, request: Request, payload: JsonObject, scope: Scope) -> Permit:
    """Authorizes by the key in the headers, the query string or the body; names in the query string have no case."""
    parameters = {name.lower(): value for name, value in request.query_params.items()}
    key = request.headers.get(_KEY) or parameters.get(_KEY) or text(payload, "apiKey")
    return authorize(context, request, key, scope)


def _is_private(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1"


async def _search_hooks(context: Contextual, request: Request, payload: Payload) -> Hooks:
    """The hooks of a request that may search."""
    permit = _permit(context, request, payload, Scope.SEARCH)
    is_private = _is_private(request)
    running = context.experiments.running()

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
    )


async def _search_batch(context: Contextual, hooks: Annotated[Hooks, Depends(_search_hooks)]) -> SearchBatch:
    return SearchBatch(context.engine, hooks)


Batch = Annotated[SearchBatch, Depends(_search_batch)]


@router.post("/indexes/*/queries", summary="Several searches", openapi_extra=_BODY)
async def queries(context: Contextual, batch: Batch, payload: Payload) -> Response:
    """Results of searches, and of searches among facet values, in their order."""
    return await _run_all(context, batch.answer, payload)


@router.post("/indexes/*/recommendations", summary="Several recommendations", openapi_extra=_BODY)
async def recommendations(
    context: Contextual, hooks: Annotated[Hooks, Depends(_search_hooks)], request: Request, payload: Payload
) -> Response:
    """Products similar to one, bought with it, or popular of late; popular values of a facet."""
    recommender = Recommender(context.engine, hooks, request.app.state.statistics)
    return await _run_all(context, recommender.answer, payload)


@router.post("/indexes/*/objects", response_model=None, summary="Several records", openapi_extra=_BODY)
def records(context: Contextual, batch: Batch, payload: Payload) -> BatchResults:  # noqa: ARG001
    """Records by their ids; null for an unknown id."""
    return BatchResults([_record_or_none(batch, each) for each in objects(payload, "requests", _MOST_OBJECTS)])


@router.post("/indexes/{index}/query", response_model=None, summary="One search", openapi_extra=_BODY)
def query(context: Contextual, batch: Batch, payload: Payload, index: Index) -> SearchResult:  # noqa: ARG001
    """A page of records, with facet counts."""
    return batch.search(payload, index)


@router.post(
    "/indexes/{index}/facets/{facet}/query", response_model=None, summary="Values of a facet", openapi_extra=_BODY
)
def facet_query(context: Contextual, batch: Batch, payload: Payload, index: Index, facet: str) -> FacetResult:  # noqa: ARG001
    """The values of a facet that match the typed words."""
    return batch.facet_search(payload, facet)


@router.get("/indexes/{index}/{object_id:path}", response_model=None, summary="One record")
def record(context: Contextual, batch: Batch, request: Request, index: Index, object_id: ObjectId) -> Record:  # noqa: ARG001
    """The attributes of a product, or those that `attributesToRetrieve` names."""
    return batch.record(object_id, names(dict(request.query_params), "attributesToRetrieve", ("*",)))


@router.post("/events", response_model=None, summary="Record events of shoppers", openapi_extra=_BODY)
async def events(context: Contextual, request: Request, payload: Payload) -> Response:
    """Stores all events or none; they are durable when the response is sent."""
    permit = _permit(context, request, payload, Scope.EVENTS)
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
