"""Routes of data that comes in: changes of products between rebuilds, and shoppers' events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from retrieval.updates.changes import Change, Delete, Patch, Upsert
from service.http.context import Contextual, MayRecord, MayWrite, ServiceContext
from service.http.errors import RequestError
from service.http.routes.search import PrivacyHeader, ProductPath
from service.http.schemas import RESPONSES, ChangesBody, ChangesResponse, EventsBody, EventsResponse, ProductBody

product_router = APIRouter(prefix="/v1", tags=["products"], responses=RESPONSES)
event_router = APIRouter(prefix="/v1", tags=["events"], responses=RESPONSES)

_Values = Annotated[dict[str, Any], Body(min_length=1, max_length=200, examples=[{"price": 9.99}])]


@product_router.post("/products/changes", response_model=ChangesResponse, summary="Put, patch and delete products")
async def change(context: Contextual, _permit: MayWrite, body: ChangesBody) -> Response:
    """Applies all changes in their order, or none. Repeating the request has no further effect."""
    return await _apply(context, [each.to_change() for each in body.operations])


@product_router.put("/products/{product_id:path}", response_model=ChangesResponse, summary="Add or replace a product")
async def put(context: Contextual, _permit: MayWrite, product_id: ProductPath, body: ProductBody) -> Response:
    """The whole product; its id must be the one in the path."""
    if body.product.id != product_id:
        message = f"the product's id is {body.product.id!r}, in the path it is {product_id!r}"
        raise RequestError(400, message, field="product.id")
    return await _apply(context, [Upsert(body.product)])


@product_router.patch("/products/{product_id:path}", response_model=ChangesResponse, summary="Change some fields")
async def patch(context: Contextual, _permit: MayWrite, product_id: ProductPath, values: _Values) -> Response:
    """Fields by name, including `attributes.NAME` and `identifiers.KIND`; null clears a field."""
    return await _apply(context, [Patch(product_id, values)])


@product_router.delete("/products/{product_id:path}", response_model=ChangesResponse, summary="Delete a product")
async def delete(context: Contextual, _permit: MayWrite, product_id: ProductPath) -> Response:
    """A product that does not exist is no error."""
    return await _apply(context, [Delete(product_id)])


async def _apply(context: ServiceContext, changes: Sequence[Change]) -> Response:
    def run() -> ChangesResponse:
        applied = context.engine.change(changes)
        return ChangesResponse(applied.sequence, applied.products)

    return await context.respond(run)


@event_router.post("/events", response_model=EventsResponse, summary="Record events of shoppers")
async def record(context: Contextual, _permit: MayRecord, body: EventsBody, privacy: PrivacyHeader = "") -> Response:
    """Stores all events or none. An event that is sent again with the same event_id is counted once. From a browser
    that requests privacy (Sec-GPC: 1), events are stored without shopper and session."""
    events = [replace(each, shopper="", session="") for each in body.events] if privacy == "1" else body.events

    def run() -> EventsResponse:
        result = context.engine.record(*events)
        return EventsResponse(result.stored, result.repeated)

    return await context.respond(run)
