"""Prices and currencies as feeds spell them: `12.99 USD`, `$12.99`, `1.299,00 €`, `CHF 1'299.-`.

Rows are independent, so each price is read by itself:

| a price has                                  | so it is                                                         |
|----------------------------------------------|------------------------------------------------------------------|
| a point and a comma                          | the last of them is before the decimals: `1.299,00`, `1,299.00`  |
| one mark two or more times, by threes        | that mark is between thousands: `1.299.000`, `1,29,900` in India |
| a comma before three digits                  | a thousand: `1,299`; but `0,500` is a half                       |
| a point before three digits, and a currency  | a thousand: `1.299 €`, unless that currency has three decimals   |
| a point before three digits, and no currency | a little over one: `1.299`, as JSON has it                       |
| blanks or apostrophes                        | they are between thousands: `1 299,00`, `1'299.-`                |
| a dash for the decimals                      | none: `12.-`, `12,--`                                            |
"""

from __future__ import annotations

import math
import re
import unicodedata

from retrieval.errors import RowError

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
# "$", "¥" and "kr" belong to several currencies, so they say none.
_SYMBOLS = {"€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "₽": "RUB", "₺": "TRY", "US$": "USD", "R$": "BRL"}
_SHARED = frozenset({"KR", "RS", "ZŁ", "元", "円"})
# "'" and "’" stand between thousands, a dash for decimals that are none.
_PRICE = re.compile(r"([^\d\s.,+-]*)\s*([-+]?[\d.,'’\s]*\d)(?:[.,](?:--?|–|—))?\s*([^\d\s.,+–—-]*)")
_GROUP_MARKS = re.compile(r"[\s'’]")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:([.,])\d{3})(?:\1\d{3})*|[-+]?[1-9]\d?(?:,\d{2})+,\d{3}")
_ONE_THOUSAND = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_THREE_DECIMALS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
_MAX_LENGTH = 64


def price(field: str, value: str | float) -> tuple[float, str]:
    """The amount and, where the text says so, its ISO 4217 currency; else an empty text.

    Raises RowError for what is no number, negative, or not finite.
    """
    amount, currency = _spelled_price(value) if isinstance(value, str) else (value, "")
    try:
        result = float(amount)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or result < 0:
        raise RowError(BROKEN_PRICE, f"{field} is {str(value)[:80]!r}; a price is a number from 0")
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
    """The ISO 4217 code of a code or of a symbol that only one currency has; else an empty text."""
    upper = spelled.upper()
    return upper if upper in _CODES else _SYMBOLS.get(upper, "")


def decimal_of(spelled: str) -> float | None:
    """The number that a text spells, with a point or a comma before the decimals and marks between thousands, or None.

    `1,299` is a thousand (a comma, three digits); `1.299` is a little over one, as JSON has it.
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
