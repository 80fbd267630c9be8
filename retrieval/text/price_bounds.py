"""Price bounds that a query names: "drill under 100", "between 20 and 50 dollars", "100元以下的背包"."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = r"(\d{1,7}(?:,\d{3})*(?:\.\d{1,2})?)"
_SIGN = r"(?:us\$|[$€£¥])\s?"
_UNIT = r"\s?(?:dollars?|bucks|usd|euros?|eur|pounds?|gbp|yuan|rmb|cny|块钱?|元|[$€£¥])"
_AMOUNT = rf"(?:{_SIGN}{_NUMBER}|{_NUMBER}{_UNIT}|{_NUMBER}(?![\w.%\"'/-]|\s(?!(?:or|and|with|in|for)\b)[a-z]))"
_BELOW = r"(?:under|below|less than|cheaper than|up to|at most|max(?:imum)?\.?|no more than)"
_ABOVE = r"(?:over|above|more than|at least|min(?:imum)?\.?|starting at)"
_LEAD = r"(?:\b(?:for|priced?)\s)?\b"
_BOUNDS = re.compile(
    rf"{_LEAD}between\s{_AMOUNT}\s(?:and|to)\s{_AMOUNT}"
    rf"|{_LEAD}{_BELOW}\s{_AMOUNT}"
    rf"|\b(?P<above>{_ABOVE})\s{_AMOUNT}"
    rf"|{_NUMBER}(?:元|块)(?:钱)?(?:以下|以内|之内|(?P<beyond>以上))的?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PriceBounds:
    """The bounds of a price that a query names."""

    low: float | None
    high: float | None
    text: str
    """The query without them."""


def price_bounds(query: str) -> PriceBounds | None:
    """The bounds that a query names, None where it names none, or nothing else.

    A number that a unit follows is no price ("under 20 inch"), unless it is one of money.
    """
    found = _BOUNDS.search(query)
    if found is None:
        return None
    text = " ".join(f"{query[: found.start()]} {query[found.end() :]}".split())
    amounts = [float(group.replace(",", "")) for group in found.groups() if group and group[0].isdigit()]
    if not text or not amounts:
        return None
    if len(amounts) == 2:
        return PriceBounds(min(amounts), max(amounts), text)
    is_low = bool(found["above"] or found["beyond"])
    return PriceBounds(amounts[0] if is_low else None, None if is_low else amounts[0], text)
