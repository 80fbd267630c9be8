"""Routes of incoming data: product changes between rebuilds, and shoppers' events."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Body

from shelfwise.retrieval.updates.changes import Change, Delete, Patch, Upsert
from shelfwise.service.http.auth import Permit
from shelfwise.service.http.context import Contextual, MayRecord, MayWrite, ServiceContext, WorkerRouter
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.routes.search_routes import PrivacyHeader, ProductPath
from shelfwise.service.http.schemas import (
    RESPONSES,
    ChangesBody,
    ChangesResponse,
    EventsBody,
    EventsResponse,
    ProductBody,
)

product_router = WorkerRouter(writes=True, prefix="/v1", tags=["products"], responses=RESPONSES)
event_router = WorkerRouter(prefix="/v1", tags=["events"], responses=RESPONSES)

_Values = Annotated[dict[str, Any], Body(min_length=1, max_length=200, examples=[{"price": 9.99}])]


@product_router.post("/products/changes", summary="Put, patch and delete products")
def change(context: Contextual, permit: MayWrite, body: ChangesBody) -> ChangesResponse:
    """Applies all changes in order, or none. Repeating the request has no further effect."""
    return _apply(context, permit, *(each.to_change() for each in body.operations))


@product_router.put("/products/{product_id:path}", summary="Add or replace a product")
def put(context: Contextual, permit: MayWrite, product_id: ProductPath, body: ProductBody) -> ChangesResponse:
    """The body is the whole product; its id must be the one in the path."""
    if body.id != product_id:
        message = f"the product's id is {body.id!r}, the id in the path is {product_id!r}"
        raise RequestError(400, message, field="id")
    return _apply(context, permit, Upsert(body.to_product()))


@product_router.patch("/products/{product_id:path}", summary="Change some fields")
def patch(context: Contextual, permit: MayWrite, product_id: ProductPath, values: _Values) -> ChangesResponse:
    """Fields by name, including `attributes.NAME` and `identifiers.KIND`; null clears a field."""
    return _apply(context, permit, Patch(product_id, values))


@product_router.delete("/products/{product_id:path}", summary="Delete a product")
def delete(context: Contextual, permit: MayWrite, product_id: ProductPath) -> ChangesResponse:
    """Deleting a product that does not exist is not an error."""
    return _apply(context, permit, Delete(product_id))


def _apply(context: ServiceContext, permit: Permit, *changes: Change) -> ChangesResponse:
    result = context.change(permit, changes)
    return ChangesResponse(result.sequence, result.products)


@event_router.post("/events", summary="Record events of shoppers")
def record(context: Contextual, permit: MayRecord, body: EventsBody, privacy: PrivacyHeader = "") -> EventsResponse:
    """Stores all events or none. An event that is sent again with the same event_id is counted once. Events from a
    browser that requests privacy (Sec-GPC: 1) are stored without shopper and session."""
    events = [replace(each, shopper="", session="") for each in body.events] if privacy == "1" else body.events
    result = context.record(permit, events)
    return EventsResponse(result.stored, result.repeated, result.ignored)
