"""Validation of events, their documents in UBI, and their export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import EventError, StoreError
from retrieval.events import elasticsearch
from retrieval.events.sqlite import SqliteEvents
from retrieval.events.store import export_events
from retrieval.events.stored import (
    DAY_MS,
    EVENT_SCHEMA,
    MAX_POSITION,
    MAX_QUERY,
    SKEW,
    StoredEvent,
    milliseconds,
    validate_event,
)
from retrieval.records import Event, EventKind
from tests.event_stores import event

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


def cart(number: int, time: datetime) -> StoredEvent:
    ms = milliseconds(time)
    return StoredEvent(number.to_bytes(16, "big"), "cart", ms, ms, "k1~a", "", "", "", "p1", None, 2, None, None)


EXPORTED = [
    cart(3, datetime(2026, 10, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
    cart(1, datetime(2026, 11, 1, tzinfo=UTC)),
    cart(2, datetime(2026, 11, 30, 12, tzinfo=UTC)),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEvents]:
    with closing(SqliteEvents(tmp_path / "events")) as opened:
        opened.append(EXPORTED)
        yield opened


def test_every_month_is_a_file(store: SqliteEvents, tmp_path: Path) -> None:
    exported = export_events(store, tmp_path / "out")
    assert exported.files == {"events-2026-10.parquet": 1, "events-2026-11.parquet": 2}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list(exported.files)
    assert exported.bytes == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())


def test_holds_what_the_store_holds(store: SqliteEvents, tmp_path: Path) -> None:
    export_events(store, tmp_path)
    read = pl.concat(pl.read_parquet(path) for path in sorted(tmp_path.glob("*.parquet")))
    assert read.cast(EVENT_SCHEMA).equals(pl.concat(store.read(0, 1 << 20)))


def test_an_empty_store_has_no_file(tmp_path: Path) -> None:
    with closing(SqliteEvents(tmp_path / "events")) as store:
        assert export_events(store, tmp_path / "out").files == {}


def test_a_folder_that_is_none_is_an_error_of_ours(store: SqliteEvents, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        export_events(store, tmp_path / "file")
