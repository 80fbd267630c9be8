"""Texts of a log as a message or a file may show them: writable, without personal data, and short."""

from __future__ import annotations

from retrieval.events.checking import MAX_QUERY
from retrieval.events.masking import Masker

_LONGEST_ADDRESS = 254
"""Characters of an e-mail address (RFC 5321, section 4.5.3.1.3: a path of 256 less its angle brackets)."""


def masked_text(text: str, masker: Masker, most: int) -> str:
    """A text masked and then cut to so many characters: half an address would no longer look like one."""
    masked = masker.masked(printable_text(text[:MAX_QUERY]))
    if len(text) > MAX_QUERY:
        # At the end may be half an address.
        masked = masked[:-_LONGEST_ADDRESS]
    return masked if len(masked) <= most and len(text) <= MAX_QUERY else f"{masked[:most]}..."


def printable_text(text: str) -> str:
    """A text as UTF-8 can write it."""
    return text.encode("utf-8", "replace").decode()
