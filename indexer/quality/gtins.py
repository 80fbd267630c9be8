"""Trade numbers (EAN, UPC, GTIN, ISBN): their length and check digit.

The check digit is of the GS1 General Specifications, section 7.9; that of an ISBN-10 is of ISO 2108.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retrieval.records import Product

TradeNumber = tuple[int, str, str]
"""The place of its product in a batch, the kind, the number as the feed spells it."""

KINDS = ("ean", "gtin", "upc", "isbn")
_LENGTHS = frozenset({8, 12, 13, 14})
_MARKS = str.maketrans("", "", " -")


def trade_numbers(products: Sequence[Product]) -> list[TradeNumber]:
    """Every trade number of all products."""
    return [
        (place, kind, number)
        for place, product in enumerate(products)
        if product.identifiers
        for kind in KINDS
        if kind in product.identifiers
        for number in product.identifiers[kind]
    ]


def broken(numbers: Sequence[TradeNumber]) -> list[bool]:
    """For each trade number, whether it has another length than such numbers have, a letter, or a wrong check
    digit. All check digits are worked out at once, over arrays.
    """
    found = [True] * len(numbers)
    places, values = [], []
    for place, (_, kind, number) in enumerate(numbers):
        digits = number if number.isdecimal() else number.translate(_MARKS)
        if len(digits) in _LENGTHS and digits.isascii() and digits.isdecimal():
            places.append(place)
            values.append(int(digits))
        elif kind == "isbn" and len(digits) == 10:
            found[place] = _isbn10_is_broken(digits)
    for place, is_wrong in zip(places, _wrong_check_digits(values), strict=True):
        found[place] = is_wrong
    return found


def _wrong_check_digits(values: Sequence[int]) -> list[bool]:
    """From the right, digits weigh one and three in turn; leading zeros weigh nothing, so length does not matter."""
    left = np.array(values, dtype=np.int64)
    total = np.zeros_like(left)
    for place in range(max(_LENGTHS)):
        left, digit = np.divmod(left, 10)
        total += digit * (3 if place % 2 else 1)
    wrong: list[bool] = (total % 10 != 0).tolist()
    return wrong


def _isbn10_is_broken(digits: str) -> bool:
    if not (digits.isascii() and digits[:9].isdecimal() and digits[9] in "0123456789xX"):
        return True
    last = 10 if digits[9] in "xX" else int(digits[9])
    total = sum(weight * int(digit) for weight, digit in zip(range(10, 1, -1), digits, strict=False))
    return (total + last) % 11 != 0
