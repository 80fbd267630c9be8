"""Rows to events by a mapping, whatever names each row has; rows of User Behavior Insights (UBI) are known as such.

UBI has two kinds of rows. An event (`action_name`, `event_attributes`) is read by the names that a mapping knows by
default. A query (`query_response_hit_ids`) is one event, and an impression of each product that it returned. Both may
come wrapped as a search engine exports documents, under `_source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from indexer.events.mapping import EventMapping, EventRule
from indexer.events.plan import EventPlan, Keyed, Row, SkipError
from indexer.feeds import FieldNames
from indexer.reading import value_at
from retrieval.events.event import Event, EventKind

_HITS = "query_response_hit_ids"
_QUERY_NAMES = frozenset({_HITS, "query_response_id"})
_BULK_ACTIONS = frozenset({"index", "create"})
_MAX_PLANS = 1_000
_MAX_NAMES = 10_000


class RowEvents:
    """Makes events of rows by one mapping, and remembers which of the user's names no row has had."""

    def __init__(self, mapping: EventMapping, keyed: Keyed) -> None:
        self._mapping = mapping
        self._queries = replace(mapping, events=(EventRule(EventKind.QUERY),))
        self._takes_queries = mapping.events == EventMapping().events and "kind" not in mapping.given
        self._keyed = keyed
        self._plans: dict[tuple[str, ...], EventPlan] = {}
        self._unseen = mapping.asked
        self._names: set[str] = set()

    def events(self, row: Row) -> list[Event]:
        """The events of a row. Raises SkipError where it means to make none, EventError where one cannot be made."""
        row = unwrapped(row)
        plan = self._plan(row)
        events = plan.events(row)
        if plan.is_query:
            return [event for each in events for event in with_impressions(each, row.get(_HITS))]
        return events

    def shown(self, row: Row) -> dict[str, object]:
        """What a row has for the fields of an event, as `EventPlan.shown` gives it."""
        row = unwrapped(row)
        return self._plan(row).shown(row)

    @property
    def fields(self) -> FieldNames:
        """Which of the user's names no row has had so far, and the names that there were."""
        return FieldNames(self._unseen, frozenset(self._names) if self._unseen else frozenset())

    def _plan(self, row: Row) -> EventPlan:
        names = tuple(row)
        if self._unseen:
            self._look(row)
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            is_query = self._takes_queries and not _QUERY_NAMES.isdisjoint(names)
            mapping = self._queries if is_query else self._mapping
            plan = self._plans[names] = EventPlan(mapping, frozenset(names), self._keyed, is_query=is_query)
        return plan

    def _look(self, row: Row) -> None:
        if len(self._names) < _MAX_NAMES:
            self._names.update(row)
        self._unseen = frozenset(name for name in self._unseen if name not in row and value_at(row, name) is None)


def unwrapped(row: Row) -> Row:
    """A document out of what a search engine's export wraps it in. Raises SkipError for the line before a document."""
    if len(row) == 1:
        ((name, value),) = row.items()
        if name in _BULK_ACTIONS and isinstance(value, Mapping):
            raise SkipError("a bulk request's action line")
    if "_source" not in row:
        return row
    inner = row["_source"]
    return inner if isinstance(inner, Mapping) else row


def with_impressions(query: Event, hits: object) -> list[Event]:
    """A query and an impression of each product that it returned, in their order from position 1."""
    # Where only one product was returned, its id may stand alone.
    ids = hits if isinstance(hits, list) else [hits] if isinstance(hits, str | int) else None
    if ids is None:
        return [query]
    if query.results is None:
        query = replace(query, results=len(ids))
    return [query, *(_impression(query, product, position) for position, product in enumerate(ids, 1))]


def _impression(query: Event, product: object, position: int) -> Event:
    product_id = str(product) if type(product) is int else product
    event_id = f"{query.event_id}:{position}" if query.event_id else ""
    return replace(
        query,
        kind=EventKind.IMPRESSION,
        product_id=product_id,  # type: ignore[arg-type]  # what is no text is refused with the reason later
        position=position,
        results=None,
        event_id=event_id,
    )
