"""Fields of the quality rules that are computed from a product, or from a product and its norm."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from shelfwise.indexer.cleaning.language import detect
from shelfwise.indexer.quality.norms import Norm, UsualValue
from shelfwise.retrieval.records import AttributeValue, Product, Variant

KINDS = ("ean", "gtin", "upc", "isbn")
_LENGTHS = frozenset({8, 12, 13, 14})
_MARKS = str.maketrans("", "", " -")


def trade_numbers(product: Product) -> list[tuple[str, str]]:
    """The kind of each trade number, and the number as in the feed."""
    return [(kind, number) for kind in KINDS for number in product.identifiers.get(kind, ())]


def is_broken_number(kind: str, number: str) -> bool:
    """Whether the length, a letter or the check digit of a trade number is wrong.

    The check digit is that of the GS1 General Specifications, section 7.9: from the right, digits have the weights one
    and three in turn. That of an ISBN-10 is of ISO 2108.
    """
    digits = number.translate(_MARKS)
    if len(digits) in _LENGTHS and digits.isascii() and digits.isdecimal():
        return (sum(map(int, digits[::-2])) + 3 * sum(map(int, digits[-2::-2]))) % 10 != 0
    return kind != "isbn" or len(digits) != 10 or _isbn10_is_broken(digits)


def _isbn10_is_broken(digits: str) -> bool:
    if not (digits.isascii() and digits[:9].isdecimal() and digits[9] in "0123456789xX"):
        return True
    last = 10 if digits[9] in "xX" else int(digits[9])
    total = sum(weight * int(digit) for weight, digit in zip(range(10, 1, -1), digits, strict=False))
    return (total + last) % 11 != 0


T = TypeVar("T")
_IDENTIFYING = ("ean", "gtin", "upc", "isbn", "mpn", "asin", "model")
_STOCK_NAMES = ("stock", "stock_quantity", "stock_level", "quantity", "qty", "inventory", "inventory_quantity")
_STOCK = frozenset(
    [*_STOCK_NAMES, *map(str.capitalize, _STOCK_NAMES), "Variant Inventory Qty", "variant inventory qty"]
)
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,10})?")
_VARIANT_FACTOR = 20.0
"""The price ratio of a product's variants above which it is probably an error."""


@dataclass(frozen=True, slots=True)
class InspectedProduct:
    """A product with what the fields of rules depend on."""

    product: Product
    norm: Norm
    """The norm of its category."""
    has_detected_language: bool
    """Whether its language was detected rather than declared."""
    now: datetime


def number(value: AttributeValue | None) -> float | None:
    """A number, also from a text of digits with a point; None for anything else."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def stock(product: Product) -> float | None:
    """The number of pieces in stock."""
    names = product.attributes.keys() & _STOCK
    return number(product.attributes[min(names)]) if names else None


def identifier(product: Product) -> str | None:
    """The first identifier given by the maker, not the store."""
    return next((values[0] for kind in _IDENTIFYING if (values := product.identifiers.get(kind))), None)


def trade_number(product: Product) -> str | None:
    """The first EAN, GTIN, UPC or ISBN."""
    return next((number for _, number in trade_numbers(product)), None)


def broken_gtin(product: Product) -> str | None:
    """The first trade number that is invalid, with its kind."""
    broken = (f"{kind} {number}" for kind, number in trade_numbers(product) if is_broken_number(kind, number))
    return next(broken, None)


def variant_fault(product: Product) -> str | None:
    """The inconsistency between the variants of a product, if any."""
    variants = product.variants
    if not variants:
        return None
    repeated = _repeated([variant.id for variant in variants])
    if repeated:
        return f"two variants have the id {repeated}"
    options = [tuple(sorted(variant.options.items())) for variant in variants]
    same = _repeated(options)
    if same is not None:
        return f"two variants have the same options: {', '.join(f'{name} {value}' for name, value in same) or 'none'}"
    if len({tuple(name for name, _ in each) for each in options}) > 1:
        return "not every variant names the same options"
    return _price_fault(product, variants)


def _repeated(values: Sequence[T]) -> T | None:
    return next((value for value, count in Counter(values).items() if count > 1), None)


def _price_fault(product: Product, variants: Sequence[Variant]) -> str | None:
    prices = [variant.price for variant in variants if variant.price is not None]
    if not prices:
        return None
    if len(prices) < len(variants):
        return "some variants have a price, some have none"
    low, high = min(prices), max(prices)
    if high > _VARIANT_FACTOR * low:
        return f"prices from {low:,.2f} to {high:,.2f}"
    if product.price is not None and not math.isclose(product.price, low):
        return f"the product costs {product.price:,.2f}, its cheapest variant {low:,.2f}"
    return None


def odd_price(inspected: InspectedProduct) -> str | None:
    """A price outside the bounds of its category, with the median."""
    price = inspected.product.price
    prices = inspected.norm.prices.get(inspected.product.currency)
    if not price or prices is None or not prices.is_outlier(price):
        return None
    return f"{price:,.2f}; the median of {prices.category} is {prices.median:,.2f}"


def odd_currency(inspected: InspectedProduct) -> str | None:
    """A currency that differs from that of its category."""
    return _odd(inspected.product.currency, inspected.norm.currency)


def odd_language(inspected: InspectedProduct) -> str | None:
    """A language that differs from that of its category; a detected one counts only if the title confirms it."""
    odd = _odd(inspected.product.language, inspected.norm.language)
    if odd and inspected.has_detected_language and not _is_confirmed(inspected, inspected.product.language):
        return None
    return odd


def _odd(value: str, usual: UsualValue | None) -> str | None:
    if usual is None or not value or value == usual.value:
        return None
    return f"{value}; in {usual.category} {usual.value} is usual"


def other_language(inspected: InspectedProduct) -> str | None:
    """The language of a title that differs from the declared one; a title without a clear language passes."""
    declared = inspected.product.language
    if not declared or inspected.has_detected_language:
        return None
    language = detect(inspected.product.title)
    is_other = language not in ("", declared) and _is_confirmed(inspected, language)
    return f"{language}, declared {declared}" if is_other else None


def _is_confirmed(inspected: InspectedProduct, language: str) -> bool:
    """Whether both halves of the title are in the language. Invented brands look like some language once in a thousand
    titles, but hardly ever in both halves.
    """
    title = inspected.product.title
    cut = max(title.find(" ", len(title) // 2), 0) or len(title) // 2  # Chinese has no blanks
    return detect(title[:cut]) == detect(title[cut:]) == language
