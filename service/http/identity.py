"""The id of a request: the client's own where it is a plain one, else a new one; in the log and in every answer."""

from __future__ import annotations

import re
import uuid

from starlette.types import Scope

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
