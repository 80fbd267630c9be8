"""Texts of values for terminals, reports and messages."""

from __future__ import annotations

import unicodedata

NOTHING = "–"
"""Shown in place of an unknown value."""


def printable(text: str) -> str:
    """Text from a feed for a terminal: without control characters, which could have any effect there."""
    return "".join("\ufffd" if unicodedata.category(character) == "Cc" else character for character in text)


def share_text(share: float | None) -> str:
    """A share in percent; 100% or 0% only if it is exactly that."""
    if share is None:
        return NOTHING
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{max(share, 0.0001):.2%}" if share < 0.01 else f"{min(share, 0.999):.1%}"


def seconds_text(value: float) -> str:
    """A duration."""
    minutes, rest = divmod(value, 60)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{value:.1f} s"


def size_text(count: int) -> str:
    """A number of bytes in a readable unit."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1_000:
            break
        size, unit = size / 1_000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"
