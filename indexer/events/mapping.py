"""Which field of a log's rows becomes which field of an event, which events a row makes, and which rows are left out.

`indexer.events.mapping_files` reads one from a file. What it says replaces the names that are known by default, field
by field; the other fields keep theirs. A field of the row that no rule names is never kept anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from indexer.events.actions import KNOWN_ACTIONS
from indexer.events.conditions import Condition
from indexer.mapping import FeedMapping, Rule, Source
from retrieval.events.event import Event, EventKind

EVENT_FIELDS = tuple(each.name for each in fields(Event))


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Where one field of an event comes from, and how its values are written."""

    names: tuple[str, ...] = ()
    """Fields of the row, or paths with dots into its objects: the first with a value wins."""
    is_joined: bool = False
    """Whether all of them together make the value, and a row that lacks one has none."""
    value: object = None
    """What stands in where none has one."""
    first: int = 1
    """Of a position: what the log calls the first one."""
    pad: int = 0
    """Of an id: shorter ones get zeros before them until they have so many characters."""
    whole: bool = False
    """Of an id: whether `17850.0` is 17850."""
    zone: str = ""
    """Of a time: the zone (IANA) of those that name none."""
    format: str = ""
    """Of a time: its form, in the letters of strptime; by default ISO 8601, or a number since 1970."""
    unit: str = ""
    """Of a time that is a number: seconds or milliseconds; by default told by its size."""


@dataclass(frozen=True, slots=True)
class EventRule:
    """One event that a row makes, where all conditions hold; `kind` is empty where the row's own field says it."""

    kind: EventKind | None = None
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class SkipRule:
    """Rows that are left out on purpose: all conditions hold. They are counted under the reason, and not kept."""

    reason: str
    when: tuple[Condition, ...]


def known(*names: str) -> FieldRule:
    """The first of these names that has a value."""
    return FieldRule(names)


DEFAULT_FIELDS: Mapping[str, FieldRule] = {
    "kind": known("kind", "action", "action_name", "event", "event_type"),
    "product_id": known("product_id", "object_id", "item_id", "sku", "event_attributes.object.object_id"),
    "query_id": known("query_id"),
    "query": known("query", "user_query"),
    "shopper": known("shopper", "user", "user_id", "client_id", "customer_id"),
    "session": known("session", "session_id"),
    "position": known("position", "rank", "ordinal", "event_attributes.position.ordinal"),
    "time": known("time", "timestamp"),
    "event_id": known("event_id", "id"),
    "quantity": known("quantity"),
    "rating": known("rating"),
    "results": known("results"),
}


@dataclass(frozen=True, slots=True)
class EventMapping:
    """How rows become events; as it comes, by the names that are known by default."""

    fields: Mapping[str, FieldRule] = field(default_factory=lambda: DEFAULT_FIELDS)
    kinds: Mapping[str, EventKind] = field(default_factory=lambda: KNOWN_ACTIONS)
    """Values of the field that says the kind, as `plain_action` spells them."""
    events: tuple[EventRule, ...] = (EventRule(),)
    skips: tuple[SkipRule, ...] = ()
    given: frozenset[str] = frozenset()
    """The event fields that the user gave rules for."""

    @property
    def asked(self) -> frozenset[str]:
        """The names that the user gave: one that no row has is worth a warning."""
        names = {name for target in self.given for name in self.fields[target].names}
        asked = [rule.when for rule in self.events] + [rule.when for rule in self.skips]
        return frozenset(names | {condition.field for conditions in asked for condition in conditions})

    @property
    def columns(self) -> FeedMapping:
        """The names alone, as the readers of tables want them."""
        rules = {target: Rule(tuple(map(Source, rule.names))) for target, rule in self.fields.items()}
        return FeedMapping(rules, self.asked, self.given)
