"""Routes of the InstantSearch protocol: batches of searches, facet values, records, recommendations and events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Request, Response

from retrieval.errors import QueryError, UnknownProductError
from retrieval.records import Page
from service.experiments.assignment import MarkedPage, ShopperSearch, answer_search
from service.http.auth import Permit, Scope, combine_filters
from service.http.context import Contextual, ServiceContext, authorize
from service.http.errors import ProtocolErrorResponse
from service.http.impressions import ShopperIdentity
from service.http.request import PREFIX
from service.http.schemas import MOST_ID, json_response
from service.http.telemetry import record_search
from service.instantsearch.events import parse_events
from service.instantsearch.recommend import Recommender
from service.instantsearch.request import Hooks, JsonObject, names, objects, parse_body, text
from service.instantsearch.response import BatchResults, EventsAcknowledgement, Record
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

T = TypeVar("T")
Index = Annotated[str, Path(max_length=500, description="Any name; one that ends in `_price_desc` sorts so.")]
ObjectId = Annotated[str, Path(min_length=1, max_length=MOST_ID, description="A product's id.")]

router = APIRouter(prefix=PREFIX.rstrip("/"), tags=["InstantSearch"], responses=_RESPONSES)


@router.post("/indexes/*/queries", summary="Several searches", openapi_extra=_BODY)
async def queries(context: Contextual, request: Request) -> Response:
    """Results of searches, and of searches among facet values, in their order."""
    payload = parse_body(await request.body())
    batch = _search_batch(context, request, payload)
    searches = objects(payload, "requests", _MOST_SEARCHES)
    return json_response(BatchResults(await _run_all(context, (partial(batch.answer, each) for each in searches))))


@router.post("/indexes/*/recommendations", summary="Several recommendations", openapi_extra=_BODY)
async def recommendations(context: Contextual, request: Request) -> Response:
    """Products similar to one, bought with it, or popular of late; popular values of a facet."""
    payload = parse_body(await request.body())
    hooks = _hooks(context, _permit(context, request, payload, Scope.SEARCH), request)
    recommender = Recommender(context.engine, hooks, request.app.state.statistics)
    requests = objects(payload, "requests", _MOST_SEARCHES)
    works = (partial(recommender.answer, each) for each in requests)
    return json_response(BatchResults(await _run_all(context, works)))


@router.post("/indexes/*/objects", summary="Several records", openapi_extra=_BODY)
async def records(context: Contextual, request: Request) -> Response:
    """Records by their ids; null for an unknown id."""
    payload = parse_body(await request.body())
    batch = _search_batch(context, request, payload)
    requests = objects(payload, "requests", _MOST_OBJECTS)
    return await context.respond(lambda: BatchResults([_record_or_none(batch, each) for each in requests]))


@router.post("/indexes/{index}/query", summary="One search", openapi_extra=_BODY)
async def query(context: Contextual, request: Request, index: Index) -> Response:
    """A page of records, with facet counts."""
    payload = parse_body(await request.body())
    batch = _search_batch(context, request, payload)
    return await context.respond(lambda: batch.search(payload, index))


@router.post("/indexes/{index}/facets/{facet}/query", summary="Values of a facet", openapi_extra=_BODY)
async def facet_query(context: Contextual, request: Request, index: Index, facet: str) -> Response:  # noqa: ARG001
    """The values of a facet that match the typed words."""
    payload = parse_body(await request.body())
    batch = _search_batch(context, request, payload)
    return await context.respond(lambda: batch.facet_search(payload, facet))


@router.get("/indexes/{index}/{object_id:path}", summary="One record")
async def record(context: Contextual, request: Request, index: Index, object_id: ObjectId) -> Response:  # noqa: ARG001
    """The attributes of a product, or those that `attributesToRetrieve` names."""
    batch = _search_batch(context, request, {})
    wanted = names(dict(request.query_params), "attributesToRetrieve", ("*",))
    return await context.respond(lambda: batch.record(object_id, wanted))


@router.post("/events", response_model=None, summary="Record events of shoppers", openapi_extra=_BODY)
async def events(context: Contextual, request: Request) -> Response:
    """Stores all events or none; they are durable when the response is sent."""
    payload = parse_body(await request.body())
    _permit(context, request, payload, Scope.EVENTS)
    found = parse_events(payload, is_private=_is_private(request))
    if found:
        await context.threads.run(lambda: context.engine.record(*found))
    return json_response(EventsAcknowledgement())


def _permit(context: ServiceContext, request: Request, payload: JsonObject, scope: Scope) -> Permit:
    """Authorizes by the key in the headers, the query string or the body; names in the query string have no case."""
    parameters = {name.lower(): value for name, value in request.query_params.items()}
    key = request.headers.get(_KEY) or parameters.get(_KEY) or text(payload, "apiKey")
    return authorize(context, request, key, scope)


def _is_private(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1"


def _search_batch(context: ServiceContext, request: Request, payload: JsonObject) -> SearchBatch:
    permit = _permit(context, request, payload, Scope.SEARCH)
    return SearchBatch(context.engine, _hooks(context, permit, request))


def _hooks(context: ServiceContext, permit: Permit, request: Request) -> Hooks:
    is_private = _is_private(request)
    running = context.experiments.running()

    def record_impressions(query_id: str, text: str, page: Page, shopper: str) -> None:
        if not is_private:
            context.impressions.record_page(query_id, text, page, ShopperIdentity(shopper))

    def run_experiments(search: ShopperSearch) -> MarkedPage:
        return answer_search(context.engine, running, search)

    return Hooks(
        narrow=lambda filters: combine_filters((*permit.filters, filters)),
        suggest=lambda typed, size: context.suggest(permit, typed, size),
        on_page=record_search,
        run_experiments=run_experiments if running.experiments and not is_private else None,
        record_impressions=record_impressions,
    )


async def _run_all(context: ServiceContext, works: Iterable[Callable[[], T]]) -> list[T]:
    """The results of all works, in their order."""
    places = asyncio.Semaphore(_PARALLEL)

    async def run(work: Callable[[], T]) -> T:
        async with places:
            return await context.threads.run(work)

    return await asyncio.gather(*map(run, works))


def _record_or_none(batch: SearchBatch, payload: JsonObject) -> Record | None:
    product_id = text(payload, "objectID")
    if not product_id:
        raise QueryError("each of requests needs an objectID")
    try:
        return batch.record(product_id, names(payload, "attributesToRetrieve", ("*",)))
    except UnknownProductError:
        return None
