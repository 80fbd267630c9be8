"""The free attributes of a product: typed as the feed has them, objects flattened with dots, what is empty left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from indexer.values import NOT_FINITE, digits, wrong_type
from retrieval.records import AttributeValue
from retrieval.value_checks import EXACT

Note = Callable[[str, str, str], None]
"""Told the field, the reason and the detail of a value that was dropped."""

_MAX_DEPTH = 8


def add_attributes(
    found: dict[str, AttributeValue], values: Mapping[str, object], note: Note, prefix: str = ""
) -> None:
    """Adds each value under its name; a name that is there already keeps its value.

    Dropped with a note: a number that is not finite, a list with objects in it, an object more than eight deep.
    """
    for key, value in values.items():
        kind = type(value)
        converted: AttributeValue | None
        # Nearly all are texts, booleans and small numbers, so they go the shortest way.
        if kind is str:
            converted = value.strip() or None  # type: ignore[attr-defined]
        elif kind is bool:
            converted = value  # type: ignore[assignment]
        elif kind is int and -EXACT <= value <= EXACT:  # type: ignore[operator]
            converted = float(value)  # type: ignore[arg-type]
        elif isinstance(value, dict):
            _add_inner(found, prefix + key.strip(), value, note)
            continue
        else:
            converted = _converted(prefix + key.strip(), value, note)
        if converted is not None:
            name = prefix + key.strip()
            if name and name not in found:
                found[name] = converted


def _add_inner(found: dict[str, AttributeValue], name: str, values: Mapping[str, object], note: Note) -> None:
    if name.count(".") < _MAX_DEPTH:
        add_attributes(found, values, note, f"{name}.")
    else:
        note(f"attributes.{name}", "nested too deep", f"more than {_MAX_DEPTH} objects in one another")


def named_attributes(field: str, value: object) -> Mapping[str, object]:
    """The attributes of a row: an object, or a list of objects with `name` and `value`.

    Raises RowError for anything else.
    """
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        raise wrong_type(field, value)
    pairs: dict[str, object] = {}
    for one in value:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise wrong_type(field, value)
        pairs[one["name"]] = one.get("value")
    return pairs


def _converted(name: str, value: object, note: Note) -> AttributeValue | None:
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        note(f"attributes.{name}", NOT_FINITE, str(value))
    elif isinstance(value, int):
        return float(value) if -EXACT <= value <= EXACT else str(value)
    elif isinstance(value, list):
        return _several(name, value, note) or None
    return None


def _several(name: str, values: list[object], note: Note) -> tuple[str, ...]:
    if any(isinstance(value, dict | list) for value in values):
        note(f"attributes.{name}", "a list of objects", f"{len(values)} of them")
        return ()
    converted = (_converted(name, value, note) for value in values)
    return tuple(_spelled(value) for value in converted if value is not None)


def _spelled(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return digits(value) if isinstance(value, float) else str(value)
