"""The paths of the InstantSearch protocol: searches in batches, values of a facet, records, recommendations, events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Request, Response

from retrieval.errors import QueryError, UnknownProductError
from retrieval.records import Page
from service.engine.spelling import Suggestions
from service.experiments.assignment import MarkedPage, ShopperSearch, answer_search
from service.http.auth import Permit, Scope, combine_filters
from service.http.context import Contextual, ServiceContext, authorize
from service.http.errors import ProtocolErrorResponse
from service.http.impressions import ShopperIdentity
from service.http.request import PREFIX
from service.http.routes.search import narrow_suggestions
from service.http.schemas import MOST_ID, json_response
from service.http.telemetry import record_search
from service.instantsearch.events import parse_events
from service.instantsearch.recommend import Recommender
from service.instantsearch.request import Hooks, JsonObject, names, objects, parse_body, text
from service.instantsearch.response import BatchResults, EventsAcknowledgement, Record
from service.instantsearch.search import SearchBatch

_MOST_SEARCHES = 50
_MOST_OBJECTS = 1_000
_AT_ONCE = 4
"""Searches of one request that are answered side by side, at most: others wait too."""
_KEY = "x-algolia-api-key"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: {"model": ProtocolErrorResponse} for status in (400, 401, 403, 404, 413, 429, 500, 503, 504)},
    422: {"model": ProtocolErrorResponse, "description": "Never sent: what is not understood is a 400."},
}
_BODY = {
    "requestBody": {
        "description": "JSON, whatever the content type says, or a form.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}

T = TypeVar("T")
Index = Annotated[str, Path(max_length=500, description="Any name; one that ends in `_price_desc` sorts so.")]
ObjectId = Annotated[str, Path(min_length=1, max_length=MOST_ID, description="A product's id.")]

router = APIRouter(prefix=PREFIX.rstrip("/"), tags=["InstantSearch"], responses=_RESPONSES)


@router.post("/indexes/*/queries", summary="Several searches", openapi_extra=_BODY)
async def queries(context: Contextual, request: Request) -> Response:
    """Answers searches, and searches among values of facets, in their order."""
    payload = await _read_payload(request)
    batch = _batch(context, _permit(context, request, payload, Scope.SEARCH), request)
    asked = objects(payload, "requests", _MOST_SEARCHES)
    return json_response(BatchResults(await _side_by_side(context, (_answer(batch, each) for each in asked))))


@router.post("/indexes/*/recommendations", summary="Several recommendations", openapi_extra=_BODY)
async def recommendations(context: Contextual, request: Request) -> Response:
    """Products like one, bought with it, or chosen most of late; values of a facet that are."""
    payload = await _read_payload(request)
    hooks = _hooks(context, _permit(context, request, payload, Scope.SEARCH), request)
    recommender = Recommender(context.engine, hooks, request.app.state.statistics)
    asked = objects(payload, "requests", _MOST_SEARCHES)
    works = (_answer(recommender, each) for each in asked)
    return json_response(BatchResults(await _side_by_side(context, works)))


@router.post("/indexes/*/objects", summary="Several records", openapi_extra=_BODY)
async def records(context: Contextual, request: Request) -> Response:
    """Records by their ids; null for one that is not there."""
    payload = await _read_payload(request)
    batch = _batch(context, _permit(context, request, payload, Scope.SEARCH), request)
    asked = objects(payload, "requests", _MOST_OBJECTS)
    found = await context.threads.run(lambda: [_record_or_none(batch, each) for each in asked])
    return json_response(BatchResults(found))


@router.post("/indexes/{index}/query", summary="One search", openapi_extra=_BODY)
async def query(context: Contextual, request: Request, index: Index) -> Response:
    """A page of records, with counts."""
    payload = await _read_payload(request)
    batch = _batch(context, _permit(context, request, payload, Scope.SEARCH), request)
    return json_response(await context.threads.run(lambda: batch.search(payload, index)))


@router.post("/indexes/{index}/facets/{facet}/query", summary="Values of a facet", openapi_extra=_BODY)
async def facet_query(context: Contextual, request: Request, index: Index, facet: str) -> Response:  # noqa: ARG001
    """The values that have the words that were typed."""
    payload = await _read_payload(request)
    batch = _batch(context, _permit(context, request, payload, Scope.SEARCH), request)
    return json_response(await context.threads.run(lambda: batch.facet_search(payload, facet)))


@router.get("/indexes/{index}/{object_id:path}", summary="One record")
async def record(context: Contextual, request: Request, index: Index, object_id: ObjectId) -> Response:  # noqa: ARG001
    """All that is known of a product, or what `attributesToRetrieve` names of it."""
    payload = dict(request.query_params)
    batch = _batch(context, _permit(context, request, {}, Scope.SEARCH), request)
    wanted = names(payload, "attributesToRetrieve", ("*",))
    return json_response(await context.threads.run(lambda: batch.record(object_id, wanted)))


@router.post("/events", response_model=None, summary="Record what shoppers did", openapi_extra=_BODY)
async def events(context: Contextual, request: Request) -> Response:
    """Takes all events or none; they are durable when it answers."""
    payload = await _read_payload(request)
    _permit(context, request, payload, Scope.EVENTS)
    taken = parse_events(payload, is_private=_is_private(request))
    if taken:
        await context.threads.run(lambda: context.engine.record(*taken))
    return json_response(EventsAcknowledgement())


async def _read_payload(request: Request) -> JsonObject:
    return parse_body(await request.body())


def _permit(context: ServiceContext, request: Request, payload: JsonObject, scope: Scope) -> Permit:
    """By the key of the headers, the address or, a long one, the body; names of headers have no case, so neither have
    those of an address here."""
    in_address = {name.lower(): value for name, value in request.query_params.items()}
    key = request.headers.get(_KEY) or in_address.get(_KEY) or text(payload, "apiKey")
    return authorize(context, request, key, scope)


def _is_private(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1"


def _batch(context: ServiceContext, permit: Permit, request: Request) -> SearchBatch:
    return SearchBatch(context.engine, _hooks(context, permit, request))


def _hooks(context: ServiceContext, permit: Permit, request: Request) -> Hooks:
    is_private = _is_private(request)

    def suggest(typed: str, size: int) -> Suggestions:
        made = context.engine.suggest(typed, size=size)
        return narrow_suggestions(context.engine, made, combine_filters(permit.filters)) if permit.filters else made

    def shown(query_id: str, asked: str, page: Page, shopper: str) -> None:
        if not is_private:
            context.impressions.record_page(query_id, asked, page, ShopperIdentity(shopper))

    running = context.experiments.running()

    def tried(asked: ShopperSearch) -> MarkedPage:
        return answer_search(context.engine, running, asked)

    takes_part = bool(running.experiments) and not is_private
    return Hooks(
        lambda each: combine_filters((*permit.filters, each)), suggest, _count, tried if takes_part else None, shown
    )


def _count(page: Page) -> None:
    record_search(page)


def _answer(answering: SearchBatch | Recommender, payload: JsonObject) -> Callable[[], Any]:
    return lambda: answering.answer(payload)


async def _side_by_side(context: ServiceContext, works: Iterable[Callable[[], T]]) -> list[T]:
    """What each of them returns, in their order."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def done(work: Callable[[], T]) -> T:
        async with places:
            return await context.threads.run(work)

    return await asyncio.gather(*map(done, works))


def _record_or_none(batch: SearchBatch, payload: JsonObject) -> Record | None:
    product_id = text(payload, "objectID")
    if not product_id:
        raise QueryError("each of requests needs an objectID")
    try:
        return batch.record(product_id, names(payload, "attributesToRetrieve", ("*",)))
    except UnknownProductError:
        return None
