"""An event as a document of UBI: back from it is the same event, and what tells events apart does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.events import elasticsearch
from retrieval.events.stored import DAY_MS, StoredEvent
from retrieval.records import EventKind
from tests.event_stores import event

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.none() | st.integers(0, 2**31 - 1)
EVENTS = st.builds(
    StoredEvent,
    key=st.binary(min_size=16, max_size=16),
    kind=st.sampled_from([kind.value for kind in EventKind]),
    time=st.integers(0, 60_000 * DAY_MS),
    received=st.integers(0, 60_000 * DAY_MS),
    shopper=TEXTS,
    session=TEXTS,
    query_id=TEXTS,
    query=TEXTS,
    product_id=TEXTS,
    position=NUMBERS,
    quantity=NUMBERS,
    rating=st.none() | st.floats(0, 5),
    results=NUMBERS,
)
CHANGES = ({"query": "a"}, {"product_id": "a"}, {"position": 0}, {"quantity": 0}, {"time": 1}, {"rating": 1.0})


@given(EVENTS)
def test_an_event_comes_back_as_it_was(stored: StoredEvent) -> None:
    source = msgspec.json.decode(elasticsearch.document(stored, "shop"))
    assert source["shelfwise"]["key"] == stored.key.hex()
    assert elasticsearch.row(source["shelfwise"]["key"], stored.time, source) == stored


@given(EVENTS)
def test_nothing_empty_is_written(stored: StoredEvent) -> None:
    source = msgspec.json.decode(elasticsearch.document(stored, "shop"))
    assert all(value or value == 0 for value in source.values() if not isinstance(value, dict))
    assert None not in source.get("query_attributes", source.get("event_attributes")).values()


@pytest.mark.parametrize("kind", list(EventKind))
def test_only_a_search_has_no_action(kind: EventKind) -> None:
    source = msgspec.json.decode(elasticsearch.document(event(1, kind=kind.value), "shop"))
    is_query = kind is EventKind.QUERY
    assert ("action_name" in source, "event_attributes" in source, "query_attributes" in source) == (
        not is_query,
        not is_query,
        is_query,
    )


@pytest.mark.parametrize("change", CHANGES)
def test_another_saying_has_another_digest_and_another_mark(change: dict[str, object]) -> None:
    stored, other = event(1), event(1, **change)
    assert elasticsearch.content_digest(stored) != elasticsearch.content_digest(other)
    assert _marks(stored) != _marks(other)


def test_when_it_came_in_is_not_in_the_digest_but_in_the_marks() -> None:
    stored, again = event(1), event(1, received=8)
    assert elasticsearch.content_digest(stored) == elasticsearch.content_digest(again)
    assert _marks(stored) != _marks(again)


def test_stars_are_the_same_with_a_point() -> None:
    whole, pointed = event(1, rating=5), event(1, rating=5.0)
    assert elasticsearch.content_digest(whole) == elasticsearch.content_digest(pointed)
    assert _marks(whole) == _marks(pointed)


@given(EVENTS)
def test_marks_can_be_summed_exactly(stored: StoredEvent) -> None:
    assert all(0 <= mark < 2**24 for mark in _marks(stored))
    assert (2**24 - 1) * 2**29 < 2**53


def _marks(stored: StoredEvent) -> tuple[int, int]:
    kept = msgspec.json.decode(elasticsearch.document(stored, "shop"))["shelfwise"]
    return kept["mark_low"], kept["mark_high"]
