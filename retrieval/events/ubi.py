"""An event as a document in the schema of User Behavior Insights (UBI 1.3, github.com/o19s/ubi), and back.

Searches are documents of UBI's queries, everything else of its events. What the schema has no place for stands below
`event_attributes`, or `query_attributes` of a search; what only a store of events needs, below `shelfwise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import xxhash

from retrieval.events.event import EventKind
from retrieval.events.stored import StoredEvent, moment

SCHEMA = 1
"""Of the documents; it stands in the mapping of each index."""
DAY, KEY, TIME, SHOPPER, SESSION = "shelfwise.day", "shelfwise.key", "timestamp", "client_id", "session_id"
MARKS = ("shelfwise.mark_low", "shelfwise.mark_high")
"""Numbers below 2^24 that are made of all of an event: their sums over up to 2^29 events are exact in floats."""
FIELDS = (
    "action_name",
    SHOPPER,
    SESSION,
    "query_id",
    "user_query",
    "event_attributes",
    "query_attributes",
    "shelfwise.received",
)
"""Those that an event is made of again, besides its time and key."""

_ACTIONS = {kind.value: kind.value for kind in EventKind} | {
    EventKind.CART.value: "add_to_cart",
    EventKind.REMOVAL.value: "remove_from_cart",
}
"""As UBI calls what has a usual name there."""
_KINDS = {action: kind for kind, action in _ACTIONS.items()}

_KEYWORD = {"type": "keyword"}
_ATTRIBUTES = {
    "properties": {
        "object": {"properties": {"object_id": _KEYWORD}},
        "position": {"properties": {"ordinal": {"type": "integer"}}},
        "quantity": {"type": "integer"},
        "rating": {"type": "double"},
        "results": {"type": "integer"},
    }
}
_COMMON = {
    "application": _KEYWORD,
    "timestamp": {"type": "date"},
    "query_id": _KEYWORD,
    "client_id": _KEYWORD,
    "session_id": _KEYWORD,
    "shelfwise": {
        "properties": {
            "key": _KEYWORD,
            "day": {"type": "integer"},
            "received": {"type": "date"},
            "mark_low": {"type": "integer"},
            "mark_high": {"type": "integer"},
        }
    },
}
_TEXT = {"type": "text", "fields": {"keyword": _KEYWORD}}
EVENTS_MAPPING: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {**_COMMON, "action_name": _KEYWORD, "user_query": _KEYWORD, "event_attributes": _ATTRIBUTES},
}
QUERIES_MAPPING: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {**_COMMON, "user_query": _TEXT, "query_attributes": _ATTRIBUTES},
}


def document(event: StoredEvent, application: str) -> bytes:
    """The document of an event, as JSON. What an event does not say is not in it."""
    digest = xxhash.xxh3_64_intdigest(msgspec.json.encode(_plain(event)))
    ubi: dict[str, Any] = {
        "application": application,
        "timestamp": moment(event.time).isoformat(timespec="milliseconds"),
        "shelfwise": {
            "key": event.key.hex(),
            "day": event.day,
            "received": event.received,
            "mark_low": digest & 0xFFFFFF,
            "mark_high": digest >> 24 & 0xFFFFFF,
        },
    }
    said = (SHOPPER, event.shopper), (SESSION, event.session), ("query_id", event.query_id), ("user_query", event.query)
    ubi |= {name: value for name, value in said if value}
    if event.kind == EventKind.QUERY:
        ubi["query_attributes"] = _attributes(event)
    else:
        ubi["action_name"] = _ACTIONS[event.kind]
        ubi["event_attributes"] = _attributes(event)
    return msgspec.json.encode(ubi)


def row(key: str, time: int, source: Mapping[str, Any]) -> tuple[object, ...]:
    """What an event was, of its key as hexadecimal digits, its time and its document; as a row of `event_table`."""
    is_query = "action_name" not in source
    attributes = source["query_attributes" if is_query else "event_attributes"]
    return (
        bytes.fromhex(key),
        EventKind.QUERY.value if is_query else _KINDS[source["action_name"]],
        time,
        source["shelfwise"]["received"],
        source.get(SHOPPER, ""),
        source.get(SESSION, ""),
        source.get("query_id", ""),
        source.get("user_query", ""),
        attributes.get("object", {}).get("object_id", ""),
        attributes.get("position", {}).get("ordinal"),
        attributes.get("quantity"),
        attributes.get("rating"),
        attributes.get("results"),
    )


def said_digest(event: StoredEvent) -> str:
    """What tells what a client said from anything else that it might have said under the same key."""
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(_plain(event).said))


def _plain(event: StoredEvent) -> StoredEvent:
    """Five stars are the same as a whole number and with a point."""
    return event if event.rating is None else event._replace(rating=float(event.rating))


def _attributes(event: StoredEvent) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if event.product_id:
        attributes["object"] = {"object_id": event.product_id}
    if event.position is not None:
        attributes["position"] = {"ordinal": event.position}
    numbers: Sequence[tuple[str, float | None]] = (
        ("quantity", event.quantity),
        ("rating", event.rating),
        ("results", event.results),
    )
    return attributes | {name: value for name, value in numbers if value is not None}
