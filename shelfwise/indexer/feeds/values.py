"""Parsers of a feed's values: pure functions, one for each kind of product field.

A value of the wrong type (a list instead of a text) raises RowError: the row is rejected. A value of the right type
that is not usable (an unreadable date) raises UnusableValueError: the row is kept without the field. A null, a blank
text and an empty list count as missing, and are never passed to these functions.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

from shelfwise.retrieval.errors import RowError
from shelfwise.retrieval.filters.places import place_problem
from shelfwise.retrieval.records import Availability, Place
from shelfwise.retrieval.updates.validation import EXACT

BAD_TYPE = "bad type"
NOT_FINITE = "not a finite number"
NOT_A_NUMBER = "not a number"

_NOT_LETTERS = re.compile(r"[^a-z]")
_LANGUAGE = re.compile(r"([a-z]{2})(?:[-_][a-z0-9_-]*)?", re.IGNORECASE)
_LEVEL_MARKS = (">", "›", "»", "|", "/")
_AVAILABILITY = {
    Availability.IN_STOCK: "instock available limitedavailability onlineonly true yes ja oui si sim "
    "auflager lieferbar enstock disponible",
    Availability.OUT_OF_STOCK: "outofstock soldout unavailable discontinued false no nein non nee "
    "ausverkauft vergriffen nichtlieferbar agotado",
    Availability.PREORDER: "preorder presale",
    Availability.BACKORDER: "backorder backordered availablefororder",
}
_AVAILABILITY_BY_WORD = {word: value for value, words in _AVAILABILITY.items() for word in words.split()}
_AVAILABILITY_BY_WORD |= {value.value: value for value in Availability}
_DEGREES = (("lat", "latitude"), ("lng", "lon", "long", "longitude"))
_IMAGE_KEYS = ("url", "src", "link", "href")


class UnusableValueError(RowError):
    """A value that is dropped while its row is kept; `reason` is the same for all values with this fault."""


def wrong_type(field: str, value: object) -> RowError:
    """The error that rejects a row because a field has a value of another type."""
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return RowError(BAD_TYPE, f"{field} is {kinds.get(type(value), 'a number')}")


def text(field: str, value: object) -> str:
    """A text without surrounding blanks; a number as its digits."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(field, value)
    return digits(value)


def digits(value: float) -> str:
    """A number as a person writes it: `95205603217`, whether the feed has an integer or 95205603217.0."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableValueError(NOT_FINITE, str(value))
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def paragraphs(field: str, value: object) -> str:
    """A text, or a list of texts as paragraphs."""
    return "\n".join(texts(field, value)) if isinstance(value, list) else text(field, value)


def texts(field: str, value: object) -> tuple[str, ...]:
    """A text or a list of texts, without blank and repeated ones."""
    values = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(filter(None, (text(field, one) for one in values if one is not None))))


def images(field: str, value: object) -> tuple[str, ...]:
    """Addresses as texts, or as objects with an address under `url`, `src`, `link` or `href`."""
    values = value if isinstance(value, list) else [value]
    return texts(field, [_address(field, one) if isinstance(one, dict) else one for one in values])


def _address(field: str, value: dict[str, object]) -> object:
    for key in _IMAGE_KEYS:
        if value.get(key):
            return value[key]
    raise wrong_type(field, value)


def places(_field: str, value: object) -> tuple[Place, ...]:
    """Objects with `lat` and `lng` (or `lon`, `latitude` and `longitude`), or texts such as `52.52, 13.405`, or one."""
    result = [_place(one) for one in (value if isinstance(value, list) else [value])]
    return tuple(dict.fromkeys(result))


def _place(value: object) -> Place:
    if isinstance(value, str):
        value = dict(zip(("lat", "lng"), value.split(","), strict=False))
    pair = value if isinstance(value, dict) else {}
    lat, lng = (
        _degrees(next((pair[name] for name in names if pair.get(name) is not None), None)) for names in _DEGREES
    )
    detail = f"latitude {lat:g}, longitude {lng:g}"
    if problem := place_problem(lat, lng):
        swapped = "latitude and longitude swapped" if "swapped" in problem else "no place on the earth"
        raise UnusableValueError(swapped, detail)
    if lat == lng == 0:
        raise UnusableValueError("latitude and longitude are 0", "many feeds write this for an unknown place")
    return Place(lat, lng)


def _degrees(value: object) -> float:
    spelled = value.strip().replace(",", ".") if isinstance(value, str) else value
    try:
        return float(spelled) if isinstance(spelled, str | int | float) and not isinstance(spelled, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def brand(field: str, value: object) -> str:
    """A text, or an object with the brand's name, as in schema.org."""
    return text(field, value["name"] if isinstance(value, dict) and "name" in value else value)


def category(field: str, value: object) -> tuple[str, ...]:
    """A path from a list of levels, or from a text in which `>`, `›`, `»`, `|` or `/` separates levels.

    Of several paths (a list of lists, or a list of texts with `>`), the first is used.
    """
    if isinstance(value, list) and value:
        if isinstance(value[0], list) or (isinstance(value[0], str) and ">" in value[0]):
            return category(field, value[0])
        return tuple(filter(None, (text(field, level) for level in value if level is not None)))
    return _path(text(field, value))


@lru_cache(maxsize=4096)  # a catalog has few categories
def _path(path: str) -> tuple[str, ...]:
    mark = next((mark for mark in _LEVEL_MARKS if mark in path), None)
    levels = path.split(mark) if mark else [path]
    return tuple(level for level in map(str.strip, levels) if level)


def number(field: str, value: object) -> float:
    """A finite number, from a number or a text."""
    if isinstance(value, str):
        spelled = decimal_of(value)
        if spelled is None:
            is_none = value.strip().lstrip("+-").lower() in ("nan", "inf", "infinity")
            raise UnusableValueError(NOT_FINITE if is_none else NOT_A_NUMBER, value[:80])
        return spelled
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(field, value)
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise UnusableValueError(NOT_FINITE, str(result))
    return result


def rating(field: str, value: object) -> float:
    """A mean rating, 0 to 5."""
    result = number(field, value)
    if not 0 <= result <= 5:
        raise UnusableValueError("outside 0 to 5", str(result))
    return result


def count(field: str, value: object) -> int:
    """An integer from 0 to EXACT."""
    result = number(field, value)
    if not 0 <= result <= EXACT or not result.is_integer():
        raise UnusableValueError("not a count", str(result))
    return int(result)


def availability(field: str, value: object) -> Availability:
    """Google's values in any spelling, schema.org's addresses, yes and no, or the number in stock."""
    if isinstance(value, bool):
        return Availability.IN_STOCK if value else Availability.OUT_OF_STOCK
    if isinstance(value, str):
        result = _AVAILABILITY_BY_WORD.get(value) or _AVAILABILITY_BY_WORD.get(
            _NOT_LETTERS.sub("", value.lower().rsplit("/", 1)[-1])
        )
        if result:
            return result
        if decimal_of(value) is None:
            raise UnusableValueError("unknown availability", value[:80])
    return Availability.IN_STOCK if number(field, value) > 0 else Availability.OUT_OF_STOCK


def currency(field: str, value: object) -> str:
    """An ISO 4217 code, from a code or from a symbol of only one currency."""
    spelled = text(field, value)
    code = currency_code(spelled)
    if not code:
        raise UnusableValueError("unknown currency", spelled[:80])
    return code


def language(field: str, value: object) -> str:
    """An ISO 639-1 code, from one with or without a region ("en-US")."""
    spelled = text(field, value)
    match = _LANGUAGE.fullmatch(spelled)
    if not match:
        raise UnusableValueError("no ISO 639-1 code", spelled[:80])
    return match[1].lower()


def time(field: str, value: object) -> datetime:
    """A time in UTC (also if it has no zone): ISO 8601, RFC 2822, YYYYMMDD, seconds or milliseconds since 1970."""
    if not isinstance(value, str):
        return _epoch(number(field, value))
    spelled = value.strip()
    if len(spelled) <= 64:
        for reading in _readings(spelled):
            return reading
    raise UnusableValueError("not a date", spelled[:80])


Period = tuple[datetime | None, datetime | None]


def period(field: str, value: object) -> Period:
    """Two times separated by a slash, the second after the first; one of them may be missing (no bound there).

    An end without a time of day includes the whole of that day.
    """
    start, slash, end = text(field, value).partition("/")
    if slash and start.count("-") < 2 and "/" in end:  # a date that is written with slashes
        raise UnusableValueError("not two dates", f"{start}/{end}"[:80])
    first, last = (time(field, part) if part.strip() else None for part in (start, end))
    if last and len(end.strip()) <= len("2024-01-31"):
        last += timedelta(days=1)
    if first and last and last < first:
        raise UnusableValueError("ends before it begins", f"{start}/{end}"[:80])
    return first, last


def is_in_period(period: Period, now: datetime) -> bool:
    """Whether a time is in a period; the end is not included."""
    start, end = period
    return (start is None or start <= now) and (end is None or now < end)


def _readings(spelled: str) -> Iterator[datetime]:
    if len(spelled) > 8 and spelled.isdecimal():
        yield _epoch(float(spelled))
    for read in (
        datetime.fromisoformat,
        lambda text: datetime.fromisoformat(text.replace("/", "-")),
        parsedate_to_datetime,
    ):
        try:
            reading = read(spelled)
            yield reading.astimezone(UTC) if reading.tzinfo else reading.replace(tzinfo=UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue


def _epoch(value: float) -> datetime:
    try:
        if 1e7 <= value < 1e8:
            return datetime.strptime(digits(value), "%Y%m%d").replace(tzinfo=UTC)
        if value >= 1e8:
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise UnusableValueError("not a date", digits(value))


# Prices and currencies as in feeds: `12.99 USD`, `$12.99`, `1.299,00 €`, `CHF 1'299.-`.
#
# Rows are independent, so each price is read by itself:
#
# | a price has                                  | meaning                                                          |
# |----------------------------------------------|------------------------------------------------------------------|
# | a point and a comma                          | the last of them is before the decimals: `1.299,00`, `1,299.00`  |
# | one mark two or more times, by threes        | it separates thousands: `1.299.000`, `1,29,900` in India         |
# | a comma before three digits                  | thousands: `1,299`; but `0,500` is a half                        |
# | a point before three digits, and a currency  | thousands: `1.299 €`, unless that currency has three decimals    |
# | a point before three digits, and no currency | a little over one: `1.299`, as in JSON                           |
# | blanks or apostrophes                        | they separate thousands: `1 299,00`, `1'299.-`                   |
# | a dash for the decimals                      | no decimals: `12.-`, `12,--`                                     |

BROKEN_PRICE = "broken price"

_CODE_LIST = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY
COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR
IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR
MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD
SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF
XPF YER ZAR ZMW
"""
_CODES = frozenset(_CODE_LIST.split())
# "$", "¥" and "kr" are used by several currencies, so they do not determine one.
_SYMBOLS = {"€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "₽": "RUB", "₺": "TRY", "US$": "USD", "R$": "BRL"}
_SHARED = frozenset({"KR", "RS", "ZŁ", "元", "円"})
# "'" and "’" separate thousands; a dash stands for missing decimals.
_PRICE = re.compile(r"([^\d\s.,+-]*)\s*([-+]?[\d.,'’\s]*\d)(?:[.,](?:--?|–|—))?\s*([^\d\s.,+–—-]*)")
_GROUP_MARKS = re.compile(r"[\s'’]")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:([.,])\d{3})(?:\1\d{3})*|[-+]?[1-9]\d?(?:,\d{2})+,\d{3}")
_ONE_THOUSAND = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_THREE_DECIMALS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
_MAX_LENGTH = 64


def price(field: str, value: str | float) -> tuple[float, str]:
    """The amount and, if the text contains it, its ISO 4217 currency; else an empty text.

    Raises RowError if it is not a number, negative, or not finite.
    """
    amount, currency = _spelled_price(value) if isinstance(value, str) else (value, "")
    try:
        result = float(amount)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or result < 0:
        raise RowError(BROKEN_PRICE, f"{field} is {str(value)[:80]!r}; a price must be a number from 0")
    return abs(result), currency


def _spelled_price(spelled: str) -> tuple[float, str]:
    stripped = spelled.strip()
    match = _PRICE.fullmatch(stripped) if len(stripped) <= _MAX_LENGTH else None
    if match is None:
        return math.nan, ""
    amount = decimal_of(match[2])
    units = [unit for unit in (match[1], match[3]) if unit]
    if amount is None or not all(map(_is_currency, units)):
        return math.nan, ""
    code = next(filter(None, map(currency_code, units)), "")
    if units and code not in _THREE_DECIMALS and _ONE_THOUSAND.fullmatch(match[2]):
        amount *= 1000
    return amount, code


def _is_currency(unit: str) -> bool:
    if currency_code(unit) or unit.upper() in _SHARED:
        return True
    return any(unicodedata.category(mark) == "Sc" for mark in unit)


def currency_code(spelled: str) -> str:
    """The ISO 4217 code of a code or of a symbol of only one currency; else an empty text."""
    upper = spelled.upper()
    return upper if upper in _CODES else _SYMBOLS.get(upper, "")


def decimal_of(spelled: str) -> float | None:
    """The number in a text, with a point or a comma before the decimals and separators of thousands, or None.

    `1,299` is over a thousand (a comma, three digits); `1.299` is a little over one, as in JSON.
    """
    if len(spelled) > _MAX_LENGTH:
        return None
    digits = _GROUP_MARKS.sub("", spelled)
    if "," in digits and "." in digits:
        group = "," if digits.rfind(",") < digits.rfind(".") else "."
        digits = digits.replace(group, "").replace(",", ".")
    elif _THOUSANDS.fullmatch(digits) and ("," in digits or digits.count(".") > 1):
        digits = digits.replace(",", "").replace(".", "")
    else:
        digits = digits.replace(",", ".")
    try:
        result = float(digits) if "_" not in digits else math.nan
    except ValueError:
        return None
    return result if math.isfinite(result) else None
