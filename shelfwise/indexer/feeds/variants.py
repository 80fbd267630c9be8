"""Variants of a product: the lowest price, every identifier, every option's values, and the best availability."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from shelfwise.indexer.feeds.base import Record, RejectedRow, shorten
from shelfwise.indexer.feeds.io import MAX_LINE
from shelfwise.indexer.feeds.values import decimal_of, price, wrong_type
from shelfwise.retrieval.errors import RowError
from shelfwise.retrieval.records import Availability, Product, Variant

MAX_VARIANTS = 5_000
"""The most rows of a product's variants. Shop software allows fewer: a feed with more has lost its product ids."""
MAX_CHARACTERS = 16 * MAX_LINE
"""The most characters of all rows of a product."""
TOO_MANY = "too many variants"

_BEST_FIRST = (Availability.IN_STOCK, Availability.PREORDER, Availability.BACKORDER, Availability.OUT_OF_STOCK)


class VariantRows:
    """The rows of one product, within limits; rows beyond them are not kept."""

    def __init__(self, line: int, row: dict[str, str]) -> None:
        self.line = line
        self.rows: list[dict[str, str]] = []
        self._size = 0
        self.add(row)

    def add(self, row: dict[str, str]) -> None:
        if not self.is_full:
            self.rows.append(row)
            self._size += sum(map(len, row.values()))

    @property
    def is_full(self) -> bool:
        return len(self.rows) > MAX_VARIANTS + 1 or self._size > MAX_CHARACTERS

    def record(self, path: str, named: str) -> Record | RejectedRow:
        """The rows as a record; rejected if they are too many or too long."""
        if not self.is_full:
            return Record(path, self.line, named, self.rows)
        detail = f"a product may have {MAX_VARIANTS:,} rows and {MAX_CHARACTERS:,} characters"
        text = shorten(" ".join(value for row in self.rows[:1] for value in row.values()))
        return RejectedRow(path, self.line, TOO_MANY, detail, named, text)


@dataclass(frozen=True, slots=True)
class VariantPrice:
    """A price, and the price before a sale if there is one."""

    price: float
    regular: float | None = None


def price_columns(column: str, offers: Iterable[VariantPrice | None]) -> dict[str, object]:
    """The cheapest offer (of equal ones, the first) as values of `column` and regular_price; empty without offers."""
    offer = min((offer for offer in offers if offer), key=lambda offer: offer.price, default=None)
    if offer is None:
        return {}
    is_sale = offer.regular is not None and offer.regular > offer.price
    return {column: offer.price, **({"regular_price": offer.regular} if is_sale else {})}


def count_of(value: object) -> float | None:
    """The number in a cell; None for anything else."""
    return decimal_of(value) if isinstance(value, str) else None


def amount(field: str, value: object) -> float | None:
    """The price in a feed's cell; None for a blank one. Raises RowError for a broken one."""
    if value is None or value == "" or (isinstance(value, str) and value.isspace()):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong_type(field, value)
    return price(field, value)[0]


def best_availability(variants: Iterable[Variant]) -> Availability | None:
    """The best availability of the variants; None if none has one."""
    values = {variant.availability for variant in variants}
    return next((value for value in _BEST_FIRST if value in values), None)


def option_values(variants: Iterable[Variant]) -> dict[str, list[str]]:
    """The values of each option, in the order of the variants."""
    options: dict[str, dict[str, None]] = {}
    for variant in variants:
        for name, value in variant.options.items():
            options.setdefault(name, {})[value] = None
    return {name: list(values) for name, values in options.items()}


def check_count(rows: Sequence[object]) -> None:
    """Raises RowError for a product with more than MAX_VARIANTS rows."""
    if len(rows) > MAX_VARIANTS + 1:
        raise RowError(TOO_MANY, f"{len(rows):,} rows; a product may have {MAX_VARIANTS:,}")


def add_variants(product: Product, variants: tuple[Variant, ...]) -> Product:
    """The product with its variants, and with their values where its own row has none."""
    lowest = min((variant.price for variant in variants if variant.price is not None), default=None)
    identifiers = dict(product.identifiers)
    for variant in variants:
        for kind, numbers in variant.identifiers.items():
            identifiers[kind] = tuple(dict.fromkeys(identifiers.get(kind, ()) + numbers))
    options = {name: tuple(numbers) for name, numbers in option_values(variants).items()}
    return replace(
        product,
        variants=variants,
        price=lowest if product.price is None else product.price,
        availability=product.availability or best_availability(variants),
        identifiers=identifiers,
        attributes={**options, **product.attributes},
    )


def unique_texts(*values: object) -> list[str]:
    """The distinct texts that are not blank."""
    return list(dict.fromkeys(value.strip() for value in values if isinstance(value, str) and value.strip()))
