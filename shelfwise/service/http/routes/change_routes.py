"""Routes of incoming data: product changes between rebuilds, those that shop systems report by webhooks, and shoppers'
events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, Depends, Request
from pydantic import SecretStr
from starlette.convertors import StringConvertor, register_url_convertor

from shelfwise.indexer.feeds.base import Record
from shelfwise.indexer.feeds.csv import hiding_column
from shelfwise.indexer.feeds.mapping import FeedMapping
from shelfwise.indexer.feeds.reader import RecordReader
from shelfwise.indexer.feeds.shopify import NOT_FOR_SALE, rows_of_shopify_object
from shelfwise.indexer.feeds.variants import add_variants
from shelfwise.indexer.feeds.woocommerce import HIDDEN, row_of_woocommerce_object
from shelfwise.retrieval.errors import RowError, UnknownFieldError
from shelfwise.retrieval.events.addresses import address_group
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.updates.changes import Change, Delete, Patch, Upsert, validate_change
from shelfwise.retrieval.updates.validation import decode_json
from shelfwise.service.curation.sqlite_file import SqliteFile, to_microseconds, wall_clock
from shelfwise.service.engine.live import AppliedChanges, CurrentProducts
from shelfwise.service.events.event_log import RecordResult
from shelfwise.service.http.auth import Permit
from shelfwise.service.http.context import Contextual, MayRecord, MayWrite, ServiceContext, WorkerRouter
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.routes.search_routes import PrivacyHeader, ProductPath
from shelfwise.service.http.schemas import RESPONSES, ChangesBody, EventsBody, ProductBody

product_router = WorkerRouter(writes=True, prefix="/v1", tags=["products"], responses=RESPONSES)
webhook_router = WorkerRouter(writes=True, prefix="/v1/webhooks", tags=["webhooks"], responses=RESPONSES)
event_router = WorkerRouter(prefix="/v1", tags=["events"], responses=RESPONSES)

_Values = Annotated[dict[str, Any], Body(min_length=1, max_length=200, examples=[{"price": 9.99}])]


@product_router.post("/products/changes", summary="Put, patch and delete products")
def change(context: Contextual, permit: MayWrite, body: ChangesBody) -> AppliedChanges:
    """Applies all changes in order, or none. Repeating the request has no further effect."""
    return context.change(permit, [each.to_change() for each in body.operations])


@product_router.put("/products/{product_id:path}", summary="Add or replace a product")
def put(context: Contextual, permit: MayWrite, product_id: ProductPath, body: ProductBody) -> AppliedChanges:
    """The body is the whole product; its id must be the one in the path."""
    if body.id != product_id:
        message = f"the product's id is {body.id!r}, the id in the path is {product_id!r}"
        raise RequestError(400, message, field="id")
    return context.change(permit, [Upsert(body.to_product())])


@product_router.patch("/products/{product_id:path}", summary="Change some fields")
def patch(context: Contextual, permit: MayWrite, product_id: ProductPath, values: _Values) -> AppliedChanges:
    """Fields by name, including `attributes.NAME` and `identifiers.KIND`; null clears a field."""
    return context.change(permit, [Patch(product_id, values)])


@product_router.delete("/products/{product_id:path}", summary="Delete a product")
def delete(context: Contextual, permit: MayWrite, product_id: ProductPath) -> AppliedChanges:
    """Deleting a product that does not exist is not an error."""
    return context.change(permit, [Delete(product_id)])


@event_router.post("/events", summary="Record events of shoppers")
def record(context: Contextual, permit: MayRecord, body: EventsBody, privacy: PrivacyHeader = "") -> RecordResult:
    """Stores all events or none. An event that is sent again with the same event_id is counted once. Events from a
    browser that requests privacy (Sec-GPC: 1) are stored without shopper and session."""
    events = [replace(each, shopper="", session="") for each in body.events] if privacy == "1" else body.events
    return context.record(permit, events)


# Webhooks. A request is authorized by its signature, the HMAC-SHA256 of the raw body, instead of a key. Bodies are
# mapped like the columns of the vendors' CSV exports, so that a product is the same as in the next feed. See
# docs/integrations.md.

_PING = re.compile(rb"webhook_id=\d{1,20}")
"""The unsigned body with which WooCommerce checks an address; it must be answered with 200."""
_OF_ONE_LOCATION = frozenset({"inventory_levels/update", "inventory_levels/connect", "inventory_levels/disconnect"})
_LISTS = ("options", "variants", "images", "categories", "brands", "attributes")
_EVERYTHING = Permit("", frozenset())
_SHOWN_SECONDS = 4.0
"""Seconds to wait until searches show a change; Shopify waits five seconds for a response."""

_FILE = "webhooks.sqlite"
_DELETIONS = "CREATE TABLE deleted (product TEXT PRIMARY KEY, time INTEGER NOT NULL) WITHOUT ROWID;"
"""The products that a webhook deleted, with the time of the deletion in microseconds."""
_DELETED = "INSERT INTO deleted VALUES (?, ?) ON CONFLICT (product) DO UPDATE SET time = max(time, excluded.time)"
_MAX_AGE = timedelta(days=7)
"""The age of a message that may still add a product; vendors repeat theirs for some hours."""

_BODY = {"content": {"application/json": {"schema": {"type": "object", "required": ["id"]}}}, "required": True}


class VendorName(StrEnum):
    """The shop systems that send webhooks."""

    SHOPIFY = "shopify"
    WOOCOMMERCE = "woocommerce"


class _VendorConvertor(StringConvertor):
    """The shop systems in paths, so that no other path matches."""

    regex = "|".join(VendorName)


register_url_convertor("vendors", _VendorConvertor())

Row = Mapping[str, object]
"""A row of the vendor's CSV export."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """The messages of a shop system."""

    topic: str
    """The header that says what happened."""
    signature: str
    """The header with the signature."""
    topics: tuple[str, ...]
    """The topics that are read, the last one that of deletions."""
    rows: Callable[[Mapping[str, Any]], Sequence[Row]]
    """The rows of a product object, the first one that of the product itself."""
    hidden: Mapping[str, Collection[str]]
    """The values of columns with which shoppers do not see the product of a row."""
    ids: Callable[[CurrentProducts, int], Sequence[str]]
    """The ids of the products with a number of the vendor."""
    complete: Callable[[Product, Product | None], Product] = lambda product, _: product
    """A product with the values of the present one that messages lack."""


def _shopify_ids(current: CurrentProducts, number: int) -> Sequence[str]:
    """The products with a Shopify number; products that only came from a CSV have none."""
    try:
        return list(current.ids(f'identifiers.shopify = "{number}"'))
    except UnknownFieldError:
        return []


def _with_feed_values(product: Product, before: Product | None) -> Product:
    """The product with the feed's values that a WooCommerce message lacks: its category path and its variations."""
    if before is None:
        return product
    is_path = bool(before.category) and before.category[-1:] == product.category[-1:]
    product = replace(product, category=before.category if is_path else product.category)
    return add_variants(product, before.variants) if before.variants else product


VENDORS: Mapping[str, Vendor] = {
    VendorName.SHOPIFY: Vendor(
        "X-Shopify-Topic",
        "X-Shopify-Hmac-Sha256",
        ("products/create", "products/update", "products/delete"),
        rows_of_shopify_object,
        NOT_FOR_SALE,
        _shopify_ids,
    ),
    VendorName.WOOCOMMERCE: Vendor(
        "X-WC-Webhook-Topic",
        "X-WC-Webhook-Signature",
        ("product.created", "product.updated", "product.restored", "product.deleted"),
        lambda message: [row_of_woocommerce_object(message)],
        HIDDEN,
        lambda _, number: [str(number)],
        _with_feed_values,
    ),
}


async def _read_signed_body(request: Request, context: Contextual, vendor: VendorName) -> bytes:
    """The raw body, empty for a check of the address; raises RequestError without a secret (404) or a valid signature
    (401)."""
    context.shared.rates.count_address(address_group(request.client.host if request.client else ""))
    secret: SecretStr = context.shared.webhook_secrets[vendor]
    if not secret.get_secret_value():
        raise RequestError(404, f"webhooks are not enabled; set service.{vendor}_secret")
    body = await request.body()
    if vendor is VendorName.WOOCOMMERCE and _PING.fullmatch(body):
        return b""
    header = VENDORS[vendor].signature
    digest = hmac.digest(secret.get_secret_value().encode(), body, hashlib.sha256)
    if not hmac.compare_digest(base64.b64encode(digest), request.headers.get(header, "").encode("latin-1")):
        message = f"{header} is not the signature of this body; check service.{vendor}_secret"
        raise RequestError(401, message, code="bad_signature", field=header)
    return body


@webhook_router.post("/{vendor:vendors}", summary="Receive a webhook", openapi_extra={"requestBody": _BODY})
def receive(
    context: Contextual, request: Request, vendor: VendorName, body: Annotated[bytes, Depends(_read_signed_body)]
) -> AppliedChanges:
    """Applies the creation, update, restoration or deletion of a product that Shopify or WooCommerce reports; a message
    older than the present product has no effect. Variations of a WooCommerce product are left unchanged, since the
    message does not contain them."""
    if not body:
        return AppliedChanges(0, 0)
    system = VENDORS[vendor]
    topic = request.headers.get(system.topic, "")
    _check_topic(system, topic)
    message = _decode(body)
    name = f"{vendor} {message['id']}"
    if vendor is VendorName.SHOPIFY:
        # Products are found by their Shopify number, which becomes a field once searches show a product that has one.
        context.engine.live.wait_for(context.engine.live.last_sequence, _SHOWN_SECONDS)
    if topic == system.topics[-1]:
        _note_deletion(context, name, message)
        return context.append(_EVERYTHING, lambda current: list(map(Delete, system.ids(current, message["id"]))))
    if message.get("type") == "variation":
        return AppliedChanges(0, 0)
    rows = system.rows(message)
    product = _read(vendor, rows)
    is_hidden = hiding_column(rows[0], system.hidden) != ""

    def plan(current: CurrentProducts) -> Sequence[Change]:
        before = current.find(product.id)
        if _is_outdated(context, name, product, before):
            return ()
        if is_hidden:
            _note_deletion(context, name, {}, product.updated)
        # The handle of a Shopify product may have changed.
        others = [Delete(each) for each in system.ids(current, message["id"]) if each != product.id]
        own = Delete(product.id) if is_hidden else _upsert(context, system.complete(product, before), before)
        return [*others, own]

    return context.append(_EVERYTHING, plan)


def _check_topic(system: Vendor, topic: str) -> None:
    problem = ""
    if topic in _OF_ONE_LOCATION:
        problem = ", which has the stock of one location; products/update has the sum"
    elif topic not in system.topics:
        problem = f"; subscribe to {', '.join(system.topics)}"
    if problem:
        raise RequestError(400, f"{system.topic} is {topic!r}{problem}", field=system.topic)


def _decode(body: bytes) -> Mapping[str, Any]:
    try:
        message = decode_json(body)
    except ValueError as error:
        raise RequestError(400, f"the body {error}", field="body") from None
    if not isinstance(message, dict) or not isinstance(message.get("id"), int):
        raise RequestError(400, "the body must be a product object with its number as id", field="id")
    for name in _LISTS:
        if not isinstance(values := message.get(name) or [], list) or not all(
            isinstance(each, dict) for each in values
        ):
            raise RequestError(400, f"{name} must be a list of objects", field=name)
    return message


def _read(vendor: str, rows: Sequence[Mapping[str, object]]) -> Product:
    try:
        filled = [{name: value for name, value in row.items() if value is not None} for row in rows]
        product = RecordReader(FeedMapping()).read_product(Record(f"webhook of {vendor}", 1, vendor, filled))
    except RowError as error:
        raise RequestError(400, f"the product is rejected: {error}", field="body") from None
    # A time in the future would make all later messages outdated.
    return replace(product, updated=min(product.updated, wall_clock())) if product.updated else product


def _deletions(root: Path) -> SqliteFile:
    return SqliteFile(root / _FILE, "deletions", 0x53575748, _DELETIONS, private=True)


def _note_deletion(
    context: ServiceContext, name: str, message: Mapping[str, Any], time: datetime | None = None
) -> None:
    """Stores the time of a deletion, by default now. Raises RequestError for the message of a product: its topic is not
    signed."""
    if {"title", "name"} & message.keys():
        raise RequestError(400, "this is no deletion: it has the fields of a product", field="body")
    now = wall_clock()
    with _deletions(context.engine.root).writing() as cursor:
        cursor.execute("DELETE FROM deleted WHERE time < ?", (to_microseconds(now - 2 * _MAX_AGE),))
        cursor.execute(_DELETED, (name, to_microseconds(time or now)))


def _is_outdated(context: ServiceContext, name: str, product: Product, before: Product | None) -> bool:
    """Whether a late or repeated message is older than the present product, or than its deletion."""
    now = wall_clock()
    if before is not None:
        return bool(before.updated and product.updated and product.updated < before.updated <= now)
    if product.updated and product.updated < now - _MAX_AGE:
        return True
    with _deletions(context.engine.root).reading() as cursor:
        query = "SELECT time FROM deleted WHERE product = ?"
        (deletion,) = (cursor.execute(query, (name,)).fetchone() if cursor else None) or (None,)
    return deletion is not None and (product.updated is None or to_microseconds(product.updated) <= deletion)


def _upsert(context: ServiceContext, product: Product, before: Product | None) -> Change:
    """The product, in its present currency or the one that all products share, since messages name no currency."""
    if not product.currency:
        facet = context.engine.search("", size=0, facets=["currency"]).facets["currency"]
        shared = str(facet.counts[0].value) if len(facet.counts) == 1 else ""
        product = replace(product, currency=before.currency if before else shared)
    return validate_change(Upsert(product))
