"""Personal data in queries: what looks like an e-mail address, a phone or card number, or an IP address is masked.

Article numbers stay: digits with the check digit of a GTIN are no phone number, and a card number has the length and
the prefix of one besides its check digit. Where it cannot be told, it is masked: a lost query costs less than a leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from phonenumbers import SUPPORTED_REGIONS, Leniency, PhoneNumberMatcher
from stdnum import ean, luhn

REGIONS = ("US", "GB", "DE", "CN")
"""Whose phone numbers are known by default (ISO 3166-1), without a country's prefix."""

_EMAIL = re.compile(r"[!-;=?A-~]+ ?[@＠] ?[a-zA-Z0-9À-ɏ-]+(?:\.[a-zA-Z0-9À-ɏ-]+)+")  # full width, too
_CARD = re.compile(r"(?<![\d.])(?:\d[ -]?){14,18}\d(?![\d.])")
_CARD_PREFIX = re.compile(r"3[47]|4|5[1-5]|2[2-7]|6(?:011|2|4[4-9]|5)|35(?:2[89]|[3-8])")
_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7})(?![\w.:])")
_MAY_HOLD = re.compile(r"[@＠]|(?:\d\D{0,3}){7}|[0-9a-fA-F]*:[0-9a-fA-F:]*:")
"""What a query has in it that is worth a closer look: nearly none has."""
_REMEMBERED = 16_384


class Masker:
    """Masks personal data in queries. Queries that come again and again are remembered."""

    def __init__(self, regions: Iterable[str] = REGIONS) -> None:
        self.regions = tuple(regions)
        self.masked = lru_cache(_REMEMBERED)(self._masked)

    def _masked(self, query: str) -> str:
        if not _MAY_HOLD.search(query):
            return query
        query = _EMAIL.sub("[email]", query)
        query = _CARD.sub(_masked_card, query)
        query = _ADDRESS.sub(_masked_address, query)
        return self._without_phones(query)

    def _without_phones(self, query: str) -> str:
        for region in self.regions:
            # From the last one on, so that what is left to do keeps its place.
            for match in reversed(list(PhoneNumberMatcher(query, region, leniency=Leniency.VALID))):
                if not ean.is_valid(match.raw_string):
                    query = f"{query[: match.start]}[phone]{query[match.end :]}"
        return query


def is_region(name: str) -> bool:
    """Whether there are phone numbers of a region (ISO 3166-1)."""
    return name in SUPPORTED_REGIONS


def _masked_card(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match[0])
    is_card = len(digits) >= 15 and _CARD_PREFIX.match(digits) and luhn.is_valid(digits)
    return "[card]" if is_card else match[0]


def _masked_address(match: re.Match[str]) -> str:
    try:
        ip_address(match[0])
    except ValueError:
        return match[0]
    return "[address]"
