"""Middleware of every request and response.

`RequestMiddleware` gives each request an id, checks that its address is UTF-8, reads its body within limits and bounds
the time until the response. It adds the security headers and writes one log line, without query, key or name.
`CorsMiddleware` lets pages of other origins call it, `IndexPathMiddleware` selects the index.
`EarlyRefusals` runs before all of them.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import structlog
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shelfwise.service.http.errors import RequestError, error_response, to_request_error
from shelfwise.service.http.limits import Client, WorkerThreads
from shelfwise.service.http.raw_request import (
    EXTENSION,
    INDEX,
    REQUEST_ID,
    describe_undecodable,
    find_undecodable,
    header_key,
    is_protocol_path,
    is_upload,
    is_utf8,
    request_id,
)
from shelfwise.service.http.telemetry import record_request

_log = structlog.get_logger("shelfwise.http")
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_OF_INDEX = re.compile(
    r"/v1/indexes/(?P<index>[^/]+)(?P<route>/.+)|/stores/(?P<store>[^/]+)(?P<page>/(?:admin|assets/.+)?)", re.DOTALL
)
_SEARCHES = re.compile(
    r"/v1/(indexes/[^/]+/)?(search|multi-search|suggest|related|recommend)|/1/indexes/[^/]+/(query|queries)"
)
_REQUEST_LINE = re.compile(rb"(GET|POST) ([^ ?]+)\??([^ ]*) HTTP/1\.1")
_UNUSUAL = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""Headers that change how a connection continues."""
_EXPOSED = ("X-Request-ID", "Retry-After", "ETag")
_ANY_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": ", ".join(_EXPOSED),
    "Vary": "Origin",
}
"""Headers of `CorsMiddleware` under the InstantSearch paths."""
_RAW_HEADERS, _RAW_PROTOCOL_HEADERS = (
    tuple(MutableHeaders(each).raw) for each in (_SECURITY_HEADERS, {**_SECURITY_HEADERS, **_ANY_ORIGIN})
)

Hold = Callable[[int], None]
"""Reserves memory for bytes of a request's body."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one request, and of all bodies together."""

    body_bytes: int
    body_seconds: float
    """Time until the whole body is received."""
    response_seconds: float
    """Time from then until the response."""
    total_body_bytes: int = 256_000_000
    """Maximum size of all bodies in memory together."""
    write_seconds: float = 60.0
    """Time until the response to a request that changes products."""


class RequestMiddleware:
    """ASGI middleware that applies the limits and headers, and records logs and metrics."""

    def __init__(
        self,
        app: ASGIApp,
        limits: RequestLimits,
        draining: threading.Event | None = None,
        check_room: Callable[[Client], None] = lambda _: None,
    ) -> None:
        """While `draining` is set, each response closes its connection, so that the client reconnects elsewhere.

        `check_room` raises RequestError for a search if the queue is full; such a search is not processed further.
        """
        self._app = app
        self._limits = limits
        self._draining = draining or threading.Event()
        self._check_room = check_room
        self._budget = _BodyBudget(limits.total_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response = _ResponseSender(send, request_id(scope), self._draining)
        if (refusal := find_refusal(scope, self._check_room)) is not None:
            # Not logged: each log line waits for the threads that search.
            record_request(scope, refusal.status, 0.0)
            await self._respond_with_error(refusal, scope, receive, response)
            return
        started = time.perf_counter()
        try:
            await self._handle(scope, receive, response)
        except Exception as error:
            await self._respond_with_error(error, scope, receive, response)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "")
            record_request(scope, response.status, seconds)
            _log.info(
                "answered",
                request=response.identity,
                method=scope["method"],
                route=route,
                status=response.status,
                ms=round(seconds * 1_000, 1),
            )

    async def _handle(self, scope: Scope, receive: Receive, response: _ResponseSender) -> None:
        _check_address(scope)
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            # A proxy may read another body, and take the rest for part of it or for another request.
            response.is_last = True
            raise RequestError(
                400, "a request has Content-Length or Transfer-Encoding, not both", field="Content-Length"
            )
        with self._budget.share() as hold:
            streams = is_upload(scope)
            if not streams:
                receive = _BodyReplay(await _read_body(scope, receive, self._limits, hold), receive)
            try:
                async with asyncio.timeout(None if streams else self._limits.response_seconds) as deadline:
                    ends = asyncio.get_running_loop().time() + self._limits.write_seconds
                    scope[EXTENSION] = partial(deadline.reschedule, ends)
                    await self._app(scope, receive, response.send)
            except TimeoutError:
                raise RequestError(504, "there was no response within the time limit", retry_after=1) from None

    async def _respond_with_error(
        self, error: Exception, scope: Scope, receive: Receive, response: _ResponseSender
    ) -> None:
        if not isinstance(error, RequestError):
            _log.exception("failed", request=response.identity)
        if response.status == 0:
            in_protocol = is_protocol_path(scope)
            send_error = error_response(to_request_error(error), response.identity, in_protocol=in_protocol)
            await send_error(scope, receive, response.send)


def find_refusal(scope: Scope, check_room: Callable[[Client], None]) -> RequestError | None:
    """The reason to refuse a search before it is processed; None if there is none."""
    if _SEARCHES.fullmatch(scope["path"]) and (client := _sender(scope)):
        try:
            check_room(client)
        except RequestError as error:
            return error
    return None


class EarlyRefusals:
    """Refuses searches while the queue is full, based on the raw bytes that a connection received.

    A refusal by the application costs three times as much, and waits for Python's lock at each step: far above
    capacity, no time would be left for the searches that were accepted.
    """

    def __init__(self, threads: WorkerThreads, draining: threading.Event, *, cross_origin: bool) -> None:
        """With `cross_origin`, requests from pages are left to the application, whose responses name their origin."""
        self._threads = threads
        self._draining = draining
        self._left = _UNUSUAL | {b"origin"} if cross_origin else _UNUSUAL

    def respond(self, data: bytes, address: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes | None:
        """The refusal of `data` with additional headers, if it is exactly one search and the queue is full; None if the
        application should answer."""
        if not self._threads.is_full or self._draining.is_set() or (scope := self._scope(data, address)) is None:
            return None
        error = find_refusal(scope, self._threads.check_room)
        if error is None:
            return None
        record_request(scope, error.status, 0.0)
        in_protocol = is_protocol_path(scope)
        response = error_response(error, request_id(scope), in_protocol=in_protocol)
        more = _RAW_PROTOCOL_HEADERS if in_protocol else _RAW_HEADERS
        lines = (name + b": " + value for name, value in (*response.raw_headers, *more, *headers))
        status = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()
        return b"\r\n".join((status, *lines, b"", bytes(response.body)))

    def _scope(self, data: bytes, address: str) -> Scope | None:
        """The ASGI scope of exactly one request; None for anything else, or if only a full parser can tell."""
        head, end, body = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        request = _REQUEST_LINE.fullmatch(first)
        if request is None or not end:
            return None
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        is_usual = len(headers) == len(lines) and self._left.isdisjoint(headers)
        is_kept = headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        if not (is_usual and is_kept and headers.get(b"content-length", b"0") == str(len(body)).encode()):
            return None
        method, path, query = request.groups()
        text = {"type": "http", "method": method.decode(), "path": path.decode("latin-1")}
        return {**text, "query_string": query, "headers": list(headers.items()), "client": (address, 0)}


def _sender(scope: Scope) -> Client | None:
    """The client of a request, before its key is verified; None if the key is in the query string."""
    if b"x-algolia-api-key" in scope.get("query_string", b"").lower():
        return None
    return Client.of(header_key(scope), scope["client"][0] if scope["client"] else "")


def _check_address(scope: Scope) -> None:
    if not is_utf8(scope.get("raw_path") or b""):
        raise RequestError(400, describe_undecodable("path"), field="path")
    if (name := find_undecodable(scope.get("query_string", b""))) is not None:
        raise RequestError(400, describe_undecodable(name), field=name)


class _BodyReplay:
    """Replays a body that was already read, then receives what the client sends next."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _ResponseSender:
    """Sends a response with the headers that every response has."""

    def __init__(self, send: Send, identity: str, draining: threading.Event) -> None:
        self._send = send
        self._draining = draining
        self.identity = identity
        self.status = 0
        """Status code; 0 until the response begins."""
        self.is_last = False
        """Whether the response closes its connection."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.identity
            if self._draining.is_set() or self.is_last:
                headers["Connection"] = "close"
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


class CorsMiddleware:
    """CORS: pages of any origin may call the InstantSearch paths, without cookies, since a key alone authorizes a
    request; pages of `origins` may call the others."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        allow = partial(CORSMiddleware, app, allow_methods=["*"], allow_headers=["*"], expose_headers=_EXPOSED)
        self._protocol = allow(allow_origins=["*"], max_age=86_400)
        self._others = allow(allow_origins=origins) if origins else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._protocol if is_protocol_path(scope) else self._others)(scope, receive, send)


class IndexPathMiddleware:
    """Removes the name of an index from a path, so that its routes are those of a service with one index."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (match := _OF_INDEX.fullmatch(scope["path"])):
            path = match["page"] or f"/v1{match['route']}"
            scope = {**scope, "path": path, INDEX: match["index"] or match["store"]}
        await self._app(scope, receive, send)


class _BodyBudget:
    """Bytes of all request bodies in memory, for one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextmanager
    def share(self) -> Iterator[Hold]:
        """A function that reserves bytes until the request ends; it raises RequestError (503) if there is no room."""
        share = 0

        def hold(size: int) -> None:
            nonlocal share
            if self._held + size > self._most:
                raise RequestError(503, "request bodies fill the server's memory; try again", retry_after=1)
            self._held += size
            share += size

        try:
            yield hold
        finally:
            self._held -= share


async def _read_body(scope: Scope, receive: Receive, limits: RequestLimits, hold: Hold) -> bytes:
    """The whole body, decompressed. Raises RequestError for too many bytes before or after decompression (413), a slow
    body (408), no memory (503), and an invalid or unknown encoding (400, 415)."""
    most, seconds = limits.body_bytes, limits.body_seconds
    headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"content-encoding")}
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(seconds):
            body = await _receive_body(receive, most, hold)
    except TimeoutError:
        raise RequestError(408, f"the body was not received within {seconds:g} seconds") from None
    match headers.get(b"content-encoding", b"").strip().lower():
        case b"" | b"identity":
            return body
        case b"gzip":
            return _decompress(body, most, hold)
        case other:
            message = f"the content encoding {other.decode('latin-1')[:40]!r} is not supported; send gzip or none"
            raise RequestError(415, message, field="Content-Encoding")


async def _receive_body(receive: Receive, most: int, hold: Hold) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(400, "the client disconnected before its body was received")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        hold(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _decompress(body: bytes, most: int, hold: Hold) -> bytes:
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error:
        raise RequestError(400, "the body is not valid gzip", field="Content-Encoding") from None
    if len(content) > most:
        raise _too_large(most)
    if not stream.eof:
        raise RequestError(400, "the gzip body is truncated", field="Content-Encoding")
    hold(len(content))
    return content


def _too_large(most: int) -> RequestError:
    return RequestError(413, f"the body may have at most {most:,} bytes; send less", field="body")
