"""URL-encoded text of UTF-8: bytes that are none would be searched for as replacement characters, and found nowhere."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

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


def undecodable(pairs: bytes) -> str | None:
    """The name of the first of `name=value&...` that is no UTF-8; what of the name is none is in it as "\\xff"."""
    if is_utf8(pairs):
        return None
    broken = next(pair for pair in pairs.split(b"&") if not is_utf8(pair))
    name = unquote_to_bytes(broken.partition(b"=")[0])
    return name.decode(errors="backslashreplace")[:_MOST_NAME]


def not_utf8(name: str) -> str:
    """What is said of it."""
    return f"{name} holds bytes that are no UTF-8; escape text as UTF-8, such as %C3%A9 for é"
