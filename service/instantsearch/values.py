"""Values of a request, each in the ways that the libraries spell it: as JSON, or as texts of a URL."""

from __future__ import annotations

from typing import Any

from retrieval.errors import QueryError
from service.instantsearch.body import Said, json_value

AnyOf = tuple[str, ...]
"""Filters of which one must hold."""
MOST_NAMES = 200
MOST_NAME = 500
"""Characters of the name of an index, or of what is typed to find a value."""
_MOST_FILTER = 1_000
_MOST_TEXT = 10_000


def text(said: Said, name: str, default: str = "", most: int = _MOST_TEXT) -> str:
    """A text; raises QueryError for anything else, as all of these do."""
    value = said.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise QueryError(f"{name} must be a text, not {_kind(value)}")
    if len(value) > most:
        raise QueryError(f"{name} has {len(value):,} characters, it may have {most:,}")
    return value


def whole(said: Said, name: str, default: int, least: int, most: int) -> int:
    """A whole number within bounds."""
    value = said.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise QueryError(f"{name} is {_shown(value)}, it can be {least} to {most}")
    return value


def number(said: Said, name: str, default: float, least: float, most: float) -> float:
    """A number within bounds."""
    value = said.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise QueryError(f"{name} is {_shown(value)}, it can be {least:g} to {most:g}")
    return float(value)


def flag(said: Said, name: str, *, default: bool) -> bool:
    """Yes or no."""
    value = said.get(name)
    if value is None:
        return default
    if value in (True, "true", "1"):
        return True
    if value in (False, "false", "0", ""):
        return False
    raise QueryError(f"{name} is {_shown(value)}, it can be true or false")


def names(said: Said, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A list of texts: a JSON list, the same written as a text, one text, or several with commas."""
    value = _opened(said, name)
    if value is None:
        return default
    if isinstance(value, str):
        value = [each.strip() for each in value.split(",") if each.strip()]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise QueryError(f'{name} must be a list of names, such as ["brand"]')
    _check_count(len(value), name)
    return tuple(value)


def all_of_any(said: Said, name: str) -> tuple[AnyOf, ...]:
    """Filters: all entries of the list must hold, one each of those that are lists themselves."""
    value = _opened(said, name)
    if value is None or value == "":
        return ()
    entries: list[Any] = value if isinstance(value, list) else [value]
    groups = [each if isinstance(each, list) else [each] for each in entries]
    if not all(isinstance(each, str) for group in groups for each in group):
        raise QueryError(f'{name} must be a list of texts, or of lists of texts, such as [["brand:Bosch"], "new:true"]')
    _check_count(sum(map(len, groups)), name)
    if any(len(each) > _MOST_FILTER for group in groups for each in group):
        raise QueryError(f"{name}: each of its entries may have {_MOST_FILTER:,} characters")
    return tuple(tuple(group) for group in groups if group)


def _opened(said: Said, name: str) -> object:
    """The value; a text that is a JSON list is that list."""
    value = said.get(name)
    return json_value(value, name) if isinstance(value, str) and value.lstrip().startswith("[") else value


def _check_count(count: int, name: str) -> None:
    if count > MOST_NAMES:
        raise QueryError(f"{name} has {count} entries, it may have {MOST_NAMES}")


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float) else _kind(value)
