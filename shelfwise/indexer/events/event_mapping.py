"""Event mapping: the log's fields of each event field, the events of a row, and the rows that are skipped.

Mappings are TOML or JSON files, or shipped with the package; docs/events.md has all keys. A mapping replaces the
default names field by field; the other fields keep theirs. A field of the row that no rule names is never stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from shelfwise.indexer.feeds.mapping import FeedMapping, FieldSource, MappingRule, read_table_file
from shelfwise.indexer.feeds.row_parser import value_at
from shelfwise.retrieval.errors import FeedError, suggest_names
from shelfwise.retrieval.records import Event, EventKind

_FOLDER = files("shelfwise.indexer.events") / "mappings"
_SECTIONS = ("fields", "kinds", "events", "skip")
_IDS = ("event_id", "query_id", "shopper", "session", "product_id")
_COMMON = ("field", "join", "value")
_OPTIONS = {**dict.fromkeys(_IDS, ("pad", "whole")), "position": ("first",), "time": ("zone", "format", "unit")}
_UNITS = ("seconds", "milliseconds")
_MAX_PAD = 100

_Table = Mapping[str, object]
_T = TypeVar("_T")


def shipped_mappings() -> tuple[str, ...]:
    """The names of the mappings that are shipped with Shelfwise."""
    return tuple(sorted(each.name.removesuffix(".toml") for each in _FOLDER.iterdir() if each.name.endswith(".toml")))


def load_event_mapping(name: str | Path) -> EventMapping:
    """The mapping in a TOML or JSON file (detected by its first character), or a shipped one by its name.

    Raises FeedError if there is none, or if it names an unknown field; the message suggests names.
    """
    place = f"mapping {name}"
    return event_mapping(read_table_file(lambda: _content(str(name)), place), place)


def _content(name: str) -> str:
    if name in shipped_mappings() and not Path(name).is_file():
        return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    if not Path(name).exists():
        shipped = shipped_mappings()
        advice = suggest_names(name, shipped, f"the shipped ones are {', '.join(shipped)}")
        raise FeedError(f"mapping {name}: there is no such file; {advice}")
    return Path(name).read_text(encoding="utf-8-sig")


def event_mapping(content: object, place: str) -> EventMapping:
    """The mapping in a decoded file; `place` names the file. Raises FeedError like `load_event_mapping`."""
    table = _table(content, place, _SECTIONS)
    rules = _fields(table.get("fields", {}), f"{place}: [fields]")
    return EventMapping(
        fields={**DEFAULT_FIELDS, **rules},
        kinds={**ACTION_KINDS, **_kinds(table.get("kinds", {}), f"{place}: [kinds]")},
        events=tuple(_each(table, "events", place, _event)) or EventMapping().events,
        skips=tuple(_each(table, "skip", place, _skip)),
        user_fields=frozenset(rules),
    )


def _table(content: object, place: str, keys: Collection[str]) -> _Table:
    if not isinstance(content, dict):
        raise FeedError(f"{place}: expected a table with {', '.join(keys)}")
    for key in content:
        _check_name(str(key), keys, place, "key")
    return content


def _check_name(name: str, names: Collection[str], place: str, what: str) -> None:
    if name not in names:
        advice = suggest_names(name, names, f"there are {', '.join(names)}")
        raise FeedError(f"{place}: there is no {what} {name!r}; {advice}")


def _each(table: _Table, key: str, place: str, read: Callable[[object, str], _T]) -> Iterable[_T]:
    entries = table.get(key, [])
    if not isinstance(entries, list):
        raise FeedError(f"{place}: {key} is a list of tables; begin each with [[{key}]]")
    for number, entry in enumerate(entries, 1):
        yield read(entry, f"{place}: [[{key}]] {number}")


def _fields(content: object, place: str) -> dict[str, FieldRule]:
    table = _table(content, place, EVENT_FIELDS)
    return {target: _rule(target, rule, f"{place} {target}") for target, rule in table.items()}


def _rule(target: str, content: object, place: str) -> FieldRule:
    if isinstance(content, str | list):
        return FieldRule(_names(content, place))
    options = _OPTIONS.get(target, ())
    table = _table(content, place, (*_COMMON, *options))
    if "field" in table and "join" in table:
        raise FeedError(f"{place}: field and join exclude each other")
    names = _names(table["join"] if "join" in table else table.get("field", []), place)
    if not names and "value" not in table:
        raise FeedError(f"{place}: expected a field, a join, or a value for every row")
    value = table.get("value")
    if isinstance(value, datetime):
        value = value.isoformat()
    if value is not None and (not isinstance(value, str | int | float) or isinstance(value, bool)):
        raise FeedError(f"{place}: value is {value!r}; expected a text or a number")
    rule = FieldRule(names, "join" in table, value)
    return replace(rule, **{key: _option(key, table[key], place) for key in options if key in table})  # type: ignore[arg-type]


def _names(content: object, place: str) -> tuple[str, ...]:
    names = content if isinstance(content, list) else [content]
    if not all(isinstance(name, str) and name for name in names) or (content == "" or content is None):
        raise FeedError(f"{place}: expected the name of a field of the log, or a list of names")
    return tuple(names)


def _option(key: str, value: object, place: str) -> object:
    match key:
        case "zone":
            try:
                ZoneInfo(str(value))
            except (OSError, ValueError, LookupError):
                message = f"{place}: zone is {value!r}; expected a name such as Europe/London or UTC"
                raise FeedError(message) from None
        case "unit":
            _check_name(str(value), _UNITS, place, "unit")
        case "whole" if not isinstance(value, bool):
            raise FeedError(f"{place}: whole is {value!r}; expected true or false")
        case "first" if isinstance(value, bool) or not isinstance(value, int):
            raise FeedError(f"{place}: first is {value!r}; expected a whole number, such as 0")
        case "pad" if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_PAD:
            raise FeedError(f"{place}: pad is {value!r}; expected a number of characters from 0 to {_MAX_PAD}")
        case "format" if not isinstance(value, str) or "%" not in value:
            raise FeedError(f"{place}: format is {value!r}; expected a strptime format, such as %d/%m/%Y %H:%M")
        case _:
            pass
    return value


def _kinds(content: object, place: str) -> dict[str, EventKind]:
    if not isinstance(content, dict):
        raise FeedError(f"{place}: expected a table of values and kinds, such as add_to_cart = 'cart'")
    return {normalize_action(str(name)): _kind(kind, f"{place} {name}") for name, kind in content.items()}


def _kind(content: object, place: str) -> EventKind:
    _check_name(str(content), [kind.value for kind in EventKind], place, "kind")
    return EventKind(str(content))


def _event(content: object, place: str) -> EventRule:
    table = _table(content, place, ("kind", "when"))
    kind = _kind(table["kind"], place) if "kind" in table else None
    return EventRule(kind, _conditions(table.get("when", []), place))


def _skip(content: object, place: str) -> SkipRule:
    table = _table(content, place, ("reason", "when"))
    reason = table.get("reason")
    if not isinstance(reason, str) or not reason.strip() or "when" not in table:
        raise FeedError(f"{place}: expected a reason, under which the rows are counted, and when")
    return SkipRule(reason.strip(), _conditions(table["when"], place))


def _conditions(content: object, place: str) -> tuple[Condition, ...]:
    entries = content if isinstance(content, list) else [content]
    return tuple(_condition(entry, f"{place}: when") for entry in entries)


def _condition(content: object, place: str) -> Condition:
    if isinstance(content, str) and content:
        return Condition(content)
    table = _table(content, place, ("field", *TESTS))
    name, tests = table.get("field"), [test for test in TESTS if test in table]
    if not isinstance(name, str) or not name or len(tests) != 1:
        raise FeedError(f"{place}: expected a field and one of {', '.join(TESTS)}; give several as a list of tables")
    operand = table[tests[0]]
    values = operand if tests[0] == "among" else [operand]
    if not isinstance(values, list) or not values or not all(isinstance(one, str | int | float) for one in values):
        raise FeedError(f"{place}: {tests[0]} is {operand!r}; expected a text or a number, or a list of them for among")
    if tests[0] in ("above", "below") and (isinstance(operand, bool) or not isinstance(operand, int | float)):
        raise FeedError(f"{place}: {tests[0]} is {operand!r}; expected a number")
    return Condition(name, tests[0], tuple(values))


_NAMES = {
    EventKind.QUERY: "search on_search user_query",
    EventKind.IMPRESSION: "impressions view view_item_list item_view_list shown",
    EventKind.CLICK: "clicked product_click item_click result_click select_item click_through",
    EventKind.CONSULTATION: "view_item product_view item_view page_view detail_view details",
    EventKind.CART: "add_to_cart addtocart cart_add add_cart",
    EventKind.REMOVAL: "remove_from_cart removefromcart cart_remove remove_cart return refund",
    EventKind.PURCHASE: "purchased product_purchase item_purchase buy order checkout transaction",
    EventKind.RATING: "rate review stars",
}
ACTION_KINDS: Mapping[str, EventKind] = {
    name: kind for kind, names in _NAMES.items() for name in (kind.value, *names.split())
}
"""Names in lower case, with underscores between words.

A bare `view` is an impression, the weakest meaning: an impression counted as a click would mislead training.
"""


def normalize_action(name: str) -> str:
    """A name as in `ACTION_KINDS`: `Add to cart` and `add-to-cart` are add_to_cart."""
    return "_".join(name.lower().replace("-", " ").split())


_TRUE = frozenset({"true", "t", "1", "1.0", "yes", "y", "on"})
TESTS = ("equals", "among", "begins", "above", "below")
"""Tests of a value; without any of these, whether it is true."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a field of the row."""

    field: str
    test: str = ""
    """One of `TESTS`; empty tests for true, 1, yes and the like."""
    operand: tuple[object, ...] = ()
    """The value to compare with; for `among`, several."""

    def compile(self) -> Callable[[Mapping[str, object]], bool]:
        """The condition as a function of a row; false if the row lacks the field."""
        field, test = self.field, _test(self.test, self.operand)

        def holds(row: Mapping[str, object]) -> bool:
            value = row.get(field)
            return test(value_at(row, field) if value is None else value)

        return holds


def _test(name: str, operand: tuple[object, ...]) -> Callable[[object], bool]:
    if name in ("above", "below"):
        bound = number(operand[0])
        if name == "above":
            return lambda value: number(value) > bound
        return lambda value: number(value) < bound
    if name == "begins":
        beginning = str(operand[0])
        return lambda value: str(value).strip().startswith(beginning)
    if name in ("equals", "among"):
        texts = frozenset(normalize_value(one) for one in operand)
        numbers = frozenset(number(one) for one in operand if type(one) in (int, float))
        if numbers:
            return lambda value: normalize_value(value) in texts or number(value) in numbers
        return lambda value: normalize_value(value) in texts
    return lambda value: value is True or (value is not False and normalize_value(value).lower() in _TRUE)


def normalize_value(value: object) -> str:
    """A value as a text for comparison: without surrounding blanks, true and false in lower case."""
    if type(value) is str:
        return value.strip()
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def number(value: object) -> float:
    """A number, or a text that is one; else NaN, which is neither above, below nor equal to anything."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


EVENT_FIELDS = tuple(each.name for each in fields(Event) if each.name != "address")
"""The fields that a log can have: an address counts only on the day on which the service received it."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """The source of one field of an event, and the format of its values."""

    names: tuple[str, ...] = ()
    """Fields of the row, or dotted paths into its objects; the first with a value is used."""
    is_joined: bool = False
    """Whether the values of all names are joined; a row that lacks one then has no value."""
    value: object = None
    """The default if no name has a value."""
    first: int = 1
    """Number of the first position in the log, for a position."""
    pad: int = 0
    """Width of an id in characters: shorter ones are padded with leading zeros."""
    whole: bool = False
    """Whether the id `17850.0` means 17850."""
    zone: str = ""
    """IANA zone of times that name none."""
    format: str = ""
    """Format of a time for strptime; by default ISO 8601, or a number since 1970."""
    unit: str = ""
    """Unit of a time that is a number: seconds or milliseconds; by default detected from its size."""


@dataclass(frozen=True, slots=True)
class EventRule:
    """One event of a row, if all conditions hold; `kind` is empty if a field of the row has it."""

    kind: EventKind | None = None
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class SkipRule:
    """Rows that are skipped on purpose, if all conditions hold; they are counted under the reason."""

    reason: str
    when: tuple[Condition, ...]


DEFAULT_FIELDS: Mapping[str, FieldRule] = {
    "kind": FieldRule(("kind", "action", "action_name", "event", "event_type")),
    "product_id": FieldRule(("product_id", "object_id", "item_id", "sku", "event_attributes.object.object_id")),
    "query_id": FieldRule(("query_id",)),
    "query": FieldRule(("query", "user_query")),
    "shopper": FieldRule(("shopper", "user", "user_id", "client_id", "customer_id")),
    "session": FieldRule(("session", "session_id")),
    "position": FieldRule(("position", "rank", "ordinal", "event_attributes.position.ordinal")),
    "time": FieldRule(("time", "timestamp")),
    "event_id": FieldRule(("event_id", "id")),
    "quantity": FieldRule(("quantity",)),
    "rating": FieldRule(("rating",)),
    "results": FieldRule(("results",)),
}


@dataclass(frozen=True, slots=True)
class EventMapping:
    """Rules that make events from rows; the default uses the default names."""

    fields: Mapping[str, FieldRule] = field(default_factory=lambda: DEFAULT_FIELDS)
    kinds: Mapping[str, EventKind] = field(default_factory=lambda: ACTION_KINDS)
    """Values of the field for the kind, as `normalize_action` spells them."""
    events: tuple[EventRule, ...] = (EventRule(),)
    skips: tuple[SkipRule, ...] = ()
    user_fields: frozenset[str] = frozenset()
    """The event fields for which the user gave rules."""

    @property
    def user_names(self) -> frozenset[str]:
        """The names that the user gave; a name that no row has is reported."""
        names = {name for target in self.user_fields for name in self.fields[target].names}
        conditions_of_rules = [rule.when for rule in self.events] + [rule.when for rule in self.skips]
        return frozenset(names | {condition.field for conditions in conditions_of_rules for condition in conditions})

    @property
    def columns(self) -> FeedMapping:
        """Only the names, for the readers of tables."""
        rules = {target: MappingRule(tuple(map(FieldSource, rule.names))) for target, rule in self.fields.items()}
        return FeedMapping(rules, self.user_names, self.user_fields)
