"""Rows that are objects and may list their variants: JSON and Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from indexer import values
from indexer.attributes import Note
from indexer.formats.format import Row
from indexer.formats.variants import amount, check_count
from indexer.values import UnusableValueError
from retrieval.records import Availability, Variant

_CODES = ("sku", "gtin", "ean", "upc", "mpn")


def assemble_objects(rows: Sequence[Row], note: Note, _now: datetime) -> tuple[Row, tuple[Variant, ...]]:
    """The row without its variants, and these: a list of objects with id, options, price, availability, identifiers
    (or sku, gtin, ean, upc, mpn) and image. Anything else under that name is an attribute.

    Raises RowError for a variant with a broken price or a value of the wrong type.
    """
    row = rows[0]
    listed = row.get("variants")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, Mapping) for one in listed):
        return row, ()
    check_count(listed)
    rest = {name: value for name, value in row.items() if name != "variants"}
    return rest, tuple(_variant(one, place, note) for place, one in enumerate(listed, 1))


def _variant(row: Row, place: int, note: Note) -> Variant:
    codes = {kind: row[kind] for kind in _CODES if row.get(kind) is not None}
    identifiers = {**codes, **_object("variants.identifiers", row.get("identifiers"))}
    options = _object("variants.options", row.get("options"))
    return Variant(
        id=_text("variants.id", row.get("id") or row.get("sku")) or str(place),
        options={name: spelled for name, value in options.items() if (spelled := _text("variants.options", value))},
        price=amount("variants.price", row.get("price")),
        availability=_availability(row.get("availability"), note),
        identifiers={
            kind: found for kind, value in identifiers.items() if (found := values.texts("variants.identifiers", value))
        },
        image=_text("variants.image", row.get("image")),
    )


def _object(field: str, value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise values.wrong_type(field, value)
    return value


def _text(field: str, value: object) -> str:
    return "" if value is None else values.text(field, value)


def _availability(value: object, note: Note) -> Availability | None:
    if value is None or value == "":
        return None
    try:
        return values.availability("variants.availability", value)
    except UnusableValueError as error:
        note("variants.availability", error.reason, error.detail)
        return None
