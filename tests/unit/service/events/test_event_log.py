"""Recording and moving events: durable, counted once, pseudonymised, and atomic per call."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from shelfwise.retrieval.errors import EventError, QueryError, SettingError, StoreError
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog, MoveResult, RecordResult, move_events, stored_events
from shelfwise.service.settings import EventsSettings, Settings

CLICK = Event(EventKind.CLICK, "p1", "q1", "cordless drill", "jo@example.com", "s1", 3, event_id="e1")


def recorded(root: Path) -> pl.DataFrame:
    with closing(SqliteEvents(root / EVENTS_FOLDER)) as store:
        return pl.concat(store.read(0, 1 << 20))


def test_recorded_event_is_stored_once_when_the_call_returns(live: SearchEngine, root: Path) -> None:
    at = datetime.now(UTC)
    sent = replace(CLICK, time=at)
    assert live.record() == RecordResult(0, 0)
    assert live.record(sent, sent) == RecordResult(1, 1)
    assert live.record(sent) == RecordResult(0, 1)
    assert live.refresh() is False
    (row,) = recorded(root).iter_rows(named=True)
    assert (row["kind"], row["query"], row["product_id"], row["position"]) == ("click", "cordless drill", "p1", 3)
    first = replace(sent, event_id="", product_id="p2")
    others = (replace(first, time=at + timedelta(seconds=1)), replace(first, position=4))
    assert live.record(first, first, *others) == RecordResult(3, 1), "without an id by all that they say"


def test_conflicting_event_id_is_refused_and_the_rest_stored(live: SearchEngine, root: Path) -> None:
    at = datetime.now(UTC)
    live.record(replace(CLICK, time=at))
    with pytest.raises(EventError, match="'e1' was already stored"):
        live.record(replace(CLICK, time=at, product_id="p2"), replace(CLICK, event_id="e2"))
    assert sorted(recorded(root)["product_id"]) == ["p1", "p1"]


def test_invalid_event_is_named_and_its_call_stores_nothing(live: SearchEngine, root: Path) -> None:
    with pytest.raises(EventError, match="event 2 of 2: bad position"):
        live.record(CLICK, replace(CLICK, event_id="e2", position=-1))
    live.record(replace(CLICK, event_id="e3"))
    assert recorded(root).height == 1


def test_shopper_id_is_in_no_file(live: SearchEngine, root: Path) -> None:
    live.record(replace(CLICK, session="jo-phone-4711", query="mail jo@example.com", event_id="jo-event-17"))
    assert recorded(root)["query"].to_list() == ["mail [email]"]
    for path in (root / EVENTS_FOLDER).iterdir():
        content = path.read_bytes()
        assert not any(name in content for name in (b"jo@example", b"jo-phone", b"jo-event"))


def test_an_address_is_stored_as_a_pseudonym_and_does_not_distinguish_events(live: SearchEngine, root: Path) -> None:
    sent = replace(CLICK, time=datetime.now(UTC), address="2001:db8:1:2:3:4:5:6")
    moved = replace(sent, address="192.0.2.7")
    assert live.record(sent, moved) == RecordResult(1, 1), "a phone that sends again from another network"
    live.record(replace(sent, event_id="e2", address="2001:db8:1:2::9"), replace(moved, event_id="e3"))
    one, two, three = recorded(root).sort("address", "key")["address"].to_list()
    assert (len({one, two, three}), len(one)) == (2, 22)
    assert not any(b"2001:db8" in path.read_bytes() for path in (root / EVENTS_FOLDER).iterdir())


def test_threads_and_engines_record_concurrently(root: Path) -> None:
    with (
        SearchEngine.open(root, settings=Settings(), follow=False) as one,
        SearchEngine.open(root, settings=Settings(), follow=False) as other,
        ThreadPoolExecutor(8) as threads,
    ):
        at = datetime.now(UTC)
        engines = [one, other] * 50
        sent = [replace(CLICK, event_id=f"e{number // 2}", time=at) for number in range(100)]
        done = list(threads.map(lambda pair: pair[0].record(pair[1]).stored, zip(engines, sent, strict=True)))
    assert sum(done) == recorded(root).height == 50


def test_closed_engine_refuses_events(root: Path) -> None:
    with SearchEngine.open(root, settings=Settings(), follow=False) as opened:
        opened.record(CLICK)
    with pytest.raises(QueryError, match="closed"):
        opened.record(CLICK)


def test_pseudonym_keys_may_be_in_another_directory(root: Path, tmp_path: Path) -> None:
    keys = tmp_path / "secret" / "keys.json"
    with EventLog.open(root, Settings(events=EventsSettings(keys=keys))) as log:
        log.record([CLICK])
    assert keys.exists()
    assert not list((root / EVENTS_FOLDER).glob("keys*"))


def test_unknown_region_is_named(root: Path) -> None:
    with pytest.raises(SettingError, match="XX is not a region"):
        EventLog.open(root, Settings(events=EventsSettings(phone_regions="US,XX")))


DAY = 20_000


def event(number: int, product: str = "p1") -> StoredEvent:
    key, ms = number.to_bytes(16, "big"), DAY * DAY_MS + number * 3_600_000
    return StoredEvent(key, "rating", ms, ms + 1, "k1~a", "", "q1", "drill", product, 1, None, 4.5, None)


EVENTS = [event(number) for number in range(100)]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[SqliteEvents, SqliteEvents]]:
    with closing(SqliteEvents(tmp_path / "a")) as source, closing(SqliteEvents(tmp_path / "b")) as target:
        source.append(EVENTS)
        yield source, target


def held(store: SqliteEvents) -> list[StoredEvent]:
    return [one for table in store.read(0, 1 << 20) for one in stored_events(table)]


def test_move_copies_all_events_unchanged(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores
    assert move_events(source, target) == MoveResult(100, 0)
    assert held(target) == EVENTS
    assert source.count() == 0


def test_interrupted_move_resumes(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores
    target.append(EVENTS[:40])
    assert move_events(source, target) == MoveResult(60, 40)
    assert held(target) == EVENTS


def test_move_with_a_conflicting_id_removes_nothing(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores
    target.append([event(3, "another")])
    with pytest.raises(StoreError, match="belong to other events"):
        move_events(source, target)
    assert held(source) == EVENTS


def test_event_recorded_during_a_move_is_not_lost(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores

    def record(_: int) -> None:
        source.append([event(0)._replace(key=b"another" + bytes(9))])

    with pytest.raises(StoreError, match="in the meantime"):
        move_events(source, target, record)
    assert source.count() == 101
    assert move_events(source, target).moved == 1
    assert target.count() == 101
