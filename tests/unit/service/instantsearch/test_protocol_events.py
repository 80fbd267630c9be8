"""Events of the protocol, translated to the store's events."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shelfwise.retrieval.errors import EventError
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.service.instantsearch.protocol_request import JsonObject
from shelfwise.service.instantsearch.routes import parse_events

AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
CLICK: JsonObject = {
    "eventType": "click",
    "eventName": "Hit Clicked",
    "index": "products_price_asc",
    "userToken": "anonymous-1",
    "queryID": "q1",
    "objectIDs": ["a", "b"],
    "positions": [4, 7],
    "timestamp": int(AT.timestamp() * 1_000),
}


def made(*payload: JsonObject, is_private: bool = False, is_public: bool = False) -> list[Event]:
    return parse_events(payload, is_private=is_private, is_public=is_public)


def test_click_has_the_position_of_each_hit() -> None:
    common = {"query_id": "q1", "shopper": "anonymous-1", "time": AT}
    assert made(CLICK) == [
        Event(EventKind.CLICK, "a", position=4, **common),  # type: ignore[arg-type]
        Event(EventKind.CLICK, "b", position=7, **common),  # type: ignore[arg-type]
    ]


def test_user_token_is_the_shopper_id() -> None:
    (first, _) = made({**CLICK, "authenticatedUserToken": "customer-9"})
    assert first.shopper == "customer-9"
    (first, _) = made({**CLICK, "userToken": 42})
    assert first.shopper == "42"


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"eventType": "click", "queryID": None, "positions": None}, EventKind.CLICK),
        ({"eventType": "view"}, EventKind.IMPRESSION),
        ({"eventType": "view", "queryID": None, "objectIDs": ["a"], "positions": None}, EventKind.CONSULTATION),
        ({"eventType": "conversion", "positions": None}, EventKind.CART),
        ({"eventType": "conversion", "eventSubtype": "purchase", "positions": None}, EventKind.PURCHASE),
    ],
)
def test_event_types_map_to_kinds(payload: JsonObject, kind: EventKind) -> None:
    events = made({**CLICK, **payload})
    assert {each.kind for each in events} == {kind}


def test_purchase_has_quantity_and_query_id() -> None:
    bought: JsonObject = {
        **CLICK,
        "eventType": "conversion",
        "eventSubtype": "purchase",
        "positions": None,
        "objectData": [{"quantity": 3, "price": 9.5, "queryID": "q7"}, {"price": "2"}],
        "value": 12.5,
        "currency": "EUR",
    }
    first, second = made(bought)
    assert (first.quantity, first.query_id) == (3, "q7")
    assert (second.quantity, second.query_id) == (None, "q1")


@pytest.mark.parametrize(
    "payload",
    [
        {"eventType": "instantsearch"},
        {"eventType": "click", "objectIDs": None, "positions": None, "filters": ["brand%3ABosch"]},
        {"eventType": "view", "queryID": None, "positions": None, "objectIDs": ["a"], "eventName": "Hits Viewed"},
    ],
)
def test_event_without_a_product_is_left_out(payload: JsonObject) -> None:
    assert made({**CLICK, **payload}) == []


def test_privacy_request_stores_the_event_without_a_shopper() -> None:
    events = made(CLICK, {**CLICK, "queryID": ""}, is_private=True)
    assert [(each.product_id, each.shopper, each.query_id) for each in events] == [("a", "", "q1"), ("b", "", "q1")]


@pytest.mark.parametrize(
    "payload",
    [
        {"eventType": "dance"},
        {"objectIDs": "a"},
        {"positions": [1]},
        {"positions": [True, 2]},
        {"objectData": [{}]},
        {"objectData": [{"queryID": []}, {}]},
        {"timestamp": float("nan")},
        {"timestamp": 10**300},
        {"userToken": "u" * 513},
    ],
)
def test_invalid_events_are_refused(payload: JsonObject) -> None:
    with pytest.raises(EventError):
        made({**CLICK, **payload})
