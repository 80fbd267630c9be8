"""Single values that a Python caller hands over, each checked and converted to what a product holds.

Each function gives the value, or raises ValueError, TypeError or OverflowError for one that is not right. A feed's
values are read by `indexer.values`, which knows how feeds spell them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from numbers import Real
from typing import Any

from retrieval.records import AttributeValue, Availability, Variant

Check = Callable[[object], object]

MAX_ID_BYTES = 512
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
EXACT = 2**53
"""Whole numbers up to here are exact as floats."""


def id_problem(spelled: str) -> str:
    """Why a text cannot be the id of a product, or nothing."""
    if not spelled or spelled != spelled.strip():
        return "has blanks around it" if spelled.strip() else "is empty"
    if CONTROL.search(spelled):
        return "has control characters"
    if not is_writable(spelled):
        return "has characters that UTF-8 cannot write"
    if len(spelled.encode()) > MAX_ID_BYTES:
        return f"is longer than {MAX_ID_BYTES} bytes"
    return ""


def is_writable(spelled: str) -> bool:
    """Whether UTF-8 can write a text: half of a surrogate pair stands for no character."""
    try:
        spelled.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(value: object) -> str:
    """A text that UTF-8 can write."""
    if not isinstance(value, str) or not is_writable(value):
        raise ValueError
    return str.__str__(value)  # the plain text of an enumeration's member


def filled(value: object) -> str:
    """A text that is not blank."""
    found = text(value)
    if not found.strip():
        raise ValueError
    return found


def code(value: object, pattern: str) -> str:
    """A text of a pattern, or an empty one."""
    found = text(value)
    if found and not re.fullmatch(pattern, found):
        raise ValueError
    return found


def texts(value: object) -> tuple[str, ...]:
    """Several texts that are not blank. A single text is refused: its letters would be taken for them."""
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(map(filled, value))


def number(value: object, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number between two bounds, both included."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise TypeError
    found = float(value)
    if not math.isfinite(found) or not least <= found <= most:
        raise ValueError
    return found


def price(value: object) -> float:
    """A finite number from 0; that of -0.0 is 0.0."""
    return abs(number(value, 0))


def count(value: object) -> int:
    """A whole number from 0."""
    found = number(value, 0, EXACT)
    if not found.is_integer():
        raise ValueError
    return int(found)


def availability(value: object) -> Availability:
    """One of the four, or its text in any case, with a blank for the underscore."""
    return Availability(text(value).strip().lower().replace(" ", "_"))


def moment(value: object) -> datetime:
    """A time in UTC. A text without a zone is in UTC, as in feeds; a datetime without one could be anywhere."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError
    # Not astimezone: it would keep a subclass (pandas has one) that JSON does not know.
    year, month, day, hour, minute, second, *_ = value.utctimetuple()
    return datetime(year, month, day, hour, minute, second, value.microsecond, UTC)


def mapping(value: object, check: Check) -> dict[str, Any]:
    """A mapping by names; one whose value turns out empty (None) is left out."""
    if not isinstance(value, Mapping):
        raise TypeError
    members = ((filled(name), None if member is None else check(member)) for name, member in value.items())
    return {name: member for name, member in members if member is not None}


def attribute(value: object) -> AttributeValue | None:
    """A free attribute, None where it is empty. As in feeds, a whole number that no float holds becomes a text."""
    if isinstance(value, str):
        return text(value) if value.strip() else None
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        return texts(value) or None
    return str(value) if isinstance(value, int) and abs(value) > EXACT else number(value)


def attributes(value: object) -> dict[str, AttributeValue]:
    """Free attributes by name."""
    return mapping(value, attribute)


def identifier(value: object) -> tuple[str, ...] | None:
    """The values of one kind of identifier, None where there is none."""
    return texts(value) or None


def identifiers(value: object) -> dict[str, tuple[str, ...]]:
    """Identifiers by kind."""
    return mapping(value, identifier)


def variants(value: object) -> tuple[Variant, ...]:
    """Variants, each value of them right for its field."""
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(map(_variant, value))


def _variant(value: object) -> Variant:
    if isinstance(value, Mapping):  # how JSON gives it
        value = Variant(**value)
    if not isinstance(value, Variant):
        raise TypeError
    return Variant(
        text(value.id),
        mapping(value.options, text),
        None if value.price is None else price(value.price),
        None if value.availability is None else availability(value.availability),
        identifiers(value.identifiers),
        text(value.image),
    )
