"""The paths of the InstantSearch protocol: searches in batches, values of a facet, records, recommendations, events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Request, Response

from retrieval.errors import QueryError, UnknownProductError
from retrieval.records import Page
from service.engine.spelling import Suggestions
from service.experiments.assignment import Answered, Asked, answered
from service.http.auth import Permit, Scope, all_of
from service.http.context import Context, Contextual, permitted
from service.http.errors import ProtocolErrorBody
from service.http.impressions import Asker
from service.http.metrics import count_search
from service.http.request import PREFIX
from service.http.routes.search import within
from service.http.schemas import MOST_ID, json_response
from service.instantsearch.events import events_of
from service.instantsearch.recommend import Recommender
from service.instantsearch.request import Hooks, Said, names, objects, said_by, text
from service.instantsearch.response import Record, Results, Taken
from service.instantsearch.search import Batch

_MOST_SEARCHES = 50
_MOST_OBJECTS = 1_000
_AT_ONCE = 4
"""Searches of one request that are answered side by side, at most: others wait too."""
_KEY = "x-algolia-api-key"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: {"model": ProtocolErrorBody} for status in (400, 401, 403, 404, 413, 429, 500, 503, 504)},
    422: {"model": ProtocolErrorBody, "description": "Never sent: what is not understood is a 400."},
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
    said = await _said(request)
    batch = _batch(context, _permit(context, request, said, Scope.SEARCH), request)
    asked = objects(said, "requests", _MOST_SEARCHES)
    return json_response(Results(await _side_by_side(context, (_answer(batch, each) for each in asked))))


@router.post("/indexes/*/recommendations", summary="Several recommendations", openapi_extra=_BODY)
async def recommendations(context: Contextual, request: Request) -> Response:
    """Products like one, bought with it, or chosen most of late; values of a facet that are."""
    said = await _said(request)
    hooks = _hooks(context, _permit(context, request, said, Scope.SEARCH), request)
    recommender = Recommender(context.engine, hooks, request.app.state.behaviour)
    asked = objects(said, "requests", _MOST_SEARCHES)
    works = (_answer(recommender, each) for each in asked)
    return json_response(Results(await _side_by_side(context, works)))


@router.post("/indexes/*/objects", summary="Several records", openapi_extra=_BODY)
async def records(context: Contextual, request: Request) -> Response:
    """Records by their ids; null for one that is not there."""
    said = await _said(request)
    batch = _batch(context, _permit(context, request, said, Scope.SEARCH), request)
    asked = objects(said, "requests", _MOST_OBJECTS)
    found = await context.workers.run(lambda: [_record_or_none(batch, each) for each in asked])
    return json_response(Results(found))


@router.post("/indexes/{index}/query", summary="One search", openapi_extra=_BODY)
async def query(context: Contextual, request: Request, index: Index) -> Response:
    """A page of records, with counts."""
    said = await _said(request)
    batch = _batch(context, _permit(context, request, said, Scope.SEARCH), request)
    return json_response(await context.workers.run(lambda: batch.search(said, index)))


@router.post("/indexes/{index}/facets/{facet}/query", summary="Values of a facet", openapi_extra=_BODY)
async def facet_query(context: Contextual, request: Request, index: Index, facet: str) -> Response:  # noqa: ARG001
    """The values that have the words that were typed."""
    said = await _said(request)
    batch = _batch(context, _permit(context, request, said, Scope.SEARCH), request)
    return json_response(await context.workers.run(lambda: batch.facet_search(said, facet)))


@router.get("/indexes/{index}/{object_id:path}", summary="One record")
async def record(context: Contextual, request: Request, index: Index, object_id: ObjectId) -> Response:  # noqa: ARG001
    """All that is known of a product, or what `attributesToRetrieve` names of it."""
    said = dict(request.query_params)
    batch = _batch(context, _permit(context, request, {}, Scope.SEARCH), request)
    wanted = names(said, "attributesToRetrieve", ("*",))
    return json_response(await context.workers.run(lambda: batch.record(object_id, wanted)))


@router.post("/events", response_model=None, summary="Record what shoppers did", openapi_extra=_BODY)
async def events(context: Contextual, request: Request) -> Response:
    """Takes all events or none; they are durable when it answers."""
    said = await _said(request)
    _permit(context, request, said, Scope.EVENTS)
    taken = events_of(said, is_private=_is_private(request))
    if taken:
        await context.workers.run(lambda: context.engine.record(*taken))
    return json_response(Taken())


async def _said(request: Request) -> Said:
    return said_by(await request.body())


def _permit(context: Context, request: Request, said: Said, scope: Scope) -> Permit:
    """By the key of the headers, the address or, a long one, the body; names of headers have no case, so neither have
    those of an address here."""
    in_address = {name.lower(): value for name, value in request.query_params.items()}
    key = request.headers.get(_KEY) or in_address.get(_KEY) or text(said, "apiKey")
    return permitted(context, request, key, scope)


def _is_private(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1"


def _batch(context: Context, permit: Permit, request: Request) -> Batch:
    return Batch(context.engine, _hooks(context, permit, request))


def _hooks(context: Context, permit: Permit, request: Request) -> Hooks:
    is_private = _is_private(request)

    def suggest(typed: str, size: int) -> Suggestions:
        made = context.engine.suggest(typed, size=size)
        return within(context.engine, made, all_of(permit.filters)) if permit.filters else made

    def shown(query_id: str, asked: str, page: Page, shopper: str) -> None:
        if not is_private:
            context.exposures.note(query_id, asked, page, Asker(shopper))

    running = context.experiments.running()

    def tried(asked: Asked) -> Answered:
        return answered(context.engine, running, asked)

    takes_part = bool(running.experiments) and not is_private
    return Hooks(lambda each: all_of((*permit.filters, each)), suggest, _count, tried if takes_part else None, shown)


def _count(page: Page) -> None:
    count_search(page)


def _answer(answering: Batch | Recommender, said: Said) -> Callable[[], Any]:
    return lambda: answering.answer(said)


async def _side_by_side(context: Context, works: Iterable[Callable[[], T]]) -> list[T]:
    """What each of them returns, in their order."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def done(work: Callable[[], T]) -> T:
        async with places:
            return await context.workers.run(work)

    return await asyncio.gather(*map(done, works))


def _record_or_none(batch: Batch, said: Said) -> Record | None:
    product_id = text(said, "objectID")
    if not product_id:
        raise QueryError("each of requests needs an objectID")
    try:
        return batch.record(product_id, names(said, "attributesToRetrieve", ("*",)))
    except UnknownProductError:
        return None
