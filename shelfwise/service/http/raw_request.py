"""Properties of a request before it is handled: its id, whether it uses the InstantSearch protocol, valid UTF-8."""

from __future__ import annotations

import random
import re
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import Scope

REQUEST_ID = "X-Request-ID"
PREFIX = "/1/"
"""Prefix of the InstantSearch paths, which pages of any origin may call."""
UPLOAD_PREFIX = "/v1/feeds/uploads/"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
EXTENSION = "shelfwise_extend_deadline"
"""Key in a request's scope for the function that extends its time limit to that of a write."""
INDEX = "shelfwise_index"
"""Key in a request's scope for the name of the index in its path."""
_SCOPE_KEY = "shelfwise_request_id"
_MAX_NAME = 100


def request_id(scope: Scope) -> str:
    """The client's X-Request-ID if it is valid, else a new id; the same on every call for a request."""
    identity = scope.get(_SCOPE_KEY)
    if identity is None:
        header = next((value for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()), b"")
        text = header.decode("latin-1")
        # Not a secret; reading the system's random bytes would release Python's lock while the service is busy.
        identity = text if _VALID_ID.fullmatch(text) else f"{random.getrandbits(128):032x}"
        scope[_SCOPE_KEY] = identity
    return str(identity)


def header_key(scope: Scope) -> str:
    """The key in a request's headers, in whichever an interface uses; empty if there is none."""
    headers = Headers(scope=scope)
    kind, _, bearer = headers.get("authorization", "").partition(" ")
    keys = (bearer if kind.lower() == "bearer" else "", headers.get("x-api-key"), headers.get("x-algolia-api-key"))
    return next((key for key in keys if key), "")


def is_protocol_path(scope: Scope) -> bool:
    """Whether a request is for an InstantSearch path."""
    return scope["type"] == "http" and str(scope["path"]).startswith(PREFIX)


def is_upload(scope: Scope) -> bool:
    """Whether a request's body is a file, which its route writes to disk as it arrives."""
    return scope["type"] == "http" and scope["method"] == "PUT" and str(scope["path"]).startswith(UPLOAD_PREFIX)


def is_utf8(text: bytes) -> bool:
    """Whether URL-encoded text is UTF-8 after decoding; other bytes would be searched for as replacement characters."""
    if b"%" not in text and text.isascii():
        return True
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def find_undecodable(pairs: bytes) -> str | None:
    """The first name of `name=value&...` that, or whose value, is not UTF-8; invalid bytes escaped as "\\xff"."""
    if is_utf8(pairs):
        return None
    broken = next(pair for pair in pairs.split(b"&") if not is_utf8(pair))
    name = unquote_to_bytes(broken.partition(b"=")[0])
    return name.decode(errors="backslashreplace")[:_MAX_NAME]


def describe_undecodable(name: str) -> str:
    """The error message for a part of a request that is not UTF-8."""
    return f"{name} is not valid UTF-8; escape text as UTF-8, such as %C3%A9 for é"
