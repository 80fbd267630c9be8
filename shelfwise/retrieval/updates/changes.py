"""Live changes: upserts, deletes and patches, their effect on a product, and their form on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shelfwise.retrieval.errors import ChangeError, StoreDamagedError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import product_to_json
from shelfwise.retrieval.updates.validation import apply_patch, validate_id, validate_patch, validate_product

MAX_CHANGE_BYTES = 1_000_000
"""The longest stored change in bytes."""


class Upsert(msgspec.Struct, frozen=True, tag="upsert"):
    """Adds a product, or replaces the one that has its id."""

    product: Product

    @property
    def id(self) -> str:
        return self.product.id


class Delete(msgspec.Struct, frozen=True, tag="delete"):
    """Removes a product."""

    id: str


class Patch(msgspec.Struct, frozen=True, tag="patch"):
    """Changes some fields of a product; names as in `shelfwise.retrieval.updates.validation.validate_patch`."""

    id: str
    values: Mapping[str, Any]


Change = Upsert | Delete | Patch


def validate_change(change: Change) -> Change:
    """The change with validated and converted values; raises ChangeError."""
    match change:
        case Upsert(product):
            return Upsert(validate_product(product))
        case Delete(product_id):
            return Delete(validate_id(product_id))
        case Patch(product_id, values):
            return Patch(validate_id(product_id), validate_patch(product_id, values))


def apply_change(product: Product | None, change: Change) -> Product | None:
    """The product after a change; None means no product, and a patch leaves None as it is."""
    match change:
        case Upsert(upserted):
            return upserted
        case Delete():
            return None
        case Patch(_, values):
            return None if product is None else apply_patch(product, values)


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Change)


def change_to_json(change: Change) -> bytes:
    """One line of JSON, equal for equal changes; raises ChangeError for an invalid change or one above 1 MB."""
    change = validate_change(change)
    if isinstance(change, Upsert):
        line = b'{"type":"upsert","product":%b}' % product_to_json(change.product)
    else:
        line = _encoder.encode(change)
    if len(line) > MAX_CHANGE_BYTES:
        message = (
            f"product {change.id!r}: the change has {len(line):,} bytes; at most {MAX_CHANGE_BYTES:,} are allowed, so "
            "shorten its texts"
        )
        raise ChangeError(message, change.id)
    return line


def change_from_json(line: bytes) -> Change:
    """The change that `change_to_json` wrote; raises StoreDamagedError for other bytes."""
    try:
        return validate_change(_decoder.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ChangeError) as error:
        raise StoreDamagedError(f"a stored live change cannot be read: {error}") from error
