"""Connection limits: time to receive a request's head, time to read a response, connections per address; and closing
connections without a reset.

uvicorn bounds none of the three, and resets connections that it closes before their first request.
"""

from __future__ import annotations

import asyncio
import ctypes
import re
import socket
import struct
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
import numpy as np
import structlog
from h11._receivebuffer import ReceiveBuffer, blank_line_regex
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from shelfwise.retrieval.events.addresses import address_group
from shelfwise.service.http.errors import RequestError, error_response
from shelfwise.service.http.middleware import EarlyRefusals
from shelfwise.service.http.raw_request import request_id
from shelfwise.service.http.telemetry import CONNECTIONS_CLOSED
from shelfwise.service.worker_group import SharedCounts, WorkerGroup

_log = structlog.get_logger("shelfwise.connections")
_LAST_REQUEST_SECONDS = 2.0
"""Seconds that an idle connection has to send a last request, which is answered, when the server stops."""
_LINGER_SECONDS = 2.0
"""Seconds that a client has to finish sending and read the response, if it got one before its whole body was sent."""

_YIELD_SECONDS = 0.002
"""Seconds for which a worker leaves a new connection to a worker with fewer connections."""
_RETRY_SECONDS = 1.0
"""Seconds until a process without free file descriptors accepts connections again."""
_BACKLOG = 2_048
_MAX_ADDRESSES = 1 << 12
_LENIENT_LINE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of connections."""

    head_seconds: float = 10.0
    """Time until the head of a request is received."""
    unread_seconds: float = 30.0
    """Time until the client has read what was sent."""
    total: int = 1_000
    """Maximum number of connections; further ones are refused with 503, and closed above twice as many."""
    per_address: int = 500
    """Maximum number of connections from one address."""
    proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies, to which `per_address` does not apply."""


class ConnectionLimiter:
    """Counts the connections of a service by address, for the event loop of one of its workers."""

    def __init__(
        self, limits: ConnectionLimits, refusals: EarlyRefusals | None = None, group: WorkerGroup | None = None
    ) -> None:
        """`refusals` refuses searches while the queue is full; not for proxies, whose clients have other addresses."""
        group = group or WorkerGroup()
        self.limits = limits
        self._refusals = refusals
        self._by_address = SharedCounts(group, "connections", _MAX_ADDRESSES)
        self._by_address.clear()
        self.workers = group.count
        self._own = group.number
        self._open = group.array("open", (), np.int64)
        """Number of connections of each worker, shape (workers,)."""
        self._open[self._own] = 0
        self._proxies = _TrustedHosts(list(limits.proxies))

    def enter(self, address: str) -> bool:
        """Counts a new connection; returns whether it is within the limits."""
        group = address_group(address)
        self._by_address.add(group, 1)
        self._open[self._own] += 1
        if self.total > self.limits.total:
            return False
        return self._by_address.total(group) <= self.limits.per_address or self._is_proxy(address)

    def leave(self, address: str) -> None:
        """Removes a connection from the count."""
        self._by_address.add(address_group(address), -1)
        self._open[self._own] -= 1

    def refusals_of(self, address: str) -> EarlyRefusals | None:
        """The early refusals for connections from an address."""
        return None if self._refusals is None or self._is_proxy(address) else self._refusals

    @property
    def is_overrun(self) -> bool:
        """Whether there are too many connections to answer each with 503."""
        return self.total > 2 * self.limits.total

    @property
    def total(self) -> int:
        """Number of connections of all workers."""
        return int(self._open.sum())

    @property
    def has_most(self) -> bool:
        """Whether another worker has fewer connections."""
        return bool(self._open[self._own] > self._open.min())

    def _is_proxy(self, address: str) -> bool:
        return not address or address in self._proxies


class _StrictBuffer(ReceiveBuffer):
    """Bytes that were received. Unlike h11's, it refuses lines that end with a bare LF, and folded lines: a proxy may
    read them otherwise (RFC 9112, sections 2.2 and 5.2)."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """The lines up to the first blank one."""
        end = blank_line_regex.search(self._data, self._multiple_lines_search)
        if self._data.startswith(b"\n") or (end and _LENIENT_LINE.search(self._data, 0, end.end())):
            raise h11.LocalProtocolError("a line is folded, or does not end with CR LF")
        return super().maybe_extract_lines()


class LimitedProtocol(H11Protocol):
    """One connection, closed when its client exceeds a limit."""

    def __init__(
        self,
        limiter: ConnectionLimiter,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn._receive_buffer = _StrictBuffer()
        self._limiter = limiter
        self._address = ""
        self._refusals: EarlyRefusals | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        """The running timers by the reason for which they close the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's signature
        """Starts the timer of the first head."""
        super().connection_made(transport)
        # Without a write buffer, pause_writing is called as soon as the client leaves a byte unread.
        transport.set_write_buffer_limits(high=0)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        self._refusals = self._limiter.refusals_of(self._address)
        if not self._limiter.enter(self._address):
            CONNECTIONS_CLOSED.labels("too many").inc()
            self.app = _OverCapacity(self.app)
        if self._limiter.is_overrun:
            transport.abort()
            return
        self._close_after(self._limiter.limits.head_seconds, "head")

    def data_received(self, data: bytes) -> None:
        """Stops the timer when the head is complete; the middleware has a timer for the body."""
        if self._refusals and self._is_between_requests():
            refusal = self._refusals.respond(data, self._address, self.server_state.default_headers)
            if refusal is not None:
                self._send_refusal(refusal)
                return
        if self.conn.their_state is h11.IDLE:
            self._close_after(self._limiter.limits.head_seconds, "head")
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or self.conn.our_state is not h11.IDLE:
            self._cancel("head")

    def on_response_complete(self) -> None:
        """Limits the wait for the rest of a body that is not read."""
        super().on_response_complete()
        if self._is_answered_early():
            self._close_after(_LINGER_SECONDS, "body", self._is_answered_early)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's message
        """Refuses an invalid or too long head with an error response of the usual shape."""
        error = RequestError(400, "the request is not valid HTTP, or its head is too long")
        response = error_response(error, uuid.uuid4().hex)
        headers = [*response.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def pause_writing(self) -> None:
        """Starts the timer of an unread response."""
        super().pause_writing()
        self._close_after(self._limiter.limits.unread_seconds, "unread")

    def resume_writing(self) -> None:
        """Stops the timer of an unread response."""
        super().resume_writing()
        self._cancel("unread")

    def shutdown(self) -> None:
        """Closes the connection after the response in progress, or to a request that may be on its way."""
        if self._is_waiting():
            self._timers["stop"] = self.loop.call_later(_LAST_REQUEST_SECONDS, self._close_if_waiting)
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops all timers."""
        super().connection_lost(exc)
        self._limiter.leave(self._address)
        for timer in self._timers.values():
            timer.cancel()

    def _is_between_requests(self) -> bool:
        states = {self.conn.our_state, self.conn.their_state}
        return states == {h11.IDLE} and not self.conn.trailing_data[0]

    def _send_refusal(self, response: bytes) -> None:
        """Sends a whole response, after which the connection waits for the next request."""
        self._unset_keepalive_if_required()
        self._cancel("head")
        self.transport.write(response)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _is_waiting(self) -> bool:
        """Whether no request is in progress; the next one may have begun to arrive."""
        return self.cycle is None or self.cycle.response_complete

    def _close_if_waiting(self) -> None:
        if self._is_waiting():
            super().shutdown()

    def _is_answered_early(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _close_after(self, seconds: float, reason: str, is_due: Callable[[], bool] = lambda: True) -> None:
        """Starts a timer, unless one with this reason runs."""

        def close() -> None:
            del self._timers[reason]
            if is_due():
                CONNECTIONS_CLOSED.labels(reason).inc()
                self.transport.abort()

        if reason not in self._timers:
            self._timers[reason] = self.loop.call_later(seconds, close)

    def _cancel(self, reason: str) -> None:
        if timer := self._timers.pop(reason, None):
            timer.cancel()


class _OverCapacity:
    """The application of a connection beyond the limits: answers 503, except to liveness probes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/health/live":
            await self._app(scope, receive, send)
            return
        error = RequestError(503, "too many connections; close some, or try again later", retry_after=5)
        response = error_response(error, request_id(scope))
        response.headers["Connection"] = "close"
        await response(scope, receive, send)


class Acceptor:
    """Accepts connections from a listening socket that several workers share: one at a time, and later than a worker
    with fewer connections. If a worker accepted all waiting connections, as asyncio does, it would get most of the
    clients that keep theirs open."""

    def __init__(
        self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol], limiter: ConnectionLimiter
    ) -> None:
        """Starts accepting in the running event loop."""
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self._listener = listener
        self._make_protocol = make_protocol
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[Any]] = set()
        self._loop.add_reader(listener, self._on_connection)

    async def close(self) -> None:
        """Stops accepting, and completes the connections that were accepted."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._loop.remove_reader(self._listener)
        await asyncio.gather(*self._opening, return_exceptions=True)
        self._listener.close()

    def _on_connection(self) -> None:
        if self._limiter.has_most:
            self._pause(_YIELD_SECONDS)
        else:
            self._accept()

    def _pause(self, seconds: float) -> None:
        """Leaves connections to other workers for a moment, then accepts one."""
        self._loop.remove_reader(self._listener)
        self._waiting = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._on_connection)
        self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # another worker was faster
            return
        except OSError as error:
            _log.error("connection not accepted", error=error.strerror)
            self._pause(_RETRY_SECONDS)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)


_SO_ATTACH_FILTER = 26
_DROP_SYN = struct.pack("=HBBIHBBIHBBIHBBI", 0x30, 0, 0, 13, 0x45, 0, 1, 0x02, 0x06, 0, 0, 0, 0x06, 0, 0, 0xFFFF_FFFF)
"""A classic BPF program for TCP segments: load the flags byte, drop segments with SYN, keep all others."""


def refuse_new_connections(listener: socket.socket) -> None:
    """Makes the kernel drop further attempts to connect to a listening socket, so that its queue can be emptied.

    Closing the socket resets the connections in its queue, and more could arrive between the last accept and the close.
    A client whose attempt was dropped tries again within a second, and is refused once the socket is closed. Does
    nothing if the kernel has no such filter, as outside Linux.
    """
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    with suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
        )
