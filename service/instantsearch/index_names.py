"""What the name of an index asks for: every name is the one index; some say in which order, or what of it."""

from __future__ import annotations

import re

from retrieval.errors import UnknownFieldError
from retrieval.fields import FieldCatalog

_ORDERED = re.compile(r"(?P<name>.+)_(?P<way>asc|desc)")
_SUGGESTIONS = "query_suggestions"


def is_of_suggestions(index: str) -> bool:
    """Whether its records are queries."""
    return index == _SUGGESTIONS or index.endswith(f"_{_SUGGESTIONS}")


def sort_of(index: str, catalog: FieldCatalog) -> str:
    """The order that a name such as `products_price_desc` ends with, as the engine takes it; empty for any other.

    Raises UnknownFieldError where it ends so and there is no such field to sort by.
    """
    found = _ORDERED.fullmatch(index)
    if not found:
        return ""
    pieces = found["name"].split("_")
    ends = ["_".join(pieces[at:]) for at in range(len(pieces))]
    for end in ends:
        for name in (end, f"attributes.{end}"):
            info = catalog.fields.get(name)
            if info and info.is_numeric:
                return f"-{name}" if found["way"] == "desc" else name
    message = f"{index!r} ends as an order does, and there is no numeric field {ends[-1]!r} to sort by"
    raise UnknownFieldError(message, ends[-1])
