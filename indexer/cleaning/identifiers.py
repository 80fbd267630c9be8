"""Identifiers put right: codes of digits as digits, placeholders and what spreadsheets broke out."""

from __future__ import annotations

import re
import unicodedata

from indexer.cleaning.placeholders import is_placeholder

_DIGIT_KINDS = frozenset(
    {"ean", "gtin", "upc", "isbn", "barcode", "jan", "ean13", "gtin13", "gtin14", "gtin8", "gtin12"}
)
_BETWEEN = re.compile(r"[\s\-‐‑‒–—_.'’`´]+")
_POINT_ZERO = re.compile(r"\.0+$")
_DIGITS = re.compile(r"[0-9]{6,18}|[0-9]{9}[Xx]", re.ASCII)
_SPREADSHEET = re.compile(r"[0-9](?:[.,][0-9]+)?[Ee]\+?[0-9]{1,2}", re.ASCII)
_ALL_ZEROS = re.compile("0{6,}")


def is_plain_code(text: str) -> bool:
    """Whether an identifier is all digits, and not all zeros: then no rule changes it."""
    return text.isdigit() and text.isascii() and text.strip("0") != ""


def digits_only(text: str) -> str:
    """A code of digits (an ISBN-10 may end in X) without what was written between them; any other text as it is.

    No check digit is verified and no zero added: that is the checker's part.
    """
    joined = _BETWEEN.sub("", _POINT_ZERO.sub("", unicodedata.normalize("NFKC", text).strip()))
    return joined.upper() if _DIGITS.fullmatch(joined) else text


def is_broken(text: str, kind: str) -> bool:
    """Whether a spreadsheet wrote a code as a rounded number ("4.00638E+12"): its last digits are lost.

    Other kinds than codes of digits may look like one ("1E10" is a good SKU), so there the plus sign must stand.
    """
    text = text.lstrip("'’ ")
    return _SPREADSHEET.fullmatch(text) is not None and (kind.lower() in _DIGIT_KINDS or "+" in text)


def cleaned_identifier(kind: str, text: str, changed: list[str]) -> str:
    """The identifier after every rule, "" where nothing is left; the rule that changed it is added."""
    if is_plain_code(text):
        return text
    is_digital = kind.lower() in _DIGIT_KINDS
    if not is_digital and text.isupper() and "+" not in text and not is_placeholder(text):
        return text  # nearly every SKU and model number
    if is_placeholder(text) or _ALL_ZEROS.fullmatch(text):
        changed.append("placeholders")
        return ""
    if is_broken(text, kind):
        changed.append("broken-identifiers")
        return ""
    if not is_digital:
        return text
    digits = digits_only(text)
    if digits != text:
        changed.append("identifier-digits")
    return "" if _ALL_ZEROS.fullmatch(digits) else digits
