"""Event mapping: the log's fields of each event field, the events of a row, and the rows that are skipped.

Mappings are TOML or JSON files, or shipped with the package; docs/events.md has all keys. A mapping replaces the
default names field by field; the other fields keep theirs. A field of the row that no rule names is never stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from shelfwise.indexer.feeds.mapping import FeedMapping, FieldSource, MappingRule, mapping_error
from shelfwise.indexer.feeds.row_parser import value_at
from shelfwise.retrieval.errors import FeedError, suggest_names
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.retrieval.updates.validation import convert_document, read_document

_FOLDER = files("shelfwise.indexer.events") / "mappings"


def shipped_mappings() -> tuple[str, ...]:
    """The names of the mappings that are shipped with Shelfwise."""
    return tuple(sorted(each.name.removesuffix(".toml") for each in _FOLDER.iterdir() if each.name.endswith(".toml")))


def load_event_mapping(name: str | Path) -> EventMapping:
    """The mapping in a TOML or JSON file, or a shipped one by its name.

    Raises FeedError if there is none, or if it names an unknown field; the message suggests names.
    """
    path = Path(name)
    shipped = shipped_mappings()
    if not path.exists():
        if str(name) not in shipped:
            advice = suggest_names(str(name), shipped, f"the shipped ones are {', '.join(shipped)}")
            raise FeedError(f"mapping {name}: there is no such file; {advice}")
        path = Path(str(_FOLDER / f"{name}.toml"))
    return event_mapping(read_document(path, FeedError), f"mapping {name}")


def event_mapping(content: object, place: str) -> EventMapping:
    """The mapping in a decoded file; `place` names the file. Raises FeedError like `load_event_mapping`."""
    file = convert_document(content, _MappingFile, place, mapping_error)
    tables = {name: getattr(file.fields, name) for name in EVENT_FIELDS}
    rules = {name: _field_rule(name, table) for name, table in tables.items() if table is not None}
    return EventMapping(
        fields={**DEFAULT_FIELDS, **rules},
        kinds={**ACTION_KINDS, **{normalize_action(name): kind for name, kind in file.kinds.items()}},
        events=tuple(file.events) or EventMapping().events,
        skips=tuple(file.skip),
        user_fields=frozenset(rules),
    )


_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Names = _Name | Annotated[list[_Name], msgspec.Meta(min_length=1)]
_Operand = str | int | float | bool


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """A table of a mapping file; its fields are the keys that the file can have."""


class FieldRule(_Table):
    """The source of one field of an event."""

    field: _Names | None = None
    """Fields of the row, or dotted paths into its objects; the first with a value is used."""
    join: _Names | None = None
    """Fields whose values are joined; a row that lacks one then has no value."""
    value: Any = None
    """The default if no field has a value; a time as ISO 8601."""

    def __post_init__(self) -> None:
        if (self.field is not None) + (self.join is not None) > 1:
            raise ValueError("field and join exclude each other")
        if self.field is None and self.join is None and self.value is None:
            raise ValueError("expected a field, a join, or a value for every row")
        if not isinstance(self.value, str | int | float | datetime | None) or isinstance(self.value, bool):
            raise ValueError(f"value is {self.value!r}; expected a text or a number")
        if isinstance(self.value, datetime):
            self.value = self.value.isoformat()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields of the row."""
        names = self.join or self.field or ()
        return (names,) if isinstance(names, str) else tuple(names)


class IdRule(FieldRule):
    """The source of an id."""

    pad: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Width in characters: shorter ids are padded with leading zeros."""
    whole: bool = False
    """Whether `17850.0` means 17850."""


class PositionRule(FieldRule):
    """The source of a position."""

    first: int = 1
    """Number of the first position in the log."""


class TimeRule(FieldRule):
    """The source of a time."""

    zone: str = ""
    """IANA zone of times that name none."""
    format: str = ""
    """Format for strptime; by default ISO 8601, or a number since 1970."""
    unit: Literal["", "seconds", "milliseconds"] = ""
    """Unit of a number; by default detected from its size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format and "%" not in self.format:
            raise ValueError(f"format is {self.format!r}; expected a strptime format, such as %d/%m/%Y %H:%M")
        try:
            ZoneInfo(self.zone or "UTC")
        except (OSError, ValueError, LookupError):
            raise ValueError(f"zone is {self.zone!r}; expected a name such as Europe/London or UTC") from None


_TRUE = frozenset({"true", "t", "1", "1.0", "yes", "y", "on"})
_TESTS = ("equals", "among", "begins", "above", "below")


class Condition(_Table):
    """One condition on a field of the row: a test of its value, or without one, whether it is true, 1, yes and the
    like."""

    field: _Name
    equals: _Operand | None = None
    among: Annotated[list[_Operand], msgspec.Meta(min_length=1)] | None = None
    begins: _Operand | None = None
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, test) is not None for test in _TESTS) > 1:
            raise ValueError(f"expected a field and one of {', '.join(_TESTS)}; give several as a list of tables")

    def compile(self) -> Callable[[Mapping[str, object]], bool]:
        """The condition as a function of a row; false if the row lacks the field."""
        field = self.field
        test = self._test()
        return lambda row: test(value_at(row, field))

    def _test(self) -> Callable[[object], bool]:
        if (above := self.above) is not None:
            return lambda value: number(value) > above
        if (below := self.below) is not None:
            return lambda value: number(value) < below
        if self.begins is not None:
            beginning = str(self.begins)
            return lambda value: str(value).strip().startswith(beginning)
        operands = self.among or ([] if self.equals is None else [self.equals])
        if not operands:
            return lambda value: value is True or (value is not False and normalize_value(value).lower() in _TRUE)
        texts = frozenset(map(normalize_value, operands))
        numbers = frozenset(number(one) for one in operands if type(one) in (int, float))
        if numbers:
            return lambda value: normalize_value(value) in texts or number(value) in numbers
        return lambda value: normalize_value(value) in texts


_When = _Name | Condition | list[_Name | Condition]


class _ConditionalRule(_Table, kw_only=True):
    when: _When = []

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that must all hold."""
        each = self.when if isinstance(self.when, list) else [self.when]
        return tuple(Condition(one) if isinstance(one, str) else one for one in each)


class EventRule(_ConditionalRule):
    """One event of a row, if all conditions hold; `kind` is empty if a field of the row has it."""

    kind: EventKind | None = None


class SkipRule(_ConditionalRule, kw_only=True):
    """Rows that are skipped on purpose, if all conditions hold; they are counted under the reason."""

    reason: str
    when: _When

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("expected a reason, under which the rows are counted")


_RULES: dict[str, type[FieldRule]] = {
    **dict.fromkeys(("event_id", "query_id", "shopper", "session", "product_id"), IdRule),
    "position": PositionRule,
    "time": TimeRule,
}
EVENT_FIELDS = tuple(each.name for each in fields(Event) if each.name != "address")
"""The fields that a log can have: an address counts only on the day on which the service received it."""
_FieldTables = msgspec.defstruct(
    "_FieldTables",
    [(name, _Names | _RULES.get(name, FieldRule) | None, None) for name in EVENT_FIELDS],
    frozen=True,
    forbid_unknown_fields=True,
)


class _MappingFile(_Table):
    fields: _FieldTables = _FieldTables()  # type: ignore[valid-type]
    kinds: dict[str, EventKind] = {}
    events: list[EventRule] = []
    skip: list[SkipRule] = []


def _field_rule(name: str, rule: FieldRule | str | list[str]) -> FieldRule:
    """The rule of an event field, from one or from names of the row's fields."""
    return rule if isinstance(rule, FieldRule) else _RULES.get(name, FieldRule)(rule)


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


_DEFAULT_NAMES = {
    "kind": "kind action action_name event event_type",
    "product_id": "product_id object_id item_id sku event_attributes.object.object_id",
    "query_id": "query_id",
    "query": "query user_query",
    "shopper": "shopper user user_id client_id customer_id",
    "session": "session session_id",
    "position": "position rank ordinal event_attributes.position.ordinal",
    "time": "time timestamp",
    "event_id": "event_id id",
    "quantity": "quantity",
    "rating": "rating",
    "results": "results",
}
DEFAULT_FIELDS = {name: _field_rule(name, names.split()) for name, names in _DEFAULT_NAMES.items()}


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
        rules = (*self.events, *self.skips)
        return frozenset(names | {condition.field for rule in rules for condition in rule.conditions})

    @property
    def columns(self) -> FeedMapping:
        """Only the names, for the readers of tables."""
        rules = {target: MappingRule(tuple(map(FieldSource, rule.names))) for target, rule in self.fields.items()}
        return FeedMapping(rules, self.user_names, self.user_fields)
