"""The values of a patch as they are typed in a terminal: FIELD=VALUE, read by the field's type."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.errors import ChangeError

_NUMBERS = ("price", "rating", "rating_count")
_SEVERAL = ("images", "identifiers.", "attributes.")
_STRUCTURED = ("identifiers", "attributes", "variants")


def parse_values(product_id: str, typed: Sequence[str]) -> dict[str, object]:
    """The value of each field, for `retrieval.product_checks.checked_values` to check.

    An empty value clears the field. A category's levels are separated by `>`; images, one kind of identifier and one
    attribute are given several values by being named several times; whole mappings and variants are JSON. Raises
    ChangeError for what is not FIELD=VALUE, and for a second value where a field has one.
    """
    given: dict[str, list[str]] = {}
    for each in typed:
        name, equals, value = each.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ChangeError(f"product {product_id!r}: {each!r} is no FIELD=VALUE, such as price=9.99", product_id)
        given.setdefault(name, []).append(value)
    return {name: _value(product_id, name, values) for name, values in given.items()}


def _value(product_id: str, name: str, values: list[str]) -> object:
    value = values[0]
    if len(values) > 1:
        if not name.startswith(_SEVERAL):
            raise ChangeError(
                f"product {product_id!r}: {name} is given {len(values)} values, it has one", product_id, name
            )
        return values
    if not value:
        return None
    if name in _NUMBERS:
        return _number(value)
    if name == "category":
        return [level.strip() for level in value.split(">")]
    if name == "images" or name.startswith("identifiers."):
        return [value]
    return _literal(value) if name in _STRUCTURED or name.startswith("attributes.") else value


def _number(value: str) -> object:
    """A number, or the text itself, which is then refused as the field's value."""
    try:
        return float(value)
    except ValueError:
        return value


def _literal(value: str) -> object:
    """18 is a number, true a boolean, "18" in quotes a text, as is all that is no JSON."""
    import msgspec

    try:
        found: object = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return value
    return found
