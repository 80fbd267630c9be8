"""JSON that is no JSON, or that no field can hold: a 400 with one sentence at every entrance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from shelfwise.retrieval.updates.validation import decode_json
from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings
from tests.services import local_client
from tests.unit.service.http.routes.test_webhook_routes import SECRET, signature

DIGITS = "7" * 400
HOSTILE = {
    DIGITS: "more than 64 bits",
    f"-{DIGITS}": "more than 64 bits",
    "7" * 5_000: "out of range",
    str(2**63): "more than 64 bits",
    "1e999": "out of range",
    "NaN": "not valid JSON",
    "Infinity": "not valid JSON",
    '"\\ud800"': "half of a surrogate pair",
    '"\\udc00"': "half of a surrogate pair",
    "[" * 50_000 + "]" * 50_000: "nested too deep",
    '{"a":' * 50_000 + "1" + "}" * 50_000: "nested too deep",
    "tru": "not valid JSON",
}
BODIES = {
    "/v1/events": '{"events": [{"kind": "click", "product_id": "1", "shopper": "u", "position": VALUE}]}',
    "/v1/search": '{"q": "drill", "size": VALUE}',
    "/v1/products/changes": '{"operations": [{"patch": "1", "values": {"price": VALUE}}]}',
    "/v1/relevance/preview": '{"q": "drill", "put": [{"cutoff": VALUE}]}',
    "/1/events": '{"events": [{"eventType": "click", "eventName": "x", "index": "store", "userToken": "u", '
    '"objectIDs": ["1"], "timestamp": VALUE}]}',
    "/1/indexes/store/query": '{"query": "drill", "hitsPerPage": VALUE}',
    "/1/indexes/store/batch": '{"requests": [{"action": "addObject", "body": {"objectID": "1", "price": VALUE}}]}',
    "/v1/webhooks/shopify": '{"id": VALUE}',
}


@pytest.fixture(scope="module")
def receiver(store: SearchEngine) -> Iterator[TestClient]:
    with local_client(create_app(store, ServiceSettings(shopify_secret=SecretStr(SECRET)))) as client:
        client.headers |= {"Content-Type": "application/json", "X-Shopify-Topic": "products/create"}
        yield client


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_value_is_refused(receiver: TestClient, path: str, value: str) -> None:
    body = BODIES[path].replace("VALUE", value).encode()
    answer = receiver.post(path, content=body, headers={"X-Shopify-Hmac-Sha256": signature(body)})
    assert answer.status_code == 400, answer.text
    message = answer.json()["error"]["message"] if "error" in answer.json() else answer.json()["message"]
    assert HOSTILE[value] in message
    assert len(message) < 300


def test_position_of_a_large_integer_is_named() -> None:
    with pytest.raises(ValueError, match=r"has an integer of more than 64 bits at events\.1\.timestamp$"):
        decode_json(f'{{"events": [{{}}, {{"timestamp": {DIGITS}}}]}}')
    assert decode_json(f'{{"a": {2**63 - 1}, "b": {-(2**63)}, "c": "{DIGITS}", "d": 0.{DIGITS}}}')


def test_of_equal_names_the_last_counts(receiver: TestClient) -> None:
    assert decode_json('{"a": 1, "a": 2}') == {"a": 2}
    body = b'{"hitsPerPage": 1, "hitsPerPage": 2}'
    assert receiver.post("/1/indexes/store/query", content=body).json()["hitsPerPage"] == 2
    assert receiver.post("/v1/search", content=b'{"q": "", "size": 1, "size": 2}').json()["size"] == 2


@pytest.mark.parametrize("value", [DIGITS, "7" * 5_000, "1e999", "nan"])
def test_hostile_number_in_text_is_refused(receiver: TestClient, value: str) -> None:
    for answer in (
        receiver.get("/v1/search", params={"q": "drill", "size": value}),
        receiver.post("/1/indexes/store/query", content=f'{{"params": "aroundLatLng={value},1"}}'.encode()),
        receiver.post("/1/indexes/store/query", content=f'{{"numericFilters": ["price<{value}"]}}'.encode()),
    ):
        assert answer.status_code in (200, 400), answer.text
        assert len(answer.text) < 30_000
