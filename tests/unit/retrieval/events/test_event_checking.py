"""Which events are taken, and what is said of those that are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from retrieval.errors import EventError
from retrieval.events.stored import MAX_POSITION, MAX_QUERY, SKEW, validate_event
from retrieval.records import Event, EventKind

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CLICK = Event(EventKind.CLICK, "p1", "q1", "drill", "u1", "s1", 3, NOW)


def test_a_whole_event_is_taken_as_it_is() -> None:
    assert validate_event(CLICK, NOW) == CLICK


def test_what_is_not_told_is_filled_in() -> None:
    taken = validate_event(Event(EventKind.CART, "p1", shopper="u1"), NOW)
    assert (taken.time, taken.quantity) == (NOW, 1)


def test_blanks_and_control_characters_of_a_query_become_single_blanks() -> None:
    assert validate_event(replace(CLICK, query="  cordless\x00\t drill\n"), NOW).query == "cordless drill"


def test_a_clock_may_be_a_little_ahead() -> None:
    assert validate_event(replace(CLICK, time=NOW + SKEW), NOW).time == NOW + SKEW


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "wish"}, "unknown kind"),
        ({"kind": None}, "unknown kind"),
        ({"product_id": ""}, "no product"),
        ({"product_id": "x" * 513}, "bad product_id"),
        ({"product_id": "a\x00b"}, "bad product_id"),
        ({"product_id": 17}, "bad product_id"),
        ({"product_id": "\ud800"}, "bad product_id"),
        ({"shopper": "é" * 257}, "bad shopper"),
        ({"shopper": "", "session": "", "query_id": ""}, "nobody's"),
        ({"position": 0}, "bad position"),
        ({"position": -1}, "bad position"),
        ({"position": 1.5}, "bad position"),
        ({"position": True}, "bad position"),
        ({"position": MAX_POSITION + 1}, "bad position"),
        ({"quantity": 0}, "bad quantity"),
        ({"results": -1}, "bad results"),
        ({"query": "x" * (MAX_QUERY + 1)}, "query too long"),
        ({"query": "x" * 1_000_000}, "query too long"),
        ({"query": None}, "bad query"),
        ({"query": "\udc00"}, "bad query"),
        ({"time": NOW + SKEW + timedelta(seconds=1)}, "in the future"),
        ({"time": datetime(1999, 12, 31, tzinfo=UTC)}, "too old"),
        ({"time": datetime(2026, 11, 24)}, "bad time"),  # without a zone on purpose
        ({"time": "2026-11-24"}, "bad time"),
        ({"rating": float("nan")}, "bad rating"),
        ({"rating": 5.5}, "bad rating"),
        ({"kind": EventKind.RATING}, "bad rating"),
        ({"kind": EventKind.QUERY, "query": ""}, "no query"),
        ({"kind": EventKind.QUERY, "query_id": ""}, "no query"),
    ],
)
def test_refuses(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventError) as caught:
        validate_event(replace(CLICK, **change), NOW)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 1_500


@pytest.mark.parametrize("field", ["product_id", "position", "rating", "time", "kind"])
def test_an_address_in_a_message_is_whole_so_that_it_can_be_masked(field: str) -> None:
    value: Any = "x" * 70 + " john.doe@example.com\x07"
    with pytest.raises(EventError, match=r"john\.doe@example\.com"):
        validate_event(replace(CLICK, **{field: value}), NOW)


@pytest.mark.parametrize(
    "value", ["x" * 1_000_000, [0] * 100_000, 10**400, 10**5_000], ids=("text", "list", "big", "huge")
)
@pytest.mark.parametrize("field", ["product_id", "position", "quantity", "time", "kind", "rating"])
def test_messages_are_short(field: str, value: Any) -> None:  # noqa: ANN401
    with pytest.raises(EventError) as caught:
        validate_event(replace(CLICK, **{field: value}), NOW)
    assert len(str(caught.value)) < 1_500


def test_a_kind_with_a_vowel_reads_well() -> None:
    with pytest.raises(EventError, match="events of kind impression need a product_id"):
        validate_event(replace(CLICK, kind=EventKind.IMPRESSION, product_id=""), NOW)
