"""Translation of the protocol's events: clicks, views and conversions, and the search that led to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar, cast

from shelfwise.retrieval.errors import EventError
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.retrieval.updates.validation import MAX_ID_BYTES
from shelfwise.service.instantsearch.protocol_request import JsonObject, objects

MAX_EVENTS = 1_000
_MAX_OBJECTS = 100
_WIDGETS_VIEW = "Hits Viewed"
"""Name of the views that the libraries send automatically; the search already recorded their impressions."""
_TELEMETRY = "instantsearch"
_KINDS = {"click", "view", "conversion"}

T = TypeVar("T")


def parse_events(payload: JsonObject, *, is_private: bool, is_public: bool) -> list[Event]:
    """The events of a request; raises QueryError or EventError for invalid ones.

    Events of filters, of lists that were only viewed, and of the libraries themselves are ignored; of a public sender
    also impressions, since the search has recorded them. Private events are stored without shopper and session.
    """
    events = [event for each in objects(payload, "events", MAX_EVENTS) for event in _parse_event(each)]
    if is_public:
        events = [each for each in events if each.kind is not EventKind.IMPRESSION]
    if not is_private:
        return events
    return [replace(event, shopper="", session="") for event in events if event.query_id]


def _parse_event(payload: JsonObject) -> Iterator[Event]:
    """One event for each product."""
    kind = _text(payload, "eventType")
    if kind == _TELEMETRY:
        return
    if kind not in _KINDS:
        raise EventError("unknown event type", f"eventType is {kind[:40]!r}, it can be click, view or conversion")
    products = _texts(payload, "objectIDs")
    if _is_viewed_list(payload, kind, products):
        return
    data = _aligned(payload, "objectData", products, dict)
    positions = _aligned(payload, "positions", products, int)
    for at, product_id in enumerate(products):
        of_product: JsonObject = cast(JsonObject, data[at]) if data else {}
        query_id = _text(of_product, "queryID") or _text(payload, "queryID")
        yield Event(
            _event_kind(kind, _text(payload, "eventSubtype"), query_id),
            product_id,
            query_id=query_id,
            shopper=_text(payload, "authenticatedUserToken") or _text(payload, "userToken"),
            position=positions[at] if positions else None,
            time=_time(payload.get("timestamp")),
            quantity=_quantity(of_product.get("quantity")) if kind == "conversion" else None,
        )


def _event_kind(kind: str, subtype: str, query_id: str) -> EventKind:
    """The kind of an event; a conversion without a subtype is a cart."""
    if kind == "conversion":
        return EventKind.PURCHASE if subtype == "purchase" else EventKind.CART
    if kind == "click":
        return EventKind.CLICK
    return EventKind.IMPRESSION if query_id else EventKind.CONSULTATION


def _is_viewed_list(payload: JsonObject, kind: str, products: Sequence[str]) -> bool:
    if kind != "view" or payload.get("queryID"):
        return False
    return len(products) != 1 or payload.get("eventName") == _WIDGETS_VIEW


def _text(payload: JsonObject, name: str) -> str:
    value = payload.get(name)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        # A token may be a customer number.
        return str(value)
    if not isinstance(value, str):
        raise EventError(f"bad {name}", f"{name} must be a text")
    if len(value) > MAX_ID_BYTES:
        raise EventError(f"bad {name}", f"{name} has {len(value):,} characters, at most {MAX_ID_BYTES} are allowed")
    return value


def _texts(payload: JsonObject, name: str) -> list[str]:
    value = payload.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise EventError(f"bad {name}", f"{name} must be a list of texts")
    if len(value) > _MAX_OBJECTS:
        raise EventError(f"bad {name}", f"{name} has {len(value)} entries, at most {_MAX_OBJECTS} are allowed")
    return cast(list[str], value)


def _aligned(payload: JsonObject, name: str, products: Sequence[str], kind: type[T]) -> list[T]:
    """A list with an entry for each product; empty if it is absent."""
    value = payload.get(name)
    if value is None or not products:
        return []
    if not isinstance(value, list) or len(value) != len(products) or not all(type(each) is kind for each in value):
        raise EventError(f"bad {name}", f"{name} must have one entry for each of objectIDs")
    return value


def _time(value: object) -> datetime | None:
    """The time of a timestamp in milliseconds since 1970."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise EventError("bad timestamp", "timestamp must be milliseconds since 1970")
    try:
        return datetime.fromtimestamp(value / 1_000, UTC)
    except (OverflowError, OSError, ValueError):
        raise EventError("bad timestamp", f"{value:g} is not a time in milliseconds since 1970") from None


def _quantity(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
