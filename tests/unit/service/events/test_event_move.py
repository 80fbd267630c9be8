"""Moving events between stores: all of them, each once, and none is lost that comes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from retrieval.errors import StoreError
from retrieval.events.sqlite import SqliteEvents
from retrieval.events.stored import DAY_MS, StoredEvent
from service.events.event_log import MoveResult, move_events, stored_events

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


def test_moves_all_of_them_as_they_were(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores
    assert move_events(source, target) == MoveResult(100, 0)
    assert held(target) == EVENTS
    assert source.count() == 0


def test_goes_on_after_it_was_broken_off(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores
    target.append(EVENTS[:40])
    assert move_events(source, target) == MoveResult(60, 40)
    assert held(target) == EVENTS


def test_removes_nothing_where_an_id_is_taken(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores
    target.append([event(3, "another")])
    with pytest.raises(StoreError, match="other events'"):
        move_events(source, target)
    assert held(source) == EVENTS


def test_an_event_that_comes_meanwhile_is_not_lost(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores

    def record(_: int) -> None:
        source.append([event(0)._replace(key=b"another" + bytes(9))])

    with pytest.raises(StoreError, match="meanwhile"):
        move_events(source, target, record)
    assert source.count() == 101
    assert move_events(source, target).moved == 1
    assert target.count() == 101
