"""What comes in over HTTP: changes of products between rebuilds, and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from retrieval.updates.changes import Change, Delete, Patch, Upsert
from service.http.context import Contextual, MayRecord, MayWrite, ServiceContext
from service.http.errors import RequestError
from service.http.routes.search import PrivacyHeader, ProductPath
from service.http.schemas import (
    RESPONSES,
    ChangesBody,
    ChangesResponse,
    EventsBody,
    EventsResponse,
    ProductBody,
    json_response,
)

# Changing products between rebuilds: what is answered is durable, and searches find it.

product_router = APIRouter(prefix="/v1", tags=["products"], responses=RESPONSES)

_Values = Annotated[dict[str, Any], Body(min_length=1, max_length=200, examples=[{"price": 9.99}])]


@product_router.post("/products/changes", response_model=ChangesResponse, summary="Put, patch and delete products")
async def change(context: Contextual, _permit: MayWrite, body: ChangesBody) -> Response:
    """Takes all changes in their order, or none of them. Sent again they change nothing more."""
    return await _apply(context, [each.to_change() for each in body.operations])


@product_router.put("/products/{product_id:path}", response_model=ChangesResponse, summary="Add or replace a product")
async def put(context: Contextual, _permit: MayWrite, product_id: ProductPath, body: ProductBody) -> Response:
    """The whole product; its id is the one in the path."""
    if body.product.id != product_id:
        told = f"the product's id is {body.product.id!r}, in the path it is {product_id!r}"
        raise RequestError(400, told, field="product.id")
    return await _apply(context, [Upsert(body.product)])


@product_router.patch("/products/{product_id:path}", response_model=ChangesResponse, summary="Change some fields")
async def patch(context: Contextual, _permit: MayWrite, product_id: ProductPath, values: _Values) -> Response:
    """Fields by name, `attributes.NAME` and `identifiers.KIND` among them; null clears one."""
    return await _apply(context, [Patch(product_id, values)])


@product_router.delete("/products/{product_id:path}", response_model=ChangesResponse, summary="Take a product away")
async def delete(context: Contextual, _permit: MayWrite, product_id: ProductPath) -> Response:
    """One that is not there is no error."""
    return await _apply(context, [Delete(product_id)])


async def _apply(context: ServiceContext, changes: Sequence[Change]) -> Response:
    taken = await context.threads.run(lambda: context.engine.change(changes))
    return json_response(ChangesResponse(taken.sequence, taken.products))


# What shoppers did: taken durably, and forgotten when one of them asks for it.

event_router = APIRouter(prefix="/v1", tags=["events"], responses=RESPONSES)


@event_router.post("/events", response_model=EventsResponse, summary="Record what shoppers did")
async def record(context: Contextual, _permit: MayRecord, body: EventsBody, privacy: PrivacyHeader = "") -> Response:
    """Takes all events or none. One that is sent again, with the same event_id, is counted once. Of a browser that asks
    for privacy (Sec-GPC: 1) it is kept what happened, not who did it."""
    events = [replace(each, shopper="", session="") for each in body.events] if privacy == "1" else body.events
    taken = await context.threads.run(lambda: context.engine.record(*events))
    return json_response(EventsResponse(taken.taken, taken.repeated))
