"""Slow clients over real sockets: they are disconnected, and other clients get responses."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPException, HTTPResponse

import pytest
from fastapi import FastAPI, Request, Response

from shelfwise.service.app import DrainingServer
from shelfwise.service.http.connections import ConnectionLimiter, ConnectionLimits
from shelfwise.service.http.errors import handle_errors
from shelfwise.service.http.limits import WorkerThreads
from shelfwise.service.http.middleware import EarlyRefusals, RequestLimits, RequestMiddleware
from shelfwise.service.settings import ServiceSettings
from tests.machine import within

GET = b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n"
BOUNDS = ConnectionLimits(head_seconds=0.4, unread_seconds=0.6, total=8, per_address=6)


class Served:
    def __init__(self, bounds: ConnectionLimits) -> None:
        draining = threading.Event()
        self.threads = WorkerThreads(1, 1)
        self.limiter = ConnectionLimiter(bounds, EarlyRefusals(self.threads, draining, cross_origin=False))
        listener = socket.create_server(("127.0.0.1", 0), backlog=2_048)
        self.port: int = listener.getsockname()[1]
        self._server = DrainingServer(application(draining), ServiceSettings(), self.limiter, [listener], draining)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        assert within(60, lambda: self._server.started)

    def connected(self, kept: int | None = None) -> socket.socket:
        client = socket.socket()
        if kept is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kept)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        return client

    def stop(self) -> None:
        self._server.handle_exit(signal.SIGTERM, None)

    def close(self) -> None:
        self.stop()
        self._thread.join(20)
        self.threads.close()


def application(draining: threading.Event) -> FastAPI:
    app = FastAPI()
    handle_errors(app)

    @app.get("/small")
    async def small() -> str:
        return "here"

    @app.get("/health/live")
    async def live() -> str:
        return "alive"

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(50_000_000))

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(RequestMiddleware, limits=RequestLimits(1_000_000, 0.4, 5.0), draining=draining)
    return app


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfwise.service.http.connections._LINGER_SECONDS", 0.3)
    monkeypatch.setattr("shelfwise.service.http.connections._LAST_REQUEST_SECONDS", 0.3)
    monkeypatch.setattr("shelfwise.service.app._QUEUE_SECONDS", 0.05)


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with closing(Served(getattr(request, "param", BOUNDS))) as server:
        yield server


patient = pytest.mark.parametrize("served", [replace(BOUNDS, head_seconds=20.0)], indirect=True)


def status(client: socket.socket) -> int:
    """The status of a response, which is read to its end: head and body may arrive separately."""
    response = HTTPResponse(client)
    response.begin()
    response.read()
    return response.status


def is_closed_after(client: socket.socket, part: bytes) -> float:
    """Seconds until a client that sends another `part` every twentieth of a second is disconnected."""
    started = time.monotonic()
    client.settimeout(0.05)
    while time.monotonic() - started < 10:
        try:
            client.sendall(part)
            if client.recv(65_536) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - started


@pytest.mark.parametrize("first", [b"", b"GET /small HTTP/1.1\r\nX: "])
def test_unfinished_request_head_times_out(served: Served, first: bytes) -> None:
    with served.connected() as slow, served.connected() as other:
        slow.sendall(first)
        other.sendall(GET)
        assert status(other) == 200
        assert 0.3 < is_closed_after(slow, b"x" if first else b"") < 3


def test_connection_continues_after_a_search_without_a_place(served: Served) -> None:
    search = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    with served.connected() as client:
        for places, sent, expected in ((2, search, 503), (2, GET, 200), (2, search, 503), (0, search, 404)):
            served.threads.in_progress = places
            client.sendall(sent)
            assert status(client) == expected
        served.threads.in_progress = 2
        client.sendall(search[:-1])
        time.sleep(0.05)
        client.sendall(search[-1:])
        assert status(client) == 404, "in two parts it is the application's"


def test_later_request_heads_have_the_same_timeout(served: Served) -> None:
    with served.connected() as slow:
        for _ in range(3):  # longer than the time limit of one head
            slow.sendall(GET)
            assert status(slow) == 200
            time.sleep(0.2)
        slow.sendall(b"GET /small HTTP/1.1\r\nX: ")
        assert is_closed_after(slow, b"x") < 3


def test_slow_body_is_refused_without_reading_the_rest(served: Served) -> None:
    with served.connected() as slow:
        slow.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n")
        started = time.monotonic()
        while time.monotonic() - started < 0.3:
            slow.sendall(b"x")
            time.sleep(0.05)
        assert status(slow) == 408
        assert is_closed_after(slow, b"x") < 3


def test_unread_response_is_aborted(served: Served) -> None:
    clients = [served.connected(kept=4_096) for _ in range(3)]
    for client in clients:
        client.sendall(GET.replace(b"small", b"large"))
    with served.connected() as other:
        other.sendall(GET)
        assert status(other) == 200
    assert within(60, lambda: served.limiter.total == 0)
    for client in clients:
        client.close()


def test_slowly_read_response_is_complete(served: Served) -> None:
    with served.connected() as client:
        client.sendall(GET.replace(b"small", b"large"))
        read = 0
        while read < 50_000_000:
            part = client.recv(2_000_000)
            assert part, f"closed after {read} bytes"
            read += len(part)
            time.sleep(0.001)


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01 no HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
        b"GET /small HTTP/1.1\nHost: a\n\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\n\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\n\tX: 1\r\n\r\n",
        b"GET /small HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\na",
        # A proxy that uses the other length would read the second request as part of the body (request smuggling).
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + GET,
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
    ],
)
def test_invalid_http_is_refused_in_the_error_format(served: Served, head: bytes) -> None:
    with served.connected() as client:
        client.sendall(head)
        head, _, body = b"".join(iter(lambda: client.recv(65_536), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in head.lower()
        assert set(json.loads(body)["error"]) == {"code", "message", "field", "request_id"}


@patient
def test_connections_per_address_are_limited(served: Served) -> None:
    held = [served.connected() for _ in range(6)]
    assert within(60, lambda: served.limiter.total == 6)
    with served.connected() as one_more, served.connected() as probe:
        one_more.sendall(GET)
        answer = b"".join(iter(lambda: one_more.recv(65_536), b""))
        assert answer.split(b" ", 2)[1] == b"503"
        assert b"retry-after: 5" in answer.lower()
        assert b'"code":"unavailable"' in answer
        probe.sendall(GET.replace(b"/small", b"/health/live"))
        assert status(probe) == 200
    for client in held:
        client.close()
    assert within(60, lambda: served.limiter.total == 0)
    with served.connected() as again:
        again.sendall(GET)
        assert status(again) == 200


@patient
def test_connections_over_the_hard_limit_are_closed(served: Served) -> None:
    held = [served.connected() for _ in range(16)]
    assert within(60, lambda: served.limiter.total >= 16)
    with served.connected() as one_more:
        assert is_closed_after(one_more, b"") < 1
    for client in held:
        client.close()


@pytest.mark.parametrize(
    ("proxies", "address", "allowed"),
    [
        ((), "10.0.0.7", False),
        (("10.0.0.0/8",), "10.0.0.7", True),
        (("10.0.0.7",), "10.0.0.7", True),
        (("10.0.0.7", "proxy.local"), "10.0.0.8", False),
        (("*",), "10.0.0.8", True),
        (("2001:db8::/32",), "2001:db8::1", True),
    ],
)
def test_trusted_proxy_is_not_limited(proxies: tuple[str, ...], address: str, allowed: bool) -> None:
    limiter = ConnectionLimiter(ConnectionLimits(total=100, per_address=2, proxies=proxies))
    assert [limiter.enter(address) for _ in range(3)] == [True, True, allowed]


def test_an_ipv6_network_is_one_address() -> None:
    limiter = ConnectionLimiter(ConnectionLimits(total=100, per_address=2))
    assert [limiter.enter(f"2001:db8:1:2::{last}") for last in range(3)] == [True, True, False]
    limiter.leave("2001:db8:1:2::9")
    limiter.leave("2001:db8:1:2::8")
    assert limiter.enter("2001:db8:1:2::7")
    assert limiter.enter("2001:db8:1:3::1")


@pytest.mark.parametrize("served", [replace(BOUNDS, total=1_000, per_address=1_000)], indirect=True)
def test_stop_resets_no_new_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfwise.service.app._QUEUE_SECONDS", 0.5)
    outcomes: list[str] = []

    def connect(pause: float) -> None:
        while True:
            try:
                client = served.connected()
            except ConnectionRefusedError:
                return
            with client:
                time.sleep(pause)
                try:
                    client.sendall(GET)
                    outcomes.append(str(status(client)))
                except (OSError, HTTPException) as error:
                    outcomes.append(repr(error))

    clients = [threading.Thread(target=connect, args=(pause,)) for pause in (0, 0, 0, 0, 0.005, 0.02)]
    for client in clients:
        client.start()
    assert within(60, lambda: len(outcomes) > 100)
    served.stop()
    for client in clients:
        client.join(20)
    assert set(outcomes) == {"200"}


@pytest.mark.parametrize("served", [replace(BOUNDS, head_seconds=20.0)], indirect=True)
def test_stop_answers_what_waiting_connections_send_and_closes_the_others(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.service.http.connections._LAST_REQUEST_SECONDS", 2.0)
    with served.connected() as fresh, served.connected() as kept, served.connected() as silent:
        kept.sendall(GET)
        assert status(kept) == 200
        served.stop()
        assert within(60, lambda: not is_listening(served))
        for client in (fresh, kept):
            client.sendall(GET)
            assert status(client) == 200
            assert client.recv(1) == b""
        assert silent.recv(1) == b""


def is_listening(served: Served) -> bool:
    try:
        served.connected().close()
    except ConnectionRefusedError:
        return False
    return True
