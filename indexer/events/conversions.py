"""One value of a log's row to one field of an event. Raises EventError for what cannot be read; bounds come later.

No message repeats a shopper's or a session's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from indexer.events.mapping import FieldRule
from retrieval.errors import EventError
from retrieval.events.checking import quoted
from retrieval.events.stored import EPOCH

_WHOLE = re.compile(r"(-?\d+)\.0*")
_SINCE = re.compile(r"\d{9,}(?:\.\d*)?|\d+\.\d*")
_FIRST_MS = 1e11
"""A number from here on is milliseconds: as seconds it would be past the year 5000, as milliseconds it is from 1973."""
_REMEMBERED = 65_536


def text_reader(field: str, rule: FieldRule) -> Callable[[object], str]:
    """Reads an id or a query: a text, or a number as its digits."""
    if rule.whole or rule.pad:
        return lambda value: _whole_text(_text(field, value), rule)
    return lambda value: value if type(value) is str else _text(field, value)


def _text(field: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EventError(f"bad {field}", f"{field} is a text or a number, not {type(value).__name__}")
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def _whole_text(value: str, rule: FieldRule) -> str:
    if rule.whole and (match := _WHOLE.fullmatch(value)):
        value = match[1]
    return value.rjust(rule.pad, "0")


def whole_reader(field: str, plus: int = 0, *, is_absolute: bool = False) -> Callable[[object], int]:
    """Reads a whole number, also one written as `3.0`, and adds `plus`."""

    def read(value: object) -> int:
        whole = value if type(value) is int else _whole(field, value)
        return (abs(whole) if is_absolute else whole) + plus

    return read


def _whole(field: str, value: object) -> int:
    try:
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                value = float(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
    except ValueError:
        pass
    raise EventError(f"bad {field}", f"{quoted(value)}; {field} is a whole number")


def stars(value: object) -> float:
    """A number of stars."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise EventError("bad rating", f"{quoted(value)}; a rating is a number from 0 to 5")


def time_reader(rule: FieldRule) -> Callable[[object], datetime]:
    """Reads a time: ISO 8601, the rule's own format, or a number since 1970."""
    zone = ZoneInfo(rule.zone) if rule.zone else None

    def spelled(value: str) -> datetime:
        try:
            if value[4:5] != "-" and not rule.format and _SINCE.fullmatch(value):
                return _since(float(value), rule.unit)
            moment = datetime.strptime(value, rule.format) if rule.format else datetime.fromisoformat(value)
            if moment.tzinfo is None and zone is not None:
                moment = moment.replace(tzinfo=zone)
            # Once, because each later look at the clock of a place with summer time costs much.
            return moment if moment.tzinfo is UTC or moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError, re.error):
            raise EventError("bad time", f"{quoted(value)}; {_expected(rule)}") from None

    # Where logs name no zone, their times have no fraction either, and come again and again.
    remembered = lru_cache(_REMEMBERED)(spelled) if zone or rule.format else spelled

    def read(value: object) -> datetime:
        if type(value) is str:
            moment = remembered(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = _since(value, rule.unit)
        else:
            raise EventError("bad time", f"a {type(value).__name__}; {_expected(rule)}")
        if moment.tzinfo is None:
            raise EventError("bad time", f"{quoted(value)} names no zone; say which in the mapping: time.zone")
        return moment

    return read


def _expected(rule: FieldRule) -> str:
    return f"times are written {rule.format}" if rule.format else "a time is ISO 8601, or a number since 1970"


def _since(value: float, unit: str) -> datetime:
    try:
        if unit == "milliseconds" or (not unit and abs(value) >= _FIRST_MS):
            return EPOCH + timedelta(milliseconds=value)
        return EPOCH + timedelta(seconds=value)
    except (ValueError, OverflowError):
        raise EventError("bad time", f"{quoted(value)}; no date has this number") from None
