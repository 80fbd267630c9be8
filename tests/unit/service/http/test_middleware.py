"""Middleware of every request: body limits, deadline, request id, response headers."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import Body, FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.updates.validation import decode_json
from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.errors import JsonRoute, handle_errors
from shelfwise.service.http.limits import WorkerThreads
from shelfwise.service.http.middleware import CorsMiddleware, EarlyRefusals, RequestLimits, RequestMiddleware
from shelfwise.service.http.raw_request import EXTENSION
from shelfwise.service.settings import ServiceSettings
from tests.services import local_client
from tests.unit.service.http.routes.test_webhook_routes import SECRET, signature


def application(seconds: float = 5.0) -> TestClient:
    app = FastAPI()
    app.router.route_class = JsonRoute
    handle_errors(app)

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/json")
    async def read(payload: Annotated[dict[str, str], Body()]) -> dict[str, str]:
        return payload

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(5)

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("a secret of the server")

    @app.get("/damaged")
    async def damaged() -> None:
        raise StoreDamagedError("/srv/store/v000007 has another checksum")

    @app.post("/write")
    async def write(request: Request) -> None:
        request.scope[EXTENSION]()
        await asyncio.sleep(2 * seconds)

    app.add_middleware(RequestMiddleware, limits=RequestLimits(1_000, 5.0, seconds))
    return TestClient(app, raise_server_exceptions=False)


def test_body_limit_is_exact() -> None:
    client = application()
    assert client.post("/echo", content=b"x" * 1_000).json() == {"bytes": 1_000}
    for content in (b"x" * 1_001, (b"x" * 100 for _ in range(11))):  # the second has no Content-Length
        answer = client.post("/echo", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_gzipped_body_has_the_same_limit() -> None:
    client, packed = application(), {"Content-Encoding": "gzip"}
    assert client.post("/echo", content=gzip.compress(b"x" * 900), headers=packed).json() == {"bytes": 900}
    assert client.post("/echo", content=gzip.compress(bytes(10_000_000)), headers=packed).status_code == 413
    assert client.post("/echo", content=b"no gzip", headers=packed).status_code == 400
    assert client.post("/echo", content=gzip.compress(b"x" * 900)[:-9], headers=packed).status_code == 400
    assert client.post("/echo", content=b"", headers={"Content-Encoding": "br"}).status_code == 415


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/echo?page=1&q=%ff%fe", "q"),
        ("/echo?q=%ed%a0%80", "q"),
        ("/echo?q%ff=1", "q\\xff"),
        ("/echo?" + "n" * 200 + "=%ff", "n" * 100),
        ("/echo%ff?q=1", "path"),
    ],
)
def test_non_utf_8_url_is_refused(path: str, field: str) -> None:
    answer = application().post(path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (400, "bad_request", field)
    assert error["request_id"] == answer.headers["X-Request-ID"]


def test_non_utf_8_body_is_refused() -> None:
    client = application()
    client.headers["Content-Type"] = "application/json"
    assert client.post("/json", content='{"q": "螺丝"}'.encode()).json() == {"q": "螺丝"}
    error = client.post("/json", content=b'{"q": "\xff"}').json()["error"]
    assert (error["field"], error["message"]) == ("body", "the body is not valid UTF-8")


@pytest.mark.parametrize(("content", "what"), [(b"", "is missing"), (b'{"q": "drill"}', "was not read as JSON")])
def test_body_without_its_content_type_is_refused_with_advice(content: bytes, what: str) -> None:
    error = application().post("/json", content=content).json()["error"]
    assert error["message"] == f"the body {what}; send JSON with Content-Type: application/json"


def test_response_is_sent_by_the_deadline() -> None:
    answer = application(seconds=0.1).get("/slow")
    assert (answer.status_code, answer.headers["Retry-After"]) == (504, "1")


def test_write_has_more_time() -> None:
    """Regression: a batch of 1,000 new products takes longer than a search may, and was applied after its 504."""
    assert application(seconds=0.05).post("/write").status_code == 200


def test_memory_of_all_bodies_is_limited() -> None:
    occupied: list[int] = []

    async def ask(edge: RequestMiddleware, size: int, until: asyncio.Event) -> None:
        async def body() -> Message:
            return {"type": "http.request", "body": b"x" * size}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                occupied.append(message["status"])
                until.set()

        await edge({"type": "http", "method": "POST", "path": "/", "headers": []}, body, send)

    async def both() -> None:
        refused = asyncio.Event()

        async def waiting(_scope: Scope, _receive: Receive, send: Send) -> None:
            await refused.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        edge = RequestMiddleware(waiting, RequestLimits(1_000, 1.0, 5.0, total_body_bytes=150))
        await asyncio.gather(ask(edge, 100, asyncio.Event()), ask(edge, 51, refused))
        await ask(edge, 150, asyncio.Event())

    asyncio.run(both())
    assert occupied == [503, 200, 200]


@pytest.fixture
def full() -> Iterator[WorkerThreads]:
    """Threads whose places are all occupied, by no other key's work that could be displaced."""
    threads = WorkerThreads(1, 1)
    threads.in_progress = threads.places
    yield threads
    threads.close()


SEARCH = b"GET /v1/search?q=drill HTTP/1.1\r\nHost: localhost\r\n\r\n"
QUERIES = (
    b"POST /1/indexes/*/queries HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\nContent-Length: 2\r\n\r\n{}"
)


@pytest.mark.parametrize("data", [SEARCH, QUERIES, SEARCH.replace(b"/v1/", b"/v1/indexes/tools/")])
def test_early_refusal_is_the_response_of_the_application(full: WorkerThreads, data: bytes) -> None:
    early = EarlyRefusals(full, threading.Event(), cross_origin=False).respond(data, "testclient")
    assert early is not None
    head, _, body = early.decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    edge = RequestMiddleware(FastAPI(), RequestLimits(1_000, 5.0, 5.0), check_room=full.check_room)
    method, path, _ = data.decode().split(" ", 2)
    sent = {"X-Request-ID": headers["x-request-id"], "Origin": "https://shop.example"}
    answer = TestClient(CorsMiddleware(edge, ())).request(method, path, headers=sent)
    assert status == "HTTP/1.1 503 Service Unavailable"
    assert (headers, body) == ({name: value.lower() for name, value in answer.headers.items()}, answer.text)
    assert full.refused == 2


@pytest.mark.parametrize(
    "data",
    [
        SEARCH[:-1],
        SEARCH + SEARCH,
        SEARCH.replace(b"/v1/search", b"/v1/events"),
        SEARCH.replace(b"HTTP/1.1", b"HTTP/1.0"),
        SEARCH.replace(b"Host", b"Connection: close\r\nHost"),
        SEARCH.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"),
        SEARCH.replace(b"Host", b"Host: elsewhere\r\nHost"),
        SEARCH.replace(b"q=drill", b"x-algolia-api-key=k1"),
        QUERIES[:-1],
        b"\x16\x03\x01\xff",
    ],
)
def test_application_answers_requests_other_than_searches(full: WorkerThreads, data: bytes) -> None:
    assert EarlyRefusals(full, threading.Event(), cross_origin=False).respond(data, "testclient") is None
    assert full.refused == 0


def test_application_answers_with_places_while_draining_and_pages_of_other_origins(full: WorkerThreads) -> None:
    draining = threading.Event()
    assert EarlyRefusals(full, draining, cross_origin=True).respond(QUERIES, "testclient") is None
    refusals = EarlyRefusals(full, draining, cross_origin=False)
    draining.set()
    assert refusals.respond(SEARCH, "testclient") is None
    draining.clear()
    full.in_progress = 0
    assert refusals.respond(SEARCH, "testclient") is None


@pytest.mark.parametrize(
    ("path", "status", "code", "hidden"),
    [("/broken", 500, "internal", "secret"), ("/damaged", 503, "store", "/srv/store")],
)
def test_internal_error_reveals_no_details(path: str, status: int, code: str, hidden: str) -> None:
    with capture_logs() as logged:
        answer = application().get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert hidden not in answer.text
    (failure,) = (each for each in logged if each["event"] == "failed")
    assert failure["request"] == answer.headers["X-Request-ID"]
    assert hidden in str(failure.get("error", hidden))  # for other kinds of errors the log has the traceback
    assert "Traceback" not in answer.text
    assert answer.json()["error"]["request_id"] == answer.headers["X-Request-ID"]


def test_valid_request_id_is_kept_and_others_replaced() -> None:
    client = application()
    assert client.post("/echo", headers={"X-Request-ID": "shop-1.7"}).headers["X-Request-ID"] == "shop-1.7"
    for odd in ("a b", "x" * 65, "a\tb", '"; drop'):
        assert client.post("/echo", headers={"X-Request-ID": odd}).headers["X-Request-ID"] != odd


def test_responses_have_security_headers() -> None:
    client = application()
    for answer in (client.post("/echo"), client.get("/nosuch"), client.get("/broken"), client.get("/echo")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("method", "path", "status", "advice"),
    [("PUT", "/nosuch", 404, "/docs lists all routes"), ("PUT", "/json", 405, "the path takes POST")],
)
def test_unknown_path_is_refused_in_the_error_format(method: str, path: str, status: int, advice: str) -> None:
    answer = application().request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == f"{method} {path} is not a route of this service; {advice}"
    assert set(json.loads(answer.content)["error"]) == {"code", "message", "field", "request_id"}


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
