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

from shelfwise.retrieval.errors import EventError, StoreError
from shelfwise.retrieval.events import elasticsearch
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.store import export_events
from shelfwise.retrieval.events.stored import (
    DAY_MS,
    MAX_POSITION,
    MAX_QUERY,
    SKEW,
    StoredEvent,
    milliseconds,
    validate_event,
)
from shelfwise.retrieval.records import Event, EventKind
from tests.event_stores import any_events, event

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CLICK = Event(EventKind.CLICK, "p1", "q1", "drill", "u1", "s1", 3, NOW)


def test_valid_event_is_accepted_and_defaults_are_filled_in() -> None:
    assert validate_event(CLICK, NOW) == CLICK
    taken = validate_event(Event(EventKind.CART, "p1", shopper="u1"), NOW)
    assert (taken.time, taken.quantity) == (NOW, 1)
    ahead = replace(CLICK, query="  cordless\x00\t drill\n", time=NOW + SKEW)
    assert validate_event(ahead, NOW) == replace(ahead, query="cordless drill")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "wish"}, "unknown kind"),
        ({"product_id": ""}, "no product"),
        ({"product_id": "x" * 513}, "bad product_id"),
        ({"product_id": "a\x00b"}, "bad product_id"),
        ({"product_id": "\ud800"}, "bad product_id"),
        ({"shopper": "é" * 257}, "bad shopper"),
        ({"shopper": "", "session": "", "query_id": ""}, "nobody's"),
        ({"position": 0}, "bad position"),
        ({"position": 1.5}, "bad position"),
        ({"position": True}, "bad position"),
        ({"position": MAX_POSITION + 1}, "bad position"),
        ({"quantity": 0}, "bad quantity"),
        ({"results": -1}, "bad results"),
        ({"query": "x" * (MAX_QUERY + 1)}, "query too long"),
        ({"time": NOW + SKEW + timedelta(seconds=1)}, "in the future"),
        ({"time": datetime(1999, 12, 31, tzinfo=UTC)}, "too old"),
        ({"time": datetime(2026, 11, 24)}, "bad time"),  # without a zone, intentionally
        ({"rating": float("nan")}, "bad rating"),
        ({"rating": 5.5}, "bad rating"),
        ({"kind": EventKind.RATING}, "bad rating"),
        ({"kind": EventKind.QUERY, "query": ""}, "no query"),
        ({"kind": EventKind.QUERY, "query_id": ""}, "no query"),
    ],
)
def test_invalid_event_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventError) as caught:
        validate_event(replace(CLICK, **change), NOW)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 1_500


@pytest.mark.parametrize("field", ["product_id", "position", "rating", "time", "kind"])
def test_error_message_keeps_addresses_whole_for_masking(field: str) -> None:
    value: Any = "x" * 70 + " john.doe@example.com\x07"
    with pytest.raises(EventError, match=r"john\.doe@example\.com"):
        validate_event(replace(CLICK, **{field: value}), NOW)


EVENTS = any_events(st.binary(min_size=16, max_size=16), st.integers(0, 60_000 * DAY_MS))


@given(EVENTS)
def test_event_round_trips_without_empty_fields(stored: StoredEvent) -> None:
    source = msgspec.json.decode(elasticsearch.document(stored, "shop"))
    assert elasticsearch.row(source["shelfwise"]["key"], stored.time, source) == stored
    assert all(value or value == 0 for value in source.values() if not isinstance(value, dict))
    assert None not in source.get("query_attributes", source.get("event_attributes")).values()
    assert all(0 <= mark < 2**24 for mark in _marks(stored))


@pytest.mark.parametrize(
    "change", [{"query": "a"}, {"product_id": "a"}, {"position": 0}, {"quantity": 0}, {"time": 1}, {"rating": 1.0}]
)
def test_different_content_has_different_digest_and_mark(change: dict[str, object]) -> None:
    stored, other = event(1), event(1, **change)
    assert elasticsearch.content_digest(stored) != elasticsearch.content_digest(other)
    assert _marks(stored) != _marks(other)
    assert _marks(stored) != _marks(event(1, received=8)), "of which the digest is the same"


def _marks(stored: StoredEvent) -> tuple[int, int]:
    kept = msgspec.json.decode(elasticsearch.document(stored, "shop"))["shelfwise"]
    return kept["mark_low"], kept["mark_high"]


NOVEMBER = milliseconds(datetime(2026, 11, 1, tzinfo=UTC))
TIMES = (NOVEMBER - 1, NOVEMBER, NOVEMBER + 29 * DAY_MS)
EXPORTED = [event(number, kind="cart", time=time, quantity=2) for number, time in enumerate(TIMES)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEvents]:
    with closing(SqliteEvents(tmp_path / "events")) as opened:
        opened.append(EXPORTED)
        yield opened


def test_export_writes_one_file_per_month(store: SqliteEvents, tmp_path: Path) -> None:
    exported = export_events(store, tmp_path / "out")
    assert exported.files == {"events-2026-10.parquet": 1, "events-2026-11.parquet": 2}
    paths = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in paths] == list(exported.files)
    assert exported.bytes == sum(path.stat().st_size for path in paths)
    read = pl.concat(map(pl.read_parquet, paths))
    stored = pl.concat(store.read(0, 1 << 20)).drop("address")
    assert read.cast(stored.schema).equals(stored)


def test_invalid_export_folder_is_a_store_error(store: SqliteEvents, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        export_events(store, tmp_path / "file")
