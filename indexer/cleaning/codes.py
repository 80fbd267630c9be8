"""Codes put right: currencies (ISO 4217) and languages (ISO 639-1)."""

from __future__ import annotations

import re

from indexer.prices import currency_code

_LANGUAGE = re.compile(r"\s*([a-z]{2})(?:[-_][a-z0-9_-]*)?\s*", re.IGNORECASE | re.ASCII)


def cleaned_currency(text: str) -> str:
    """The ISO 4217 code of a code in any case or of a symbol that only one currency has; else the text as it is."""
    return currency_code(text.strip()) or text


def cleaned_language(text: str) -> str:
    """The ISO 639-1 part of a code with or without a region ("EN-us" is "en"); else the text as it is."""
    found = _LANGUAGE.fullmatch(text)
    return found[1].lower() if found else text
