"""The body of a request, read whole before anything looks at it: bounded in bytes and in time, unpacked if gzipped."""

from __future__ import annotations

import asyncio
import zlib

from starlette.types import Receive, Scope

from service.http.errors import Refused


async def read_body(scope: Scope, receive: Receive, most: int, seconds: float) -> bytes:
    """Raises Refused for one of more than `most` bytes, unpacked or not (413), one that does not come within `seconds`
    (408), and one that is not what its encoding says (400, 415)."""
    headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"content-encoding")}
    told = headers.get(b"content-length", b"0")
    if told.isdigit() and int(told) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(seconds):
            body = await _received(receive, most)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {seconds:g} seconds") from None
    match headers.get(b"content-encoding", b"").strip().lower():
        case b"" | b"identity":
            return body
        case b"gzip":
            return _unpacked(body, most)
        case other:
            name = other.decode("latin-1")[:40]
            raise Refused(415, f"a body may come as it is or with gzip, not with {name!r}", field="Content-Encoding")


async def _received(receive: Receive, most: int) -> bytes:
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
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _unpacked(body: bytes, most: int) -> bytes:
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        found = unpacking.decompress(body, most + 1)
    except zlib.error:
        raise Refused(400, "the body is not gzip, as its Content-Encoding says", field="Content-Encoding") from None
    if len(found) > most:
        raise _too_large(most)
    if not unpacking.eof:
        raise Refused(400, "the gzipped body ends too early", field="Content-Encoding")
    return found


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body may have at most {most:,} bytes; send it in parts", field="body")
