"""Who changed what a store keeps, and when: as its file has that."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from retrieval.errors import InputError

LONGEST_WHO = 100
MICROSECOND = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wall_clock() -> datetime:
    """The clock of stores that are given no other."""
    return datetime.now(UTC)


def count_of(moment: datetime, unit: timedelta) -> int:
    """The whole units from 1970 to a time with a zone."""
    return (moment - _EPOCH) // unit


def moment_of(count: int, unit: timedelta) -> datetime:
    """The time, in UTC, so many units after 1970."""
    return _EPOCH + count * unit


def check_who(who: str, error: Callable[..., InputError]) -> None:
    """Raises `error` with a message and the field, unless this is a name, such as a pseudonym, or empty."""
    if not isinstance(who, str) or len(who) > LONGEST_WHO:
        raise error(f"who must be a name of at most {LONGEST_WHO} characters", field="who")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in who):
        raise error("who: has a control character in it, or half of one; leave it out", field="who")
