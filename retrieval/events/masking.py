"""Personal data in queries: what looks like an e-mail address, a phone or card number, or an IP address is masked.

What a shop sells under numbers stays:

- an article number (GTIN, EAN, UPC of 12 to 14 digits, ISBN), bare or in its own groups, by its check digit;
- digits without the prefix, the length and the check digit of a card;
- a list of sizes: phone numbers count only in groups as their country writes them, and rising numbers are no card;
- a bare run of digits, unless it begins with 0, with a country's or a trunk prefix, or is a mobile number of a region
  that sets these apart (as China does, the United States and Canada do not): most part numbers have ten digits.

Where it still cannot be told, it is masked: a lost query costs less than a leak.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from ipaddress import ip_address
from itertools import pairwise

from phonenumbers import (
    SUPPORTED_REGIONS,
    Leniency,
    PhoneNumberMatch,
    PhoneNumberMatcher,
    PhoneNumberType,
    national_significant_number,
    number_type,
)
from stdnum import ean, isbn, luhn

REGIONS = ("US", "GB", "DE", "CN")
"""Whose phone numbers are known by default (ISO 3166-1), without a country's prefix."""

_PLAIN = str.maketrans(
    {full: full - 0xFEE0 for full in (*range(0xFF10, 0xFF1B), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
    | dict.fromkeys((0x00A0, *range(0x2000, 0x2010), 0x202F, 0x2060, 0x3000, 0xFEFF), " ")
    | dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE63, 0xFF0D), "-")
    | {"\uff20": "@", "\ufe6b": "@", "\uff0e": ".", "\uff0f": "/"}
)
"""Full width, blanks that do not break and dashes of every length, in ASCII: one character for one."""

_MAY_HOLD = re.compile(
    r"[@\uff20\ufe6b]|(?:\d\D{0,3}){7}|\d[.\uff0e]\d+[.\uff0e]\d+[.\uff0e]\d|:[0-9a-fA-F\uff10-\uff46]{0,4}:"
)
"""What a query has in it that is worth a closer look: nearly none has."""

_LOCAL = re.compile(r"[!-;=?A-~\u00c0-\u1fff]+")
"""An e-mail address's local part: letters of scripts with blanks between words, since a Chinese text has none."""

_TOP = r"[.\u3002][a-zA-Z\u00c0-\u1fff][a-zA-Z0-9\u00c0-\u1fff-]+"
_DOMAIN = rf"[\w-]+(?:(?:[.\u3002][\w-]+)*?(?:{_TOP})+|(?:[.\u3002][^\W\d][\w-]*)+)"
_AT_DOMAIN = re.compile(rf"(?: {{0,2}}@ {{0,2}}{_DOMAIN})+")
"""Up to a top-level domain that ends before Chinese, if there is one: else up to the end of the word."""

_ARTICLE = re.compile(
    r"(?<![\d+])(?<!\+\d[ -])(?<!\+\d\d[ -])(?<!\+\d\d\d[ -])"
    r"(?:\d{12,14}|\d{9}[\dXx]|\d[ -]\d{6}[ -]\d{6}|\d[ -]\d{5}[ -]\d{5}[ -]\d"
    r"|(?:97[89][ -]?)?\d{1,5}[ -]\d{1,7}[ -]\d{1,7}[ -][\dXx])(?!\d)"
)
_DIGITS = re.compile(r"\d+")
_RUN = re.compile(r"\d(?:[\s.,/_-]{0,3}\d)+")
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|3[47]\d{13}"  # American Express
    r"|(?:5[1-5]|2[2-7])\d{14}"  # Mastercard, Mir
    r"|3(?:0[0-59]|[689]\d)\d{11,16}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|6(?:011|2\d\d|4[4-9]\d|5\d\d)\d{12,15}"  # Discover, UnionPay
    r"|(?:50|5[6-8]|6[37])\d{11,17}"  # Maestro
)
_CARD_DIGITS = range(13, 20)
_CARD_DIGITS_AFTER_PLUS = range(16, 20)  # phone numbers have 15 at most (ITU-T E.164)

_ADDRESS = re.compile(
    r"(?<![0-9A-Za-z_.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)"
    r"|(?<![0-9A-Za-z_.:])(?:[0-9a-fA-F]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{0,4})(?!\.?[0-9A-Za-z_:])"
)
_MOST_TRIES = 50
"""Candidates that are no phone number before a query is left alone: a thousand of them would take a while."""
_REMEMBERED = 16_384

_Span = tuple[int, int]


class Masker:
    """Masks personal data in queries. Queries that come again and again are remembered."""

    def __init__(self, regions: Iterable[str] = REGIONS) -> None:
        self.regions = tuple(regions)
        self.masked = lru_cache(_REMEMBERED)(self._masked)
        self._finders: list[tuple[str, Callable[[str], Iterable[_Span]]]] = [
            ("[email]", _emails),
            ("[card]", _cards),
            ("[address]", _addresses),
            # Numbers with a country's prefix are known without a region, too.
            *(("[phone]", partial(_phones, region)) for region in self.regions or (None,)),
        ]

    def _masked(self, query: str) -> str:
        before = ""
        # Again, since a mask lays bare what stood against it: the part of a number, a second address.
        while query != before and _MAY_HOLD.search(query):
            before, query = query, self._masked_once(query)
        return query

    def _masked_once(self, query: str) -> str:
        for mask, find in self._finders:
            # From the last one on, so that what is left to do keeps its place.
            for start, end in reversed(list(find(_plain(query)))):
                query = f"{query[:start]}{mask}{query[end:]}"
        return query


def is_region(name: str) -> bool:
    """Whether there are phone numbers of a region (ISO 3166-1)."""
    return name in SUPPORTED_REGIONS


def _plain(query: str) -> str:
    """The query with its signs in ASCII and its article numbers blotted out, each character in its place."""
    plain = query if query.isascii() else _DIGITS.sub(_ascii_digits, query.translate(_PLAIN))
    return _ARTICLE.sub(_blotted, plain)


def _ascii_digits(match: re.Match[str]) -> str:
    return "".join(str(int(digit)) for digit in match[0])


def _blotted(match: re.Match[str]) -> str:
    is_article = ean.is_valid(match[0]) or isbn.is_valid(match[0])
    return "|" * len(match[0]) if is_article else match[0]


def _emails(text: str) -> Iterator[_Span]:
    looked = 0
    for match in _AT_DOMAIN.finditer(text):
        # Backwards from the sign: a search forwards would begin anew at each letter.
        local = _LOCAL.match(text[looked : match.start()][::-1])
        if local:
            yield match.start() - local.end(), match.end()
        looked = match.end()


def _cards(text: str) -> Iterator[_Span]:
    masked = 0
    for start, end in _card_windows(text):
        if start >= masked and _is_card(text[start:end]):
            yield start, end
            masked = end


def _card_windows(text: str) -> Iterator[_Span]:
    """From the border of a group of digits to another's, as many digits as cards have: the longest first."""
    for run in _RUN.finditer(text):
        groups = [group.span() for group in _DIGITS.finditer(text, run.start(), run.end())]
        for first, (start, _) in enumerate(groups):
            wanted = _CARD_DIGITS_AFTER_PLUS if text[max(start - 1, 0) : start] == "+" else _CARD_DIGITS
            digits, ends = 0, []
            for group_start, end in groups[first : first + _CARD_DIGITS[-1]]:
                digits += end - group_start
                if digits in wanted:
                    ends.append(end)
            yield from ((start, end) for end in reversed(ends))


def _is_card(window: str) -> bool:
    groups = _DIGITS.findall(window)
    digits = "".join(groups)
    if not _CARD.fullmatch(digits) or not luhn.is_valid(digits):
        return False
    # Cards have five groups at most, the last one short: five that rise are sizes.
    return len(groups) < 5 or any(int(one) >= int(other) for one, other in pairwise(groups))


def _addresses(text: str) -> Iterator[_Span]:
    return (match.span() for match in _ADDRESS.finditer(text) if _is_address(match[0]))


def _is_address(text: str) -> bool:
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False


def _phones(region: str | None, text: str) -> Iterator[_Span]:
    matches = PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING, max_tries=_MOST_TRIES)
    return ((match.start, match.end) for match in matches if _is_written_as_phone(match))


def _is_written_as_phone(match: PhoneNumberMatch) -> bool:
    digits = match.raw_string
    if not digits.isdigit() or digits.startswith("0"):
        return True
    has_prefix = digits != national_significant_number(match.number)
    return has_prefix or number_type(match.number) == PhoneNumberType.MOBILE
