"""Parser of event rows: a mapping is compiled for the names of a row, and applied.

Rows of User Behavior Insights (UBI) are recognised. UBI has two kinds of rows. An event (`action_name`,
`event_attributes`) is read by the default names of a mapping. A query (`query_response_hit_ids`) is one event, and an
impression of each product that it returned. Both may be wrapped in `_source`, as search engines export documents.
Messages never contain the name of a shopper or a session.
"""

from __future__ import annotations

import math
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from shelfwise.indexer.events.event_mapping import (
    EVENT_FIELDS,
    Condition,
    EventMapping,
    EventRule,
    FieldRule,
    IdRule,
    PositionRule,
    TimeRule,
    normalize_action,
)
from shelfwise.indexer.feeds.row_parser import PlansByNames, value_at
from shelfwise.retrieval.errors import EventError
from shelfwise.retrieval.events.stored import EPOCH, quoted
from shelfwise.retrieval.records import Event, EventKind

Row = Mapping[str, object]
_Reader = Callable[[Row], object]

_COUNTED = frozenset({EventKind.CART, EventKind.REMOVAL, EventKind.PURCHASE})
_ONLY = {
    "quantity": _COUNTED,
    "rating": frozenset({EventKind.RATING}),
    "results": frozenset({EventKind.QUERY}),
    "product_id": frozenset(EventKind) - {EventKind.QUERY},
    "position": frozenset(EventKind) - {EventKind.QUERY},
}
"""The kinds that have a field; it is not read for others: a click's row may contain a shop's rating."""
_TEXTS = ("product_id", "query_id", "query", "shopper", "session", "event_id")
_INDEX = {name: index - 1 for index, name in enumerate(EVENT_FIELDS)}
_QUERY_ID, _QUERY, _SESSION = _INDEX["query_id"], _INDEX["query"], _INDEX["session"]
_TIME, _EVENT_ID = _INDEX["time"], _INDEX["event_id"]
_NOTHING = tuple("" if name in _TEXTS else None for name in EVENT_FIELDS[1:])
_BETWEEN = "\x1f"
_REMEMBERED = 65_536


class SkipError(Exception):
    """A row that makes no event on purpose; the message is the reason under which it is counted."""


class KeyedIds:
    """Ids derived from others, such as a session and a query: keyed hashes, which cannot be guessed."""

    def __init__(self, key: Callable[[str], bytes]) -> None:
        self._key = key
        self.make = lru_cache(_REMEMBERED)(self._derive)

    def _derive(self, *parts: str) -> str:
        return urlsafe_b64encode(self._key(_BETWEEN.join(parts))).decode().rstrip("=")


class EventPlan:
    """Makes events from rows with exactly these names."""

    def __init__(
        self, mapping: EventMapping, names: Collection[str], keyed: KeyedIds, *, is_query: bool = False
    ) -> None:
        self.is_query = is_query
        """Whether these are the names of a UBI query."""
        self._keyed = keyed
        self._names = names
        self._kinds = mapping.kinds
        self._getters = {field: got for field, rule in mapping.fields.items() if (got := _getter(rule, names))}
        self._kind_of_text = lru_cache(_REMEMBERED)(self._known_kind)
        self._rules = tuple((rule.kind, _compiled(rule.conditions)) for rule in mapping.events)
        self._skips = tuple((skip.reason.strip(), _compiled(skip.conditions)) for skip in mapping.skips)
        self._readers = {
            kind: [
                (_INDEX[field], self._reader(field, mapping.fields[field], kind))
                for field in self._getters
                if field != "kind" and kind in _ONLY.get(field, (kind,))
            ]
            for kind in EventKind
        }
        self._owners = {
            field: self._reader(field, mapping.fields[field], EventKind.CLICK)
            for field in ("shopper", "session")
            if field in self._getters
        }
        self._has_own_id = len(mapping.events) > 1 and "event_id" in self._getters

    def _reader(self, field: str, rule: FieldRule, kind: EventKind) -> _Reader:
        if rule.join:
            return _joining(field, rule, self._getters[field], self._keyed)
        convert = _converter(field, rule, kind)
        present = _present(rule, self._names)
        if len(present) == 1 and present[0] in self._names and rule.value is None:  # as in nearly all logs
            return _reading_name(present[0], convert)
        return _reading(self._getters[field], convert)

    def events(self, row: Row) -> list[Event]:
        """The events of a row. Raises SkipError for a row that is skipped, EventError for one that cannot be used."""
        for reason, conditions in self._skips:
            if all(holds(row) for holds in conditions):
                raise SkipError(reason)
        result = [
            self._event(row, kind or self._kind(row))
            for kind, conditions in self._rules
            if all(holds(row) for holds in conditions)
        ]
        if not result:
            raise SkipError("no event of the mapping")
        return result

    def event_values(self, row: Row) -> dict[str, object]:
        """The raw values of an event's fields in a row; shopper and session are parsed, empty if they cannot be."""
        values = {field: value for field, get in self._getters.items() if (value := get(row)) is not None}
        for field in self._owners.keys() & values.keys():
            try:
                values[field] = self._owners[field](row)
            except EventError:
                values[field] = ""
        return values

    def _kind(self, row: Row) -> EventKind:
        get = self._getters.get("kind")
        value = get(row) if get else None
        if value is None:
            raise EventError("no kind", "the row has no kind of event; the mapping can set it: [[events]] kind = ...")
        return self._kind_of_text(value if type(value) is str else quoted(value))

    def _known_kind(self, value: str) -> EventKind:
        kind = self._kinds.get(normalize_action(value))
        if kind is None:
            kinds = ", ".join(EventKind)
            raise EventError("unknown kind", f"{quoted(value)}; the kinds are {kinds}; map it under [kinds]")
        return kind

    def _event(self, row: Row, kind: EventKind) -> Event:
        values: list[object] = [*_NOTHING]
        for index, read in self._readers[kind]:
            value = read(row)
            if value is not None:
                values[index] = value
        time = values[_TIME]
        if not isinstance(time, datetime):
            raise EventError("no time", "a logged event needs one; the mapping can set one for all: time.value")
        if values[_QUERY] and values[_SESSION] and not values[_QUERY_ID]:
            query = " ".join(str(values[_QUERY]).split())
            day = str((time - EPOCH).days)
            values[_QUERY_ID] = self._keyed.make("query", str(values[_SESSION]), query, day)
        if self._has_own_id and values[_EVENT_ID]:
            values[_EVENT_ID] = f"{values[_EVENT_ID]}:{kind}"
        return Event(kind, *values)  # type: ignore[arg-type]


def _compiled(conditions: Collection[Condition]) -> tuple[Callable[[Row], bool], ...]:
    return tuple(condition.compile() for condition in conditions)


def _getter(rule: FieldRule, names: Collection[str]) -> _Reader | None:
    """The reader of a rule's raw value for rows with these names; None if none of them can have one."""
    present = _present(rule, names)
    if rule.join:
        return _joined(rule.names) if len(present) == len(rule.names) else None
    if not present:
        return None if rule.value is None else lambda _row: rule.value
    return _first(present, rule.value)


def _present(rule: FieldRule, names: Collection[str]) -> list[str]:
    return [name for name in rule.names if name in names or name.partition(".")[0] in names]


def _first(names: Collection[str], otherwise: object) -> _Reader:
    def get(row: Row) -> object:
        for name in names:
            value = _filled(value_at(row, name))
            if value is not None:
                return value
        return otherwise

    return get


def _joined(names: Collection[str]) -> _Reader:
    def get(row: Row) -> object:
        values = [_filled(value_at(row, name)) for name in names]
        return None if None in values else values

    return get


def _filled(value: object) -> object:
    if type(value) is str:
        return value.strip() or None
    if isinstance(value, float) and math.isnan(value):  # some writers use it for a missing value
        return None
    return None if value is None or value in ([], {}) else value


def _reading(get: _Reader, convert: Callable[[object], object]) -> _Reader:
    def read(row: Row) -> object:
        value = get(row)
        return None if value is None else convert(value)

    return read


def _reading_name(name: str, convert: Callable[[object], object]) -> _Reader:
    def read(row: Row) -> object:
        value = row[name]
        if type(value) is str:
            value = value.strip()
            return convert(value) if value else None
        return None if (value := _filled(value)) is None else convert(value)

    return read


def _joining(field: str, rule: FieldRule, get: _Reader, keyed: KeyedIds) -> _Reader:
    convert = text_reader(field, rule)

    def read(row: Row) -> object:
        values = get(row)
        if not isinstance(values, list):
            return None
        parts = [convert(value) for value in values]
        return keyed.make(field, *parts) if field in ("query_id", "event_id") else ":".join(parts)

    return read


def _converter(field: str, rule: FieldRule, kind: EventKind) -> Callable[[object], object]:
    if field in _TEXTS:
        return text_reader(field, rule)
    if isinstance(rule, TimeRule):
        return time_reader(rule)
    if field == "rating":
        return stars
    if isinstance(rule, PositionRule):
        return whole_reader(field, 1 - rule.first)
    return whole_reader(field, is_absolute=kind is EventKind.REMOVAL)


_HITS = "query_response_hit_ids"
_QUERY_NAMES = frozenset({_HITS, "query_response_id"})
_BULK_ACTIONS = frozenset({"index", "create"})


class EventRowParser:
    """Makes events from rows by one mapping."""

    def __init__(self, mapping: EventMapping, keyed: KeyedIds) -> None:
        self._mapping = mapping
        self._queries = replace(mapping, events=(EventRule(kind=EventKind.QUERY),))
        self._takes_queries = mapping.events == EventMapping().events and "kind" not in mapping.user_fields
        self._keyed = keyed
        self.plans = PlansByNames(mapping.user_names, self._make_plan)

    def parse(self, row: Row) -> list[Event]:
        """The events of a row. Raises SkipError for a row that is skipped, EventError for one that cannot be used."""
        row = unwrap_document(row)
        plan = self.plans.of(row)
        events = plan.events(row)
        if plan.is_query:
            return [event for each in events for event in add_impressions(each, row.get(_HITS))]
        return events

    def event_values(self, row: Row) -> dict[str, object]:
        """See `EventPlan.event_values`."""
        row = unwrap_document(row)
        return self.plans.of(row).event_values(row)

    def _make_plan(self, names: frozenset[str]) -> EventPlan:
        is_query = self._takes_queries and not _QUERY_NAMES.isdisjoint(names)
        return EventPlan(self._queries if is_query else self._mapping, names, self._keyed, is_query=is_query)


def unwrap_document(row: Row) -> Row:
    """A document without the wrapping of a search engine's export. Raises SkipError for an action line of a bulk
    request."""
    if len(row) == 1:
        ((name, value),) = row.items()
        if name in _BULK_ACTIONS and isinstance(value, Mapping):
            raise SkipError("a bulk request's action line")
    if "_source" not in row:
        return row
    inner = row["_source"]
    return inner if isinstance(inner, Mapping) else row


def add_impressions(query: Event, hits: object) -> list[Event]:
    """A query and an impression of each product that it returned, in order, from position 1."""
    # If only one product was returned, its id may not be in a list.
    ids: list[Any] | None = hits if isinstance(hits, list) else [hits] if isinstance(hits, str | int) else None
    if ids is None:
        return [query]
    if query.results is None:
        query = replace(query, results=len(ids))
    impressions = [
        replace(
            query,
            kind=EventKind.IMPRESSION,
            product_id=str(product) if type(product) is int else product,  # other types are refused later
            position=position,
            results=None,
            event_id=f"{query.event_id}:{position}" if query.event_id else "",
        )
        for position, product in enumerate(ids, 1)
    ]
    return [query, *impressions]


_WHOLE = re.compile(r"(-?\d+)\.0*")
_SINCE = re.compile(r"\d{9,}(?:\.\d*)?|\d+\.\d*")
_FIRST_MS = 1e11
"""A number from here on is in milliseconds: as seconds it would be after the year 5000, as milliseconds after 1973."""


def text_reader(field: str, rule: FieldRule) -> Callable[[object], str]:
    """Reads an id or a query: a text, or a number as its digits."""
    if not isinstance(rule, IdRule) or not (rule.whole or rule.pad):
        return lambda value: value if type(value) is str else _text(field, value)

    def read(value: object) -> str:
        text = _text(field, value)
        if rule.whole and (match := _WHOLE.fullmatch(text)):
            text = match[1]
        return text.rjust(rule.pad, "0")

    return read


def _text(field: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EventError(f"bad {field}", f"{field} must be a text or a number, not {type(value).__name__}")
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def whole_reader(field: str, plus: int = 0, *, is_absolute: bool = False) -> Callable[[object], int]:
    """Reads an integer, also one written as `3.0`, and adds `plus`."""

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
    raise EventError(f"bad {field}", f"{quoted(value)}; {field} must be a whole number")


def stars(value: object) -> float:
    """A number of stars."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise EventError("bad rating", f"{quoted(value)}; a rating must be a number from 0 to 5")


def time_reader(rule: TimeRule) -> Callable[[object], datetime]:
    """Reads a time: ISO 8601, the rule's own format, or a number since 1970."""
    zone = ZoneInfo(rule.zone) if rule.zone else None

    def spelled(value: str) -> datetime:
        try:
            if value[4:5] != "-" and not rule.format and _SINCE.fullmatch(value):
                return _since(float(value), rule.unit)
            moment = datetime.strptime(value, rule.format) if rule.format else datetime.fromisoformat(value)
            if moment.tzinfo is None and zone is not None:
                moment = moment.replace(tzinfo=zone)
            # Converted once: later conversions from a zone with summer time are slow.
            return moment if moment.tzinfo is UTC or moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError, re.error):
            raise EventError("bad time", f"{quoted(value)}; {_expected(rule)}") from None

    # Logs without zones have times without fractions, so times repeat.
    remembered = lru_cache(_REMEMBERED)(spelled) if zone or rule.format else spelled

    def read(value: object) -> datetime:
        if type(value) is str:
            moment = remembered(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = _since(value, rule.unit)
        else:
            raise EventError("bad time", f"a {type(value).__name__}; {_expected(rule)}")
        if moment.tzinfo is None:
            raise EventError("bad time", f"{quoted(value)} has no time zone; set it in the mapping: time.zone")
        return moment

    return read


def _expected(rule: TimeRule) -> str:
    return f"the format of times is {rule.format}" if rule.format else "a time is ISO 8601, or a number since 1970"


def _since(value: float, unit: str) -> datetime:
    try:
        if unit == "milliseconds" or (not unit and abs(value) >= _FIRST_MS):
            return EPOCH + timedelta(milliseconds=value)
        return EPOCH + timedelta(seconds=value)
    except (ValueError, OverflowError):
        raise EventError("bad time", f"{quoted(value)}; there is no date for this number") from None
