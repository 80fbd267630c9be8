"""Properties of a request that hold before it is handled: its id, whether it is an InstantSearch one, valid UTF-8."""

from __future__ import annotations

import random
import re
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

REQUEST_ID = "X-Request-ID"
PREFIX = "/1/"
"""The paths of the InstantSearch protocol, which pages of any origin may call."""
UPLOAD_PREFIX = "/v1/feeds/uploads/"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
EXTENSION = "shelfwise_extend_deadline"
"""The key of a request's scope under which is the function that gives it the time of a write."""
INDEX = "shelfwise_index"
"""The key of a request's scope under which is the name of the index in its path."""
_SCOPE_KEY = "shelfwise_request_id"
_MOST_NAME = 100


def request_id(scope: Scope) -> str:
    """The client's X-Request-ID if it is valid, else a new id; the same on every call for a request."""
    known = scope.get(_SCOPE_KEY)
    if known is None:
        header = next((value for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()), b"")
        given = header.decode("latin-1")
        # Of no secret: the system's random bytes would let go of Python's lock while the service is busy.
        known = given if _VALID_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        scope[_SCOPE_KEY] = known
    return str(known)


def is_protocol_path(scope: Scope) -> bool:
    """Whether a request is for an InstantSearch path."""
    return scope["type"] == "http" and str(scope["path"]).startswith(PREFIX)


def is_upload(scope: Scope) -> bool:
    """Whether a request's body is a file, which its route writes to the disk as it arrives."""
    return scope["type"] == "http" and scope["method"] == "PUT" and str(scope["path"]).startswith(UPLOAD_PREFIX)


def is_utf8(text: bytes) -> bool:
    """Whether URL-encoded text is UTF-8 after decoding: other bytes would be searched for as replacement characters."""
    if b"%" not in text and text.isascii():
        return True
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def find_undecodable(pairs: bytes) -> str | None:
    """The name of the first of `name=value&...` that is not UTF-8, its own invalid bytes escaped as "\\xff"."""
    if is_utf8(pairs):
        return None
    broken = next(pair for pair in pairs.split(b"&") if not is_utf8(pair))
    name = unquote_to_bytes(broken.partition(b"=")[0])
    return name.decode(errors="backslashreplace")[:_MOST_NAME]


def describe_undecodable(name: str) -> str:
    """The error message for a part of a request that is not UTF-8."""
    return f"{name} is not valid UTF-8; escape text as UTF-8, such as %C3%A9 for é"
