"""Webhooks of Shopify and WooCommerce: signatures, and products equal to those of the next feed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import SecretStr

from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings
from tests.services import local_client

SECRET = "hush"
HEADERS = {
    "shopify": ("X-Shopify-Topic", "X-Shopify-Hmac-Sha256"),
    "woocommerce": ("X-WC-Webhook-Topic", "X-WC-Webhook-Signature"),
}


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat(timespec="milliseconds")


# The examples of both vendors' documentation, reduced to fields that products use.
VARIANT = {"price": "19.99", "inventory_policy": "deny", "inventory_quantity": 0}
SHIRT: dict[str, Any] = {
    "handle": "example-t-shirt",
    "id": 788032119674292922,
    "published_at": "2021-12-31T19:00:00-05:00",
    "title": "Example T-Shirt",
    "updated_at": ago(days=3),
    "vendor": "Acme",
    "status": "active",
    "variants": [
        {**VARIANT, "id": 64266704, "sku": "example-shirt-s", "option1": "Small", "inventory_quantity": 75},
        {**VARIANT, "id": 75765048, "sku": "example-shirt-m", "option1": "Medium", "image_id": 9},
    ],
    "options": [{"name": "Size", "position": 1, "values": ["Small", "Medium"]}],
    "images": [{"id": 9, "src": "https://shop.example/shirt.png"}],
    "category": {"name": "T-Shirts", "full_name": "Apparel > Tops > T-Shirts"},
}
PREMIUM: dict[str, Any] = {
    "id": 794,
    "name": "Premium Quality",
    "date_modified_gmt": ago(days=3)[:19],
    "type": "simple",
    "status": "publish",
    "catalog_visibility": "visible",
    "price": "21.99",
    "stock_status": "instock",
    "average_rating": "0.00",
    "categories": [{"id": 9, "name": "Clothing", "slug": "clothing"}, {"id": 14, "name": "T-shirts"}],
    "attributes": [{"id": 6, "name": "Color", "options": ["Black", "Green, dark"]}],
}


@pytest.fixture(scope="module")
def receiver(store: SearchEngine) -> Iterator[TestClient]:
    secret = SecretStr(SECRET)
    with local_client(create_app(store, ServiceSettings(shopify_secret=secret, woocommerce_secret=secret))) as calling:
        yield calling


def signature(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()


def send(vendor: str, receiver: TestClient, topic: str, sent: object, *, waits: bool = True) -> Response:
    """The answer to a signed message, by default after searches show its changes."""
    body, (topic_header, signature_header) = json.dumps(sent).encode(), HEADERS[vendor]
    headers = {topic_header: topic, signature_header: signature(body)}
    answer = receiver.post(f"/v1/webhooks/{vendor}", content=body, headers=headers)
    if waits and answer.is_success:
        assert receiver.app.state.indexes.opened[0].engine.live.wait_for(answer.json()["sequence"], 60)  # type: ignore[attr-defined]
    return answer


shopify, woocommerce = partial(send, "shopify"), partial(send, "woocommerce")


def product(receiver: TestClient, product_id: str) -> dict[str, Any]:
    found: dict[str, Any] = receiver.get(f"/v1/products/{product_id}").json()["product"]
    return found


def is_there(receiver: TestClient, product_id: str) -> bool:
    return receiver.get(f"/v1/products/{product_id}").status_code == 200


def test_a_product_is_deleted_that_searches_do_not_show_yet(
    receiver: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The product must be the first: no other has a Shopify number yet, by which it could be found."""
    monkeypatch.setattr("shelfwise.service.http.context._SHOWN_SECONDS", 0)
    brief = {**SHIRT, "id": 1, "handle": "brief"}
    assert shopify(receiver, "products/create", brief, waits=False).json()["products"] == 1
    assert shopify(receiver, "products/delete", {"id": 1}).json()["products"] == 1
    assert not is_there(receiver, "brief")


def test_shopify_creates_updates_and_deletes_a_product(receiver: TestClient) -> None:
    assert shopify(receiver, "products/create", SHIRT).json()["products"] == 1
    found = product(receiver, "example-t-shirt")
    assert (found["title"], found["brand"], found["price"]) == ("Example T-Shirt", "Acme", 19.99)
    assert found["category"] == ["Apparel", "Tops", "T-Shirts"]
    assert found["identifiers"]["sku"] == ["example-shirt-s", "example-shirt-m"]
    assert [each["availability"] for each in found["variants"]] == ["in_stock", "out_of_stock"]
    assert found["images"] == ["https://shop.example/shirt.png"]
    later = {**SHIRT, "title": "Example Tee", "handle": "example-tee", "updated_at": ago(days=2)}
    assert shopify(receiver, "products/update", later).status_code == 200
    assert product(receiver, "example-tee")["title"] == "Example Tee"
    assert not is_there(receiver, "example-t-shirt"), "the product has another handle now"
    assert shopify(receiver, "products/delete", {"id": SHIRT["id"]}).json()["products"] == 1
    assert not is_there(receiver, "example-tee")


def test_a_repeated_or_older_message_changes_nothing(receiver: TestClient) -> None:
    new = {**SHIRT, "id": 5, "handle": "kept", "updated_at": ago(hours=2)}
    shopify(receiver, "products/create", new)
    assert shopify(receiver, "products/update", new).json()["products"] == 0
    old = {**new, "title": "An older title", "updated_at": ago(hours=3)}
    assert shopify(receiver, "products/update", old).json()["products"] == 0
    assert product(receiver, "kept")["title"] == "Example T-Shirt"
    assert shopify(receiver, "products/delete", {"id": 404}).json()["products"] == 0


def test_a_replayed_message_brings_no_deleted_product_back(receiver: TestClient) -> None:
    new = {**SHIRT, "id": 50, "handle": "replayed", "updated_at": ago(minutes=2)}
    shopify(receiver, "products/create", new)
    shopify(receiver, "products/delete", {"id": 50})
    for topic in ("products/create", "products/update"):
        assert shopify(receiver, topic, new).json()["products"] == 0
        assert shopify(receiver, topic, {**new, "id": 51, "updated_at": ago(days=8)}).json()["products"] == 0
    woo = {**PREMIUM, "id": 796, "date_modified_gmt": ago(minutes=2)[:19]}
    woocommerce(receiver, "product.created", woo)
    woocommerce(receiver, "product.updated", {**woo, "status": "draft", "date_modified_gmt": ago(minutes=1)[:19]})
    assert woocommerce(receiver, "product.updated", woo).json()["products"] == 0
    assert not is_there(receiver, "replayed")
    assert not is_there(receiver, "796")
    restored = {**woo, "date_modified_gmt": ago(seconds=0)[:19]}
    assert woocommerce(receiver, "product.restored", restored).json()["products"] == 1


def test_a_signed_product_with_the_topic_of_a_deletion_deletes_nothing(receiver: TestClient) -> None:
    new = {**SHIRT, "id": 52, "handle": "stays", "updated_at": ago(minutes=2)}
    shopify(receiver, "products/create", new)
    answer = shopify(receiver, "products/delete", new)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "body")
    assert is_there(receiver, "stays")


def test_a_message_from_the_future_does_not_block_later_ones(receiver: TestClient) -> None:
    future = {**SHIRT, "id": 53, "handle": "future", "updated_at": "9999-12-31T00:00:00Z"}
    assert shopify(receiver, "products/create", future).json()["products"] == 1
    later = {**future, "title": "A later title", "updated_at": ago(seconds=-1)}
    assert shopify(receiver, "products/update", later).json()["products"] == 1
    assert product(receiver, "future")["title"] == "A later title"


def test_a_product_that_is_no_longer_for_sale_is_removed(receiver: TestClient) -> None:
    shopify(receiver, "products/create", {**SHIRT, "id": 6, "handle": "drafted"})
    assert shopify(receiver, "products/update", {**SHIRT, "id": 6, "handle": "drafted", "status": "draft"}).is_success
    woocommerce(receiver, "product.created", {**PREMIUM, "id": 795})
    woocommerce(receiver, "product.updated", {**PREMIUM, "id": 795, "status": "private"})
    assert not is_there(receiver, "drafted")
    assert not is_there(receiver, "795")


def test_woocommerce_creates_updates_and_deletes_a_product(receiver: TestClient) -> None:
    assert woocommerce(receiver, "product.created", PREMIUM).json()["products"] == 1
    found = product(receiver, "794")
    assert (found["title"], found["price"], found["availability"]) == ("Premium Quality", 21.99, "in_stock")
    assert found["attributes"]["Color"] == ["Black", "Green, dark"]
    assert found["rating"] is None
    sold_out = {**PREMIUM, "stock_status": "outofstock", "sale_price": "9.99", "date_modified_gmt": ago(days=2)[:19]}
    assert woocommerce(receiver, "product.updated", sold_out).json()["products"] == 1
    found = product(receiver, "794")
    assert (found["availability"], found["price"]) == ("out_of_stock", 9.99)
    assert woocommerce(receiver, "product.updated", sold_out).json()["products"] == 0
    assert woocommerce(receiver, "product.deleted", {"id": 794}).json()["products"] == 1
    assert not is_there(receiver, "794")


def test_variations_and_the_path_of_the_category_come_from_the_feed(receiver: TestClient) -> None:
    feed = {
        "id": "900",
        "title": "Tee",
        "category": ["Apparel", "T-shirts"],
        "currency": "EUR",
        "variants": [{"id": "901", "options": {"Color": "Red"}, "price": 5, "identifiers": {"sku": ["tee-red"]}}],
    }
    receiver.put("/v1/products/900", json=feed)
    sent = {**PREMIUM, "id": 900, "type": "variable", "regular_price": "", "categories": [{"name": "T-shirts"}]}
    woocommerce(receiver, "product.updated", sent)
    found = product(receiver, "900")
    assert found["category"] == ["Apparel", "T-shirts"]
    assert found["currency"] == "EUR"
    assert [each["id"] for each in found["variants"]] == ["901"]
    assert "tee-red" in found["identifiers"]["sku"]
    assert woocommerce(receiver, "product.updated", {"id": 901, "type": "variation"}).json()["products"] == 0
    assert not is_there(receiver, "901")


@pytest.mark.parametrize("vendor", ["shopify", "woocommerce"])
def test_only_signed_bodies_are_accepted(receiver: TestClient, client: TestClient, vendor: str) -> None:
    body, (_, header) = json.dumps(SHIRT).encode(), HEADERS[vendor]
    for wrong in (signature(body, "other"), signature(body + b" "), "", "é"):
        answer = receiver.post(f"/v1/webhooks/{vendor}", content=body, headers={header.encode(): wrong.encode()})
        assert answer.status_code == 401
        assert answer.json()["error"]["field"] == header
        assert SECRET not in answer.text
    answer = client.post(f"/v1/webhooks/{vendor}", content=body, headers={header: signature(body, "")})
    assert answer.status_code == 404
    assert f"set service.{vendor}_secret" in answer.json()["error"]["message"]


def test_the_ping_of_woocommerce_is_answered(receiver: TestClient) -> None:
    answer = receiver.post("/v1/webhooks/woocommerce", content=b"webhook_id=12")
    assert (answer.status_code, answer.json()["products"]) == (200, 0)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([], "the body must be a product object"),
        ({"handle": "x"}, "with its number as id"),
        ({"id": 7}, "needs its handle"),
        ({**SHIRT, "title": ""}, "no title"),
        ({**SHIRT, "variants": ["Small"]}, "variants must be a list of objects"),
        ({**SHIRT, "variants": [{"price": "cheap"}]}, "price"),
        ({**SHIRT, "title": {}, "images": [{"id": []}], "variants": [{"image_id": {}}]}, "no title"),
    ],
)
def test_an_unusable_body_is_named(receiver: TestClient, sent: object, message: str) -> None:
    answer = shopify(receiver, "products/update", sent)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_another_topic_is_refused_with_those_that_are_known(receiver: TestClient) -> None:
    assert "products/create, products/update" in shopify(receiver, "orders/create", SHIRT).json()["error"]["message"]
    level = {"inventory_item_id": 39072856, "location_id": 1, "available": 0}
    assert (
        "products/update has the sum" in shopify(receiver, "inventory_levels/update", level).json()["error"]["message"]
    )
    answer = woocommerce(receiver, "order.created", PREMIUM)
    assert "product.created, product.updated" in answer.json()["error"]["message"]
