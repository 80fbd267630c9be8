"""Fields of the quality rules that are computed from a product, or from a batch of products with its norms."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TypeVar

from shelfwise.indexer.quality.norms import Norm, Norms, UsualValue
from shelfwise.retrieval.records import AttributeValue, Product, Variant

TradeNumber = tuple[int, str, str]
"""The index of its product in a batch, the kind, and the number as in the feed."""

KINDS = ("ean", "gtin", "upc", "isbn")
_LENGTHS = frozenset({8, 12, 13, 14})
_MARKS = str.maketrans("", "", " -")


def trade_numbers(products: Sequence[Product]) -> list[TradeNumber]:
    """Every trade number of all products."""
    return [
        (index, kind, number)
        for index, product in enumerate(products)
        if product.identifiers
        for kind in KINDS
        if kind in product.identifiers
        for number in product.identifiers[kind]
    ]


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
Values = Sequence[object]
"""One value per product, None if it has none."""
Detect = Callable[[Sequence[str]], Sequence[str]]
"""Maps titles to ISO 639-1 codes, empty if unsure."""

_IDENTIFYING = ("ean", "gtin", "upc", "isbn", "mpn", "asin", "model")
_STOCK_NAMES = ("stock", "stock_quantity", "stock_level", "quantity", "qty", "inventory", "inventory_quantity")
_STOCK = frozenset(
    [*_STOCK_NAMES, *map(str.capitalize, _STOCK_NAMES), "Variant Inventory Qty", "variant inventory qty"]
)
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,10})?")
_VARIANT_FACTOR = 20.0
"""The price ratio of a product's variants above which it is probably an error."""


@dataclass(frozen=True, slots=True)
class ProductBatch:
    """Products with the norm of the category of each, and whether its language was detected rather than declared. Made
    by `make_batch`.
    """

    products: Sequence[Product]
    has_detected_language: Sequence[bool]
    norms: Sequence[Norm]
    now: datetime
    detect: Detect
    numbers: Sequence[TradeNumber] = ()
    """All trade numbers of the products, in order."""

    def pairs(self) -> Iterator[tuple[Product, Norm]]:
        return zip(self.products, self.norms, strict=True)


def make_batch(
    products: Sequence[Product], guessed: Sequence[bool], norms: Norms, now: datetime, detect: Detect
) -> ProductBatch:
    """The batch of some products; values that several fields need are computed once."""
    norm_of = cache(norms.of)
    each = [norm_of(product.category) for product in products]
    return ProductBatch(products, guessed, each, now, detect, trade_numbers(products))


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


def trade_number(batch: ProductBatch) -> Values:
    """The first EAN, GTIN, UPC or ISBN of each product."""
    values: list[str | None] = [None] * len(batch.products)
    for index, _, number in reversed(batch.numbers):
        values[index] = number
    return values


def broken_gtin(batch: ProductBatch) -> Values:
    """The first trade number that is invalid, with its kind."""
    values: list[str | None] = [None] * len(batch.products)
    for index, kind, number in reversed(batch.numbers):
        if is_broken_number(kind, number):
            values[index] = f"{kind} {number}"
    return values


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


def odd_price(batch: ProductBatch) -> Values:
    """Prices outside the bounds of their category, with its median."""
    return [_odd_price(product, norm) if product.price and norm.prices else None for product, norm in batch.pairs()]


def _odd_price(product: Product, norm: Norm) -> str | None:
    prices = norm.prices.get(product.currency)
    price = product.price or 0.0
    if prices is None or not prices.is_outlier(price):
        return None
    return f"{price:,.2f}; the median of {prices.category} is {prices.median:,.2f}"


def odd_currency(batch: ProductBatch) -> Values:
    """Currencies that differ from that of their category."""
    return [_odd(product.currency, norm.currency) for product, norm in batch.pairs()]


def odd_language(batch: ProductBatch) -> Values:
    """Languages that differ from that of their category; a detected one counts only if the title confirms it."""
    values = [_odd(product.language, norm.language) for product, norm in batch.pairs()]
    unsure = [index for index, odd in enumerate(values) if odd and batch.has_detected_language[index]]
    languages = [batch.products[index].language for index in unsure]
    for index, is_confirmed in zip(unsure, _confirm_languages(batch, unsure, languages), strict=True):
        if not is_confirmed:
            values[index] = None
    return values


def _odd(value: str, usual: UsualValue | None) -> str | None:
    if usual is None or not value or value == usual.value:
        return None
    return f"{value}; in {usual.category} {usual.value} is usual"


def other_language(batch: ProductBatch) -> Values:
    """The languages of titles that differ from the declared ones; a title without a clear language passes."""
    declared = [
        index
        for index, (product, guessed) in enumerate(zip(batch.products, batch.has_detected_language, strict=True))
        if product.language and not guessed
    ]
    values: list[str | None] = [None] * len(batch.products)
    detected = dict(zip(declared, batch.detect([batch.products[index].title for index in declared]), strict=True))
    others = {index: one for index, one in detected.items() if one and one != batch.products[index].language}
    confirmed = _confirm_languages(batch, list(others), list(others.values()))
    for (index, language), is_confirmed in zip(others.items(), confirmed, strict=True):
        if is_confirmed:
            values[index] = f"{language}, declared {batch.products[index].language}"
    return values


def _confirm_languages(batch: ProductBatch, indices: Sequence[int], languages: Sequence[str]) -> list[bool]:
    """Whether both halves of each title are in the language. Invented brands look like some language once in a thousand
    titles, but hardly ever in both halves.
    """
    titles = [batch.products[index].title for index in indices]
    cuts = [max(title.find(" ", len(title) // 2), 0) or len(title) // 2 for title in titles]  # Chinese has no blanks
    first = batch.detect([title[:cut] for title, cut in zip(titles, cuts, strict=True)])
    second = batch.detect([title[cut:] for title, cut in zip(titles, cuts, strict=True)])
    return [one == other == language for one, other, language in zip(first, second, languages, strict=True)]
