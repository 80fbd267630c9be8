"""What a request of the protocol says, from its raw body: the libraries send JSON under any content type, or a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast
from urllib.parse import parse_qsl

import msgspec

from retrieval.errors import QueryError
from service.url_text import not_utf8, undecodable

Said = Mapping[str, object]
"""A JSON object whose values nobody has checked yet."""
_MOST_PAIRS = 1_000


def said_by(body: bytes) -> Said:
    """The object that a body is, in JSON or as a form; an empty one where there is none. Raises QueryError."""
    stripped = body.strip()
    if not stripped:
        return {}
    return _object(stripped, "the body") if stripped[:1] in b"{[" else form(stripped)


def form(text: bytes) -> Said:
    """The pairs of a URL-encoded text, the last of each name; raises QueryError for too many, or what is no UTF-8."""
    if (name := undecodable(text)) is not None:
        raise QueryError(not_utf8(name))
    try:
        return dict(parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=_MOST_PAIRS))
    except ValueError:
        raise QueryError(f"params may have at most {_MOST_PAIRS:,} of them") from None


def with_parameters(said: Said) -> Said:
    """The same with what `params`, one URL-encoded text, says beside it; v4 of the library sends that."""
    packed = said.get("params")
    if packed is None:
        return said
    if not isinstance(packed, str):
        raise QueryError("params must be one URL-encoded text, such as 'query=drill&page=1'")
    return {**form(packed.encode()), **{name: value for name, value in said.items() if name != "params"}}


def objects(said: Said, name: str, most: int) -> Sequence[Said]:
    """A list of objects, such as `requests`; raises QueryError for anything else, or more than `most` of them."""
    found = said.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise QueryError(f"{name} must be a list of objects")
    if len(found) > most:
        raise QueryError(f"{name} has {len(found)} entries, at most {most} are answered at once")
    return cast(Sequence[Said], found)


def json_value(text: str | bytes, what: str) -> object:
    """What a JSON text says; raises QueryError, which begins with `what`."""
    try:
        return cast(object, msgspec.json.decode(text))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise QueryError(f"{what} is no JSON: {error}") from None


def _object(text: bytes, what: str) -> Said:
    value = json_value(text, what)
    if not isinstance(value, dict):
        raise QueryError(f"{what} must be a JSON object")
    return cast(Said, value)
