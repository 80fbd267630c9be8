"""What is known of a request before it is answered: its id, whether its path is open to all, its text in addresses."""

from __future__ import annotations

import re
import uuid
from urllib.parse import unquote_to_bytes

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The id of a request: the client's own where it is a plain one, else a new one; in the log and in every answer.

REQUEST_ID = "X-Request-ID"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = "shelfwise_request_id"


def request_id(scope: Scope) -> str:
    """The same for a request each time it is asked for."""
    known = scope.get(_KEY)
    if known is None:
        given = next((value for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()), b"")
        told = given.decode("latin-1")
        known = told if _PLAIN.fullmatch(told) else uuid.uuid4().hex
        scope[_KEY] = known
    return str(known)


# The paths of the InstantSearch protocol, which pages of any origin may ask: what browsers want to hear of that.

PREFIX = "/1/"
_ANY_ORIGIN = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "X-Request-ID, Retry-After"}
_PREFLIGHT = {
    **_ANY_ORIGIN,
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


def is_protocol_path(scope: Scope) -> bool:
    """Whether a request is for one of them."""
    return scope["type"] == "http" and str(scope["path"]).startswith(PREFIX)


class ProtocolCorsMiddleware:
    """An ASGI application around another one. No cookie counts here: who asks is told by a key alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        if not is_protocol_path(scope):
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await Response(None, 204, _PREFLIGHT)(scope, receive, send)
        else:
            await self._app(scope, receive, _ProtocolCorsSender(send))


class _ProtocolCorsSender:
    """An answer on its way to a page of any origin."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_ANY_ORIGIN)
            # Those of the settings' origins, who may send cookies elsewhere.
            del headers["Access-Control-Allow-Credentials"]
        await self._send(message)


# URL-encoded text of UTF-8: bytes that are none would be searched for as replacement characters, and found nowhere.

_MOST_NAME = 100


def is_utf8(text: bytes) -> bool:
    """Whether what is escaped, and what is not, is UTF-8."""
    if b"%" not in text and text.isascii():
        return True
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def find_undecodable(pairs: bytes) -> str | None:
    """The name of the first of `name=value&...` that is no UTF-8; what of the name is none is in it as "\\xff"."""
    if is_utf8(pairs):
        return None
    broken = next(pair for pair in pairs.split(b"&") if not is_utf8(pair))
    name = unquote_to_bytes(broken.partition(b"=")[0])
    return name.decode(errors="backslashreplace")[:_MOST_NAME]


def describe_undecodable(name: str) -> str:
    """What is said of it."""
    return f"{name} holds bytes that are no UTF-8; escape text as UTF-8, such as %C3%A9 for é"
