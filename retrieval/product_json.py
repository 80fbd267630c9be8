"""A product as compact JSON and back, exactly: what the index's product store holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from retrieval.errors import StoreDamagedError
from retrieval.records import AttributeValue, Availability, Product, Variant


class _CompactVariant(msgspec.Struct, omit_defaults=True, frozen=True):
    id: str
    options: Mapping[str, str] = msgspec.field(default_factory=dict)
    price: float | None = None
    availability: Availability | None = None
    identifiers: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    image: str = ""


class _Compact(msgspec.Struct, omit_defaults=True, frozen=True):
    """The fields of Product, once more: msgspec leaves defaults out for its own structs only."""

    id: str
    title: str
    description: str = ""
    brand: str = ""
    category: tuple[str, ...] = ()
    price: float | None = None
    currency: str = ""
    availability: Availability | None = None
    rating: float | None = None
    rating_count: int | None = None
    images: tuple[str, ...] = ()
    identifiers: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    attributes: Mapping[str, AttributeValue] = msgspec.field(default_factory=dict)
    created: datetime | None = None
    updated: datetime | None = None
    language: str = ""
    variants: tuple[_CompactVariant, ...] = ()
    expires: datetime | None = None


# A read-only mapping is written as the dict it shows, its names sorted: equal products are equal lines.
_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=dict)
_decoder = msgspec.json.Decoder(Product)


def product_to_json(product: Product) -> bytes:
    """One line of JSON without the fields that have their default. Numbers are finite, as every reader makes sure."""
    return _encoder.encode(
        _Compact(
            product.id,
            product.title,
            product.description,
            product.brand,
            product.category,
            product.price,
            product.currency,
            product.availability,
            product.rating,
            product.rating_count,
            product.images,
            product.identifiers,
            product.attributes,
            _whole_minutes(product.created),
            _whole_minutes(product.updated),
            product.language,
            tuple(map(_compact_variant, product.variants)),
            _whole_minutes(product.expires),
        )
    )


def _compact_variant(variant: Variant) -> _CompactVariant:
    return _CompactVariant(
        variant.id, variant.options, variant.price, variant.availability, variant.identifiers, variant.image
    )


def _whole_minutes(time: datetime | None) -> datetime | None:
    """JSON's offsets have no seconds, some historical time zones do: those are written in UTC, the same instant."""
    offset = time.utcoffset() if time else None
    return time.astimezone(UTC) if time and offset and offset % timedelta(minutes=1) else time


def product_from_json(line: bytes) -> Product:
    """The product that `product_to_json` wrote.

    Raises StoreDamagedError when the bytes are anything else.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreDamagedError(f"a stored product cannot be read: {error}; rebuild the index") from error
