"""Addresses of images put right."""

from __future__ import annotations

import re

_GOOD = re.compile(r"https?://[^\s/<>\"]+\S*", re.IGNORECASE)
_BLANK = re.compile(r"[ \u00a0]+")
_BREAKS = re.compile(r"[\t\r\n\x00-\x1f]+")


def is_good_image(address: str) -> bool:
    """Whether an address needs nothing."""
    return _GOOD.fullmatch(address) is not None


def cleaned_image(address: str, changed: list[str]) -> str:
    """The address with a scheme and without blanks, or "" for what is none; the rule that changed it is added."""
    if is_good_image(address):
        return address
    # A browser, too, drops line breaks inside an address and writes a blank as %20.
    repaired = _BLANK.sub("%20", _BREAKS.sub("", address).strip())
    if repaired.startswith("//"):
        repaired = f"https:{repaired}"
    if not _GOOD.fullmatch(repaired):
        changed.append("unusable-images")
        return ""
    changed.append("image-addresses")
    return repaired
