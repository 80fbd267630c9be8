"""The fields that rules can name: those of a product, and those worked out from a batch of products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from indexer.quality import derived
from indexer.quality.derived import Batch, Values
from indexer.quality.rule import Check
from retrieval.records import AttributeValue, Product

_DAY = 86_400.0
_FREE = ("attributes.", "identifiers.")
_NUMERIC = frozenset({Check.BETWEEN, Check.COMPARE})


class Kind(StrEnum):
    """What the values of a field are. A time is in seconds since 1970, UTC."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of known name: its kind, what it holds, and how its values are read off a batch (None: no value)."""

    kind: Kind
    says: str
    values: Callable[[Batch], Values]


def _each(kind: Kind, says: str, read: Callable[[Product], object]) -> Field:
    return Field(kind, says, lambda batch: [read(product) for product in batch.products])


def _text(says: str, read: Callable[[Product], object]) -> Field:
    return _each(Kind.TEXT, says, read)


def _own(kind: Kind, says: str, name: str) -> Field:
    """A field of the product itself, where an empty text is no value."""
    read = attrgetter(name)
    if kind is Kind.TEXT:
        return Field(kind, says, lambda batch: [value or None for value in map(read, batch.products)])
    if kind is Kind.TIME:
        return Field(kind, says, lambda batch: [time and time.timestamp() for time in map(read, batch.products)])
    return Field(kind, says, lambda batch: list(map(read, batch.products)))


FIELDS: Mapping[str, Field] = {
    "id": _own(Kind.TEXT, "the product's id", "id"),
    "title": _own(Kind.TEXT, "the title", "title"),
    "description": _own(Kind.TEXT, "the description", "description"),
    "text": _text("title and description", lambda product: f"{product.title}\n{product.description}"),
    "brand": _own(Kind.TEXT, "the brand", "brand"),
    "category": _text("the path, with > between levels", lambda product: " > ".join(product.category) or None),
    "price": _own(Kind.NUMBER, "the price", "price"),
    "currency": _own(Kind.TEXT, "the currency, ISO 4217", "currency"),
    "availability": _own(Kind.TEXT, "in_stock, out_of_stock, preorder or backorder", "availability"),
    "rating": _own(Kind.NUMBER, "the mean rating, 0 to 5", "rating"),
    "rating_count": _own(Kind.NUMBER, "the number of ratings", "rating_count"),
    "language": _own(Kind.TEXT, "the language, ISO 639-1", "language"),
    "image": _text("the first image", lambda product: product.images[0] if product.images else None),
    "created": _own(Kind.TIME, "when it was created", "created"),
    "updated": _own(Kind.TIME, "when it was last updated", "updated"),
    "expires": _own(Kind.TIME, "until when the offer holds", "expires"),
    "title_length": _each(
        Kind.NUMBER, "bytes of the title; a Chinese character is three", lambda product: len(product.title.encode())
    ),
    "description_length": _each(
        Kind.NUMBER, "bytes of the description, if any", lambda product: len(product.description.encode()) or None
    ),
    "category_depth": _each(
        Kind.NUMBER, "levels of the category, if any", lambda product: len(product.category) or None
    ),
    "image_count": _each(Kind.NUMBER, "how many images", lambda product: len(product.images)),
    "variant_count": _each(Kind.NUMBER, "how many variants", lambda product: len(product.variants)),
    "regular_price": _each(
        Kind.NUMBER, "the attribute regular_price", lambda product: _number(product.attributes.get("regular_price"))
    ),
    "stock": _each(Kind.NUMBER, "pieces in stock, from an attribute such as stock or quantity", derived.stock),
    "identifier": _text("the first identifier that makers give", derived.identifier),
    "gtin": Field(Kind.TEXT, "the first EAN, GTIN, UPC or ISBN; unique looks at all", derived.trade_number),
    "broken_gtin": Field(Kind.TEXT, "one with a wrong length or check digit", derived.broken_gtin),
    "variant_fault": _text("what is wrong between the variants", derived.variant_fault),
    "odd_price": Field(Kind.TEXT, "a price far from those of the category", derived.odd_price),
    "odd_currency": Field(Kind.TEXT, "a currency that the category has not", derived.odd_currency),
    "odd_language": Field(Kind.TEXT, "a language that the category has not", derived.odd_language),
    "other_language": Field(Kind.TEXT, "the title's language, not the declared one", derived.other_language),
    "now": Field(Kind.TIME, "when the report is made", lambda batch: [batch.now.timestamp()] * len(batch.products)),
    "soon": Field(
        Kind.TIME, "a day later, for time zones", lambda batch: [batch.now.timestamp() + _DAY] * len(batch.products)
    ),
    "year_ago": Field(
        Kind.TIME, "365 days before", lambda batch: [batch.now.timestamp() - 365 * _DAY] * len(batch.products)
    ),
}


def known_fields() -> tuple[str, ...]:
    """The names of fields, for messages; any attributes.NAME and identifiers.KIND come on top."""
    return (*FIELDS, "attributes.NAME", "identifiers.KIND")


def is_field(name: str) -> bool:
    """Whether products can have a field of this name."""
    return name in FIELDS or any(name.startswith(prefix) and len(name) > len(prefix) for prefix in _FREE)


def kind_of(name: str, check: Check, *, number: bool = True) -> Kind:
    """What a field's values are for a check: a free attribute is a number where numbers are compared, unless `number`
    is false, else a text.
    """
    if name in FIELDS:
        return FIELDS[name].kind
    return Kind.NUMBER if name.startswith("attributes.") and check in _NUMERIC and number else Kind.TEXT


def read_field(name: str, kind: Kind, batch: Batch) -> Values:
    """The values of a field over a batch, None where a product has none."""
    if name in FIELDS:
        return FIELDS[name].values(batch)
    container, _, key = name.partition(".")
    if container == "identifiers":
        return [_first(product.identifiers.get(key, ())) for product in batch.products]
    read = _number if kind is Kind.NUMBER else _spelled
    return [read(product.attributes.get(key)) for product in batch.products]


def every_value(name: str, batch: Batch) -> tuple[list[int], list[str]]:
    """All texts that the products have in a field, for uniqueness (a product may have several identifiers), and before
    them the place of each one's product in the batch.
    """
    container, _, key = name.partition(".")
    if name == "gtin":
        pairs = [(place, number) for place, _, number in batch.numbers]
    elif container == "identifiers":
        pairs = [(place, one) for place, each in enumerate(batch.products) for one in each.identifiers.get(key, ())]
    else:
        values = read_field(name, Kind.TEXT, batch)
        pairs = [(place, str(value)) for place, value in enumerate(values) if value is not None]
    return [place for place, _ in pairs], [value for _, value in pairs]


def _first(values: Sequence[str]) -> str | None:
    return values[0] if values else None


def _number(value: AttributeValue | None) -> float | None:
    """A number as it is, or as a text spells it plainly."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return derived.plain_number(value)
    return float(value) if isinstance(value, int | float) else None


def _spelled(value: AttributeValue | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or None
    return f"{value:.12g}" if isinstance(value, int | float) else value
