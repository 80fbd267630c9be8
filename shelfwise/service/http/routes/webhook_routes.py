"""Routes of webhooks: Shopify and WooCommerce report product changes, which become live changes.

A request is authorized by its signature, the HMAC-SHA256 of the raw body, instead of a key. Bodies are mapped like the
columns of the vendors' CSV exports, so that a product is the same as in the next feed. See docs/integrations.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import SecretStr

from shelfwise.indexer.feeds.base import Record
from shelfwise.indexer.feeds.mapping import FeedMapping
from shelfwise.indexer.feeds.reader import RecordReader
from shelfwise.indexer.feeds.shopify import is_shopify_product_hidden, rows_of_shopify_object
from shelfwise.indexer.feeds.variants import add_variants
from shelfwise.indexer.feeds.woocommerce import is_woocommerce_product_hidden, row_of_woocommerce_object
from shelfwise.retrieval.errors import RowError, UnknownFieldError
from shelfwise.retrieval.events.addresses import address_group
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.updates.changes import Change, Delete, Upsert, validate_change
from shelfwise.retrieval.updates.validation import decode_json
from shelfwise.service.curation.sqlite_file import SqliteFile, to_microseconds, wall_clock
from shelfwise.service.engine.live import CurrentProducts
from shelfwise.service.http.auth import Permit
from shelfwise.service.http.context import Contextual, ServiceContext, WorkerRouter
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.schemas import RESPONSES, ChangesResponse

router = WorkerRouter(writes=True, prefix="/v1/webhooks", tags=["webhooks"], responses=RESPONSES)

_PING = re.compile(rb"webhook_id=\d{1,20}")
"""The unsigned body with which WooCommerce checks an address; it must be answered with 200."""
_SHOPIFY = ("products/create", "products/update", "products/delete")
_OF_ONE_LOCATION = frozenset({"inventory_levels/update", "inventory_levels/connect", "inventory_levels/disconnect"})
_WOOCOMMERCE = ("product.created", "product.updated", "product.restored", "product.deleted")

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

Topic = Annotated[str, Header(max_length=100, description="What happened.")]


def _signed_body(vendor: str, header: str) -> Callable[[Request, Contextual], Awaitable[bytes]]:
    """A dependency that returns the raw body; raises RequestError without a secret (404) or valid signature (401)."""

    async def read(request: Request, context: Contextual) -> bytes:
        context.shared.rates.count_address(address_group(request.client.host if request.client else ""))
        secret: SecretStr = context.shared.webhook_secrets[vendor]
        if not secret.get_secret_value():
            raise RequestError(404, f"webhooks are not enabled; set service.{vendor}_secret")
        body = await request.body()
        if vendor == "woocommerce" and _PING.fullmatch(body):
            return b""
        digest = hmac.digest(secret.get_secret_value().encode(), body, hashlib.sha256)
        if not hmac.compare_digest(base64.b64encode(digest), request.headers.get(header, "").encode("latin-1")):
            message = f"{header} is not the signature of this body; check service.{vendor}_secret"
            raise RequestError(401, message, code="bad_signature", field=header)
        return body

    return read


ShopifyBody = Annotated[bytes, Depends(_signed_body("shopify", "X-Shopify-Hmac-Sha256"))]
WooCommerceBody = Annotated[bytes, Depends(_signed_body("woocommerce", "X-WC-Webhook-Signature"))]


@router.post("/shopify", summary="Receive a webhook of Shopify", openapi_extra={"requestBody": _BODY})
def shopify(context: Contextual, body: ShopifyBody, x_shopify_topic: Topic = "") -> ChangesResponse:
    """Applies the creation, update or deletion of a product; a message older than the present product has no effect."""
    _check_topic("X-Shopify-Topic", x_shopify_topic, _SHOPIFY)
    message = _decode(body)
    # Products are found by their Shopify number, which becomes a field once searches show a product that has one.
    context.engine.live.wait_for(context.engine.live.last_sequence, _SHOWN_SECONDS)
    name = f"shopify {message['id']}"
    if x_shopify_topic == "products/delete":
        _note_deletion(context, name, message)
        return _edit(context, lambda current: _deletes(current, message["id"]))
    rows = rows_of_shopify_object(message)
    product = _read("shopify", rows)
    is_hidden = is_shopify_product_hidden(rows[0])

    def plan(current: CurrentProducts) -> Sequence[Change]:
        before = current.find(product.id)
        if _is_outdated(context, name, product, before):
            return ()
        if is_hidden:
            _note_deletion(context, name, {}, product.updated)
        # Its handle may have changed.
        others = [each for each in _deletes(current, message["id"]) if is_hidden or each.id != product.id]
        return [*others, *([Delete(product.id)] if is_hidden else [_upsert(context, product, before)])]

    return _edit(context, plan)


@router.post("/woocommerce", summary="Receive a webhook of WooCommerce", openapi_extra={"requestBody": _BODY})
def woocommerce(context: Contextual, body: WooCommerceBody, x_wc_webhook_topic: Topic = "") -> ChangesResponse:
    """Applies the creation, update, restoration or deletion of a product; a message older than the present product has
    no effect. Variations of a product are left unchanged, since the message does not contain them."""
    if not body:
        return ChangesResponse(0, 0)
    _check_topic("X-WC-Webhook-Topic", x_wc_webhook_topic, _WOOCOMMERCE)
    message = _decode(body)
    name = f"woocommerce {message['id']}"
    if x_wc_webhook_topic == "product.deleted":
        _note_deletion(context, name, message)
        return _edit(context, lambda _: [Delete(str(message["id"]))])
    if message.get("type") == "variation":
        return ChangesResponse(0, 0)
    row = row_of_woocommerce_object(message)
    product = _read("woocommerce", [row])

    def plan(current: CurrentProducts) -> Sequence[Change]:
        before = current.find(product.id)
        if _is_outdated(context, name, product, before):
            return ()
        if is_woocommerce_product_hidden(row):
            _note_deletion(context, name, {}, product.updated)
            return [Delete(product.id)]
        return [_upsert(context, _with_feed_values(product, before), before)]

    return _edit(context, plan)


def _edit(context: ServiceContext, plan: Callable[[CurrentProducts], Sequence[Change]]) -> ChangesResponse:
    result = context.append(_EVERYTHING, plan)
    return ChangesResponse(result.sequence, result.products)


def _check_topic(header: str, topic: str, topics: Sequence[str]) -> None:
    if topic in _OF_ONE_LOCATION:
        message = f"{header} is {topic!r}, which has the stock of one location; products/update has the sum"
        raise RequestError(400, message, field=header)
    if topic not in topics:
        message = f"{header} is {topic!r}; subscribe to {', '.join(topics)}"
        raise RequestError(400, message, field=header)


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


def _deletes(current: CurrentProducts, shopify_id: int) -> list[Delete]:
    """Deletes of the products with a Shopify number; products that only came from a CSV have none."""
    try:
        return [Delete(each) for each in current.ids(f'identifiers.shopify = "{shopify_id}"')]
    except UnknownFieldError:
        return []


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


def _with_feed_values(product: Product, before: Product | None) -> Product:
    """The product with the feed's values that a WooCommerce message lacks: its category path and its variations."""
    if before is None:
        return product
    is_path = bool(before.category) and before.category[-1:] == product.category[-1:]
    product = replace(product, category=before.category if is_path else product.category)
    return add_variants(product, before.variants) if before.variants else product
