"""What every request goes through before the application sees it, and every answer on its way out.

A request gets an id, its address must be UTF-8, its body is read within bounds, and it must be answered by a deadline;
an answer gets the headers that keep browsers safe, and one line in the log, which holds no query, no key and nobody's
name.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.body import BodyBudget, read_body
from service.http.errors import Refused, as_refused, refusal
from service.http.identity import REQUEST_ID, request_id
from service.http.metrics import answered
from service.http.open_paths import is_open
from service.http.tracing import CURRENT, Tracing
from service.url_text import is_utf8, not_utf8, undecodable

_log = structlog.get_logger("shelfwise.http")
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may take."""

    body: int
    """Bytes."""
    body_seconds: float
    """Until the whole body is there."""
    seconds: float
    """Until it is answered, from there."""
    bodies: int = 256_000_000
    """Bytes of all bodies that are held at once."""


class Edge:
    """An ASGI application around another one."""

    def __init__(
        self, app: ASGIApp, bounds: Bounds, draining: threading.Event | None = None, tracing: Tracing | None = None
    ) -> None:
        """While it is `draining`, each answer ends its connection, so that the client makes its next one elsewhere."""
        self._app = app
        self._tracing = tracing
        self._bounds = bounds
        self._draining = draining or threading.Event()
        self._budget = BodyBudget(bounds.bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, request_id(scope), self._draining)
        started = time.perf_counter()
        trace = self._tracing.begin(scope) if self._tracing else None
        CURRENT.set(trace)
        try:
            await self._within_bounds(scope, receive, answer)
        except Exception as error:
            await self._failed(error, scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "")
            answered(scope, answer.status, seconds)
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

    async def _within_bounds(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        _check_address(scope)
        with self._budget.share() as share:
            body = await read_body(scope, receive, self._bounds.body, self._bounds.body_seconds, share)
            try:
                async with asyncio.timeout(self._bounds.seconds):
                    await self._app(scope, _Replayed(body, receive), answer.send)
            except TimeoutError:
                message = f"there was no answer within {self._bounds.seconds:g} seconds"
                raise Refused(504, message, retry_after=1) from None

    async def _failed(self, error: Exception, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if not isinstance(error, Refused):
            _log.exception("failed", request=answer.identity)
        if not answer.has_begun:
            refused = refusal(as_refused(error), answer.identity, in_protocol=is_open(scope))
            await refused(scope, receive, answer.send)


def _check_address(scope: Scope) -> None:
    if not is_utf8(scope.get("raw_path") or b""):
        raise Refused(400, not_utf8("path"), field="path")
    if (name := undecodable(scope.get("query_string", b""))) is not None:
        raise Refused(400, not_utf8(name), field=name)


class _Replayed:
    """A body that was read, told once; afterwards what the client does."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
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
