"""What comes in over HTTP: changes of products between rebuilds, and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from retrieval.updates.changes import Change, Delete, Patch, Upsert
from service.http.context import Context, Contextual, MayRecord, MayWrite
from service.http.errors import Refused
from service.http.routes.search import PrivacyHeader, ProductPath
from service.http.schemas import (
    RESPONSES,
    ChangedAnswer,
    ChangesBody,
    EventsBody,
    ProductBody,
    RecordedAnswer,
    json_response,
)

# Changing products between rebuilds: what is answered is durable, and searches find it.

product_router = APIRouter(prefix="/v1", tags=["products"], responses=RESPONSES)

_Values = Annotated[dict[str, Any], Body(min_length=1, max_length=200, examples=[{"price": 9.99}])]


@product_router.post("/products/changes", response_model=ChangedAnswer, summary="Put, patch and delete products")
async def change(context: Contextual, _permit: MayWrite, body: ChangesBody) -> Response:
    """Takes all changes in their order, or none of them. Sent again they change nothing more."""
    return await _changed(context, [each.change() for each in body.operations])


@product_router.put("/products/{product_id:path}", response_model=ChangedAnswer, summary="Add or replace a product")
async def put(context: Contextual, _permit: MayWrite, product_id: ProductPath, body: ProductBody) -> Response:
    """The whole product; its id is the one in the path."""
    if body.product.id != product_id:
        told = f"the product's id is {body.product.id!r}, in the path it is {product_id!r}"
        raise Refused(400, told, field="product.id")
    return await _changed(context, [Upsert(body.product)])


@product_router.patch("/products/{product_id:path}", response_model=ChangedAnswer, summary="Change some fields")
async def patch(context: Contextual, _permit: MayWrite, product_id: ProductPath, values: _Values) -> Response:
    """Fields by name, `attributes.NAME` and `identifiers.KIND` among them; null clears one."""
    return await _changed(context, [Patch(product_id, values)])


@product_router.delete("/products/{product_id:path}", response_model=ChangedAnswer, summary="Take a product away")
async def delete(context: Contextual, _permit: MayWrite, product_id: ProductPath) -> Response:
    """One that is not there is no error."""
    return await _changed(context, [Delete(product_id)])


async def _changed(context: Context, changes: Sequence[Change]) -> Response:
    taken = await context.workers.run(lambda: context.engine.change(changes))
    return json_response(ChangedAnswer(taken.sequence, taken.products))


# What shoppers did: taken durably, and forgotten when one of them asks for it.

event_router = APIRouter(prefix="/v1", tags=["events"], responses=RESPONSES)


@event_router.post("/events", response_model=RecordedAnswer, summary="Record what shoppers did")
async def record(context: Contextual, _permit: MayRecord, body: EventsBody, privacy: PrivacyHeader = "") -> Response:
    """Takes all events or none. One that is sent again, with the same event_id, is counted once. Of a browser that asks
    for privacy (Sec-GPC: 1) it is kept what happened, not who did it."""
    events = [replace(each, shopper="", session="") for each in body.events] if privacy == "1" else body.events
    taken = await context.workers.run(lambda: context.engine.record(*events))
    return json_response(RecordedAnswer(taken.taken, taken.repeated))
