"""What every request goes through before the application sees it, and every answer on its way out.

A request gets an id, its address must be UTF-8, its body is read within bounds, and it must be answered by a deadline;
an answer gets the headers that keep browsers safe, and one line in the log, which holds no query, no key and nobody's
name.
"""

from __future__ import annotations

import asyncio
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.errors import RequestError, error_response, to_request_error
from service.http.metrics import count_request
from service.http.request import (
    REQUEST_ID,
    describe_undecodable,
    find_undecodable,
    is_protocol_path,
    is_utf8,
    request_id,
)
from service.http.tracing import CURRENT, Tracing

_log = structlog.get_logger("shelfwise.http")
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may take."""

    body_bytes: int
    """Bytes."""
    body_seconds: float
    """Until the whole body is there."""
    response_seconds: float
    """Until it is answered, from there."""
    total_body_bytes: int = 256_000_000
    """Bytes of all bodies that are held at once."""


class RequestMiddleware:
    """An ASGI application around another one."""

    def __init__(
        self,
        app: ASGIApp,
        limits: RequestLimits,
        draining: threading.Event | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """While it is `draining`, each answer ends its connection, so that the client makes its next one elsewhere."""
        self._app = app
        self._tracing = tracing
        self._limits = limits
        self._draining = draining or threading.Event()
        self._budget = BodyBudget(limits.total_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _ResponseSender(send, request_id(scope), self._draining)
        started = time.perf_counter()
        trace = self._tracing.begin(scope) if self._tracing else None
        CURRENT.set(trace)
        try:
            await self._handle(scope, receive, answer)
        except Exception as error:
            await self._respond_with_error(error, scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "")
            count_request(scope, answer.status, seconds)
            if trace is not None:
                trace.end(route, answer.status, answer.identity)
            _log.info(
                "answered",
                request=answer.identity,
                method=scope["method"],
                route=route,
                status=answer.status,
                ms=round(seconds * 1_000, 1),
            )

    async def _handle(self, scope: Scope, receive: Receive, answer: _ResponseSender) -> None:
        _check_address(scope)
        with self._budget.share() as share:
            body = await read_body(scope, receive, self._limits.body_bytes, self._limits.body_seconds, share)
            try:
                async with asyncio.timeout(self._limits.response_seconds):
                    await self._app(scope, _BodyReplay(body, receive), answer.send)
            except TimeoutError:
                message = f"there was no answer within {self._limits.response_seconds:g} seconds"
                raise RequestError(504, message, retry_after=1) from None

    async def _respond_with_error(
        self, error: Exception, scope: Scope, receive: Receive, answer: _ResponseSender
    ) -> None:
        if not isinstance(error, RequestError):
            _log.exception("failed", request=answer.identity)
        if not answer.has_begun:
            refused = error_response(to_request_error(error), answer.identity, in_protocol=is_protocol_path(scope))
            await refused(scope, receive, answer.send)


def _check_address(scope: Scope) -> None:
    if not is_utf8(scope.get("raw_path") or b""):
        raise RequestError(400, describe_undecodable("path"), field="path")
    if (name := find_undecodable(scope.get("query_string", b""))) is not None:
        raise RequestError(400, describe_undecodable(name), field=name)


class _BodyReplay:
    """A body that was read, told once; afterwards what the client does."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _ResponseSender:
    """An answer on its way out."""

    def __init__(self, send: Send, identity: str, draining: threading.Event) -> None:
        self._send = send
        self._draining = draining
        self.identity = identity
        self.status = 0
        """0 while there is none."""

    @property
    def has_begun(self) -> bool:
        """Whether the client has its status."""
        return self.status > 0

    async def send(self, message: Message) -> None:
        """Adds what every answer carries."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.identity
            if self._draining.is_set():
                headers["Connection"] = "close"
            for name, value in _SAFE_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


# The body of a request, read whole before anything looks at it: bounded in bytes and in time, unpacked if gzipped.


class BodyBudget:
    """The bytes of all bodies that one server holds; for its event loop alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @contextmanager
    def share(self) -> Iterator[BodyShare]:
        """One request's part, given back when it is over."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self.held -= share.held

    def hold(self, size: int) -> None:
        """Raises RequestError (503) where there is no room for so many more."""
        if self.held + size > self._most:
            raise RequestError(503, "the server holds as many bytes of requests as it may; try again", retry_after=1)
        self.held += size


class BodyShare:
    """What one request holds of it."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.held = 0

    def hold(self, size: int) -> None:
        """So many bytes more; raises as `BodyBudget.hold`."""
        self._budget.hold(size)
        self.held += size


async def read_body(scope: Scope, receive: Receive, most: int, seconds: float, share: BodyShare) -> bytes:
    """Raises Refused for one of more than `most` bytes, unpacked or not (413), one that does not come within `seconds`
    (408), one for which there is no room (503), and one that is not what its encoding says (400, 415)."""
    headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"content-encoding")}
    told = headers.get(b"content-length", b"0")
    if told.isdigit() and int(told) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(seconds):
            body = await _receive_body(receive, most, share)
    except TimeoutError:
        raise RequestError(408, f"the body did not come within {seconds:g} seconds") from None
    match headers.get(b"content-encoding", b"").strip().lower():
        case b"" | b"identity":
            return body
        case b"gzip":
            return _decompress(body, most, share)
        case other:
            name = other.decode("latin-1")[:40]
            raise RequestError(
                415, f"a body may come as it is or with gzip, not with {name!r}", field="Content-Encoding"
            )


async def _receive_body(receive: Receive, most: int, share: BodyShare) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(400, "the client went away before its body had come")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        share.hold(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _decompress(body: bytes, most: int, share: BodyShare) -> bytes:
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        found = unpacking.decompress(body, most + 1)
    except zlib.error:
        raise RequestError(
            400, "the body is not gzip, as its Content-Encoding says", field="Content-Encoding"
        ) from None
    if len(found) > most:
        raise _too_large(most)
    if not unpacking.eof:
        raise RequestError(400, "the gzipped body ends too early", field="Content-Encoding")
    share.hold(len(found))
    return found


def _too_large(most: int) -> RequestError:
    return RequestError(413, f"the body may have at most {most:,} bytes; send it in parts", field="body")
