"""The paths of the InstantSearch protocol, which pages of any origin may ask: what browsers want to hear of that."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/1/"
_ANY_ORIGIN = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "X-Request-ID, Retry-After"}
_PREFLIGHT = {
    **_ANY_ORIGIN,
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


def is_open(scope: Scope) -> bool:
    """Whether a request is for one of them."""
    return scope["type"] == "http" and str(scope["path"]).startswith(PREFIX)


class OpenPaths:
    """An ASGI application around another one. No cookie counts here: who asks is told by a key alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        if not is_open(scope):
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await Response(None, 204, _PREFLIGHT)(scope, receive, send)
        else:
            await self._app(scope, receive, _Opened(send))


class _Opened:
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
