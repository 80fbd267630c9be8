"""Live changes: upserts, deletes and patches, their effect on a product, their form on disk, and their three-way merge
with the next feed.

A live change is pending until the feed's own value of that field changes. The merge has three inputs: the feed's
product when the change was made (`base`), the product after the change (`live`), and the feed's product now (`feed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
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


_MAPPINGS = ("identifiers", "attributes")
_WHOLE = tuple(field.name for field in fields(Product) if field.name not in ("id", *_MAPPINGS))
_MISSING = object()


def merge_products(base: Product | None, live: Product | None, feed: Product | None) -> Product | None:
    """The product after a rebuild, by three-way merge; None means no product.

    For each field, and each key of attributes and identifiers, the feed's value wins if it differs from the base's,
    else the live value. A deleted product stays deleted until the feed's product differs from the base. An upserted
    product that the feed did not have stays until the feed has it. A product that the feed dropped is removed.
    """
    if same_product(base, feed):
        return live
    if base is None or live is None or feed is None:
        return feed
    merged: dict[str, Any] = {
        name: _merged(getattr(base, name), getattr(live, name), getattr(feed, name)) for name in _WHOLE
    }
    for name in _MAPPINGS:
        merged[name] = _merged_mapping(getattr(base, name), getattr(live, name), getattr(feed, name))
    return Product(feed.id, **merged)


def _merged(base: object, live: object, feed: object) -> object:
    return live if _same(base, feed) else feed


def _merged_mapping(
    base: Mapping[str, object], live: Mapping[str, object], feed: Mapping[str, object]
) -> dict[str, object]:
    """The feed's names first, then those that only the live product has."""
    merged = {
        name: _merged(base.get(name, _MISSING), live.get(name, _MISSING), feed.get(name, _MISSING))
        for name in dict.fromkeys((*feed, *live))
    }
    return {name: value for name, value in merged.items() if value is not _MISSING}


def same_product(one: Product | None, other: Product | None) -> bool:
    """Whether two products are equal in every field; the attributes True and 1.0 differ. None means no product."""
    if one is None or other is None or one != other:
        return one is other
    return all(_same(value, other.attributes[name]) for name, value in one.attributes.items())


def _same(one: object, other: object) -> bool:
    """Equality of two values in which True differs from 1.0."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """The live changes of one product: `live`, starting from the feed's `base`. None means no product."""

    id: str
    base: Product | None
    live: Product | None

    @property
    def is_pending(self) -> bool:
        """Whether the live product still differs from the feed's."""
        return not same_product(self.base, self.live)

    def rebase(self, feed: Product | None) -> PendingUpdate:
        """The same changes applied to the feed's new product; `live` is the product of the next version."""
        return PendingUpdate(self.id, feed, merge_products(self.base, self.live, feed))


class _Line(msgspec.Struct, frozen=True):
    """A line of the file. The id is that of the products, at least one of which is present."""

    base: Product | None = None
    live: Product | None = None


_line_decoder = msgspec.json.Decoder(_Line)


def write_pending_updates(path: Path, updates: Iterable[PendingUpdate]) -> int:
    """Writes the pending updates and returns their number; needs memory for one at a time.

    They must be sorted by id as UTF-8, without duplicates; raises ValueError otherwise.
    """
    count, last = 0, b""
    with path.open("wb") as file:
        for update in updates:
            key = update.id.encode()
            if key <= last:
                raise ValueError(f"{update.id!r} follows {last.decode()!r}: pending updates must be sorted by id")
            last = key
            if update.is_pending:
                file.write(_line(update) + b"\n")
                count += 1
    return count


def _line(update: PendingUpdate) -> bytes:
    parts = (("base", update.base), ("live", update.live))
    shown = (b'"%b":%b' % (name.encode(), product_to_json(product)) for name, product in parts if product is not None)
    return b"{%b}" % b",".join(shown)


def read_pending_updates(path: Path) -> Iterator[PendingUpdate]:
    """The updates of a file, ordered by id, one at a time.

    Raises StoreDamagedError for a file that cannot be read or was not written by `write_pending_updates`.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _decode_update(path, number, line)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error


def _decode_update(path: Path, number: int, line: bytes) -> PendingUpdate:
    try:
        stored = _line_decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, f"line {number}: {error}") from error
    ids = {product.id for product in (stored.base, stored.live) if product is not None}
    if len(ids) != 1 or not line.endswith(b"\n"):
        raise _damaged(path, f"line {number} is not a complete change of one product")
    return PendingUpdate(ids.pop(), stored.base, stored.live)


def _damaged(path: Path, what: str) -> StoreDamagedError:
    return StoreDamagedError(f"the pending updates cannot be read from {path} ({what}); rebuild the index")
