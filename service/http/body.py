"""The body of a request, read whole before anything looks at it: bounded in bytes and in time, unpacked if gzipped."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive, Scope

from service.http.errors import Refused


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
        """Raises Refused (503) where there is no room for so many more."""
        if self.held + size > self._most:
            raise Refused(503, "the server holds as many bytes of requests as it may; try again", retry_after=1)
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
            body = await _received(receive, most, share)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {seconds:g} seconds") from None
    match headers.get(b"content-encoding", b"").strip().lower():
        case b"" | b"identity":
            return body
        case b"gzip":
            return _unpacked(body, most, share)
        case other:
            name = other.decode("latin-1")[:40]
            raise Refused(415, f"a body may come as it is or with gzip, not with {name!r}", field="Content-Encoding")


async def _received(receive: Receive, most: int, share: BodyShare) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client went away before its body had come")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        share.hold(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _unpacked(body: bytes, most: int, share: BodyShare) -> bytes:
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        found = unpacking.decompress(body, most + 1)
    except zlib.error:
        raise Refused(400, "the body is not gzip, as its Content-Encoding says", field="Content-Encoding") from None
    if len(found) > most:
        raise _too_large(most)
    if not unpacking.eof:
        raise Refused(400, "the gzipped body ends too early", field="Content-Encoding")
    share.hold(len(found))
    return found


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body may have at most {most:,} bytes; send it in parts", field="body")
