"""Limits of connections: time for a request's head, time to read an answer, and how many an address may hold.

uvicorn bounds none of the three.
"""

from __future__ import annotations

import asyncio
import ipaddress
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from service.http.errors import RequestError, error_response
from service.http.metrics import CONNECTIONS_CLOSED
from service.http.request import request_id

_LINGER_SECONDS = 2.0
"""A client that was answered before its body was there has so long to end it, and to read the answer."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What connections may take."""

    head_seconds: float = 10.0
    """Until the head of a request is there."""
    unread_seconds: float = 30.0
    """Until what was sent is read."""
    total: int = 1_000
    per_address: int = 500
    proxies: tuple[str, ...] = ()
    """Addresses and networks that speak for many clients: they may hold as many as there are."""


class ConnectionLimiter:
    """Counts the connections of one server by address; for its event loop alone."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._of: Counter[str] = Counter()
        self._all = 0
        self._proxies = [network for each in limits.proxies if (network := _network(each)) is not None]
        self._is_open = "*" in limits.proxies

    def enter(self, address: str) -> bool:
        """Whether one more may be answered; it is counted in any case."""
        self._of[address] += 1
        self._all += 1
        if self._all > self.limits.total:
            return False
        return self._of[address] <= self.limits.per_address or self._is_proxy(address)

    def leave(self, address: str) -> None:
        """It is gone."""
        self._all -= 1
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]

    @property
    def is_overrun(self) -> bool:
        """Whether there are more than can even be told that there are too many."""
        return self._all > 2 * self.limits.total

    def _is_proxy(self, address: str) -> bool:
        if self._is_open or not address:
            return True
        there = ipaddress.ip_address(address)
        return any(there in network for network in self._proxies)


class LimitedProtocol(H11Protocol):
    """One connection."""

    def __init__(
        self,
        limiter: ConnectionLimiter,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limiter = limiter
        self._address = ""
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._ending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The time for the first head begins."""
        super().connection_made(transport)
        # Any byte that the client does not take is told at once, by pause_writing.
        transport.set_write_buffer_limits(high=0)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        if not self._limiter.enter(self._address):
            CONNECTIONS_CLOSED.labels("too many").inc()
            self.app = _OverCapacity(self.app)
        if self._limiter.is_overrun:
            transport.abort()
            return
        self._head = self._after(self._limiter.limits.head_seconds, "head")

    def data_received(self, data: bytes) -> None:
        """A part of a head, or of a body, for which the application has its own time."""
        if self._head is None and self.conn.their_state is h11.IDLE:
            self._head = self._after(self._limiter.limits.head_seconds, "head")
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or self.conn.our_state is not h11.IDLE:
            _cancel(self._head)
            self._head = None

    def on_response_complete(self) -> None:
        """Does not wait for the rest of a body that nobody reads."""
        super().on_response_complete()
        if self._ending is None and self._is_answered_early():
            self._ending = self._after(_LINGER_SECONDS, "body", self._is_answered_early)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """What is no HTTP, and what has too long a head, is refused in the shape of every refusal."""
        refused = RequestError(400, "this is no HTTP request that can be read, or its head is too long")
        answer = error_response(refused, uuid.uuid4().hex)
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def pause_writing(self) -> None:
        """Something was sent that the client has not taken."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self._after(self._limiter.limits.unread_seconds, "unread")

    def resume_writing(self) -> None:
        """It has taken it."""
        super().resume_writing()
        _cancel(self._unread)
        self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        self._limiter.leave(self._address)
        for timer in (self._head, self._unread, self._ending):
            _cancel(timer)

    def _is_answered_early(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _after(self, seconds: float, reason: str, still: Callable[[], bool] = lambda: True) -> asyncio.TimerHandle:
        def let_go() -> None:
            self._ending = None
            if still():
                CONNECTIONS_CLOSED.labels(reason).inc()
                self.transport.abort()

        return self.loop.call_later(seconds, let_go)


class _OverCapacity:
    """Answers in the place of an application that has too many connections; that the process lives, it still says."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/health/live":
            await self._app(scope, receive, send)
            return
        full = RequestError(503, "there are too many connections; close some, or come back later", retry_after=5)
        answer = error_response(full, request_id(scope))
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)


def _network(told: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """None for what is a name: a connection has an address."""
    try:
        return ipaddress.ip_network(told, strict=False)
    except ValueError:
        return None


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
