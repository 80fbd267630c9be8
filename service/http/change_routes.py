"""Changing products between rebuilds: what is answered is durable, and searches find it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from retrieval.changes import Change, Delete, Patch, Upsert
from service.http.answers import RESPONSES, ChangedAnswer, json_response
from service.http.bodies import ChangesBody, ProductBody
from service.http.context import Context, Contextual, MayWrite
from service.http.errors import Refused
from service.http.search_routes import ProductPath

router = APIRouter(prefix="/v1", tags=["products"], responses=RESPONSES)

_Values = Annotated[dict[str, Any], Body(min_length=1, max_length=200, examples=[{"price": 9.99}])]


@router.post("/products/changes", response_model=ChangedAnswer, summary="Put, patch and delete products")
async def change(context: Contextual, _permit: MayWrite, body: ChangesBody) -> Response:
    """Takes all changes in their order, or none of them. Sent again they change nothing more."""
    return await _changed(context, [each.change() for each in body.operations])


@router.put("/products/{product_id:path}", response_model=ChangedAnswer, summary="Add or replace a product")
async def put(context: Contextual, _permit: MayWrite, product_id: ProductPath, body: ProductBody) -> Response:
    """The whole product; its id is the one in the path."""
    if body.product.id != product_id:
        told = f"the product's id is {body.product.id!r}, in the path it is {product_id!r}"
        raise Refused(400, told, field="product.id")
    return await _changed(context, [Upsert(body.product)])


@router.patch("/products/{product_id:path}", response_model=ChangedAnswer, summary="Change some fields")
async def patch(context: Contextual, _permit: MayWrite, product_id: ProductPath, values: _Values) -> Response:
    """Fields by name, `attributes.NAME` and `identifiers.KIND` among them; null clears one."""
    return await _changed(context, [Patch(product_id, values)])


@router.delete("/products/{product_id:path}", response_model=ChangedAnswer, summary="Take a product away")
async def delete(context: Contextual, _permit: MayWrite, product_id: ProductPath) -> Response:
    """One that is not there is no error."""
    return await _changed(context, [Delete(product_id)])


async def _changed(context: Context, changes: Sequence[Change]) -> Response:
    taken = await context.workers.run(lambda: context.engine.change(changes))
    return json_response(ChangedAnswer(taken.sequence, taken.products))
