"""Killed writers of events: no acknowledged event is lost, and none is stored twice."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.store import EVENT_SCHEMA, event_table
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent
from tests.machine import killed_writers

_THREADS = 2
_DAY = 20_000
_MAX_AT_ONCE = 5
_NO_EVENTS = pl.DataFrame(schema=EVENT_SCHEMA)


@dataclass(frozen=True, slots=True)
class EventFaults:
    sent: int  # number of events passed to a store, each counted once
    acknowledged: int
    stored: int
    lost: int  # acknowledged, but not in the store
    doubled: int  # in the store more than once
    altered: int  # in the store with other values than were sent
    broken_days: int  # days whose count differs from the number of readable events


def measure_event_faults(folder: Path, rounds: int, seed: int) -> EventFaults:
    """Kills `rounds` rounds of writers, and then counts the faults."""
    acknowledged: set[bytes] = set()
    pending: list[bytes] = []
    sent = 0
    for received in killed_writers(partial(_write, pending), folder, rounds, seed, 0.25):
        messages = [message for each in received for message in each]
        begun = {key for is_stored, keys in messages if not is_stored for key in keys}
        acknowledged |= {key for is_stored, keys in messages if is_stored for key in keys}
        sent += len(begun - set(pending))
        pending[:] = sorted((begun | set(pending)) - acknowledged)
    return counted(folder, sent, acknowledged)


def counted(folder: Path, sent: int, acknowledged: set[bytes]) -> EventFaults:
    """Faults in a store: its events against those sent and the keys of acknowledged ones."""
    with closing(SqliteEvents(folder)) as store:
        days = store.days()
        read = {day: pl.concat([_NO_EVENTS, *store.read(day, day)]) for day in days}
    events = pl.concat([_NO_EVENTS, *read.values()])
    keys = events["key"].to_list()
    broken = sum(state.count != read[day].height for day, state in days.items())
    return EventFaults(
        sent,
        len(acknowledged),
        len(keys),
        len(acknowledged.difference(keys)),
        len(keys) - len(set(keys)),
        _altered(events),
        broken,
    )


def _altered(events: pl.DataFrame) -> int:
    sent = event_table(sent_event(key) for key in events["key"])
    same = [events[name].eq_missing(sent[name]) for name in events.columns]
    return events.height - int(pl.select(pl.all_horizontal(same)).to_series().sum())


def _write(pending: Sequence[bytes], folder: Path, name: str, channel: Connection) -> None:
    """Appends with two threads, first the events without a response, as a client would."""
    store, number = SqliteEvents(folder), int(name.replace("-", ""))
    threads = [
        threading.Thread(target=_write_on, args=(store, number * _THREADS + each, pending, channel))
        for each in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _write_on(store: SqliteEvents, number: int, pending: Sequence[bytes], channel: Connection) -> None:
    dice = np.random.default_rng(number)
    _send(store, list(pending), channel)
    count = 0
    while True:
        size = int(dice.integers(1, _MAX_AT_ONCE + 1))
        _send(store, [_key(number, count + each) for each in range(size)], channel)
        count += size


def _send(store: SqliteEvents, keys: list[bytes], channel: Connection) -> None:
    if keys:
        # One write to the pipe each, so that the messages of two threads do not mix.
        channel.send((False, keys))
        store.append([sent_event(key) for key in keys])
        channel.send((True, keys))


def _key(number: int, count: int) -> bytes:
    return number.to_bytes(8, "big") + count.to_bytes(8, "big")


def sent_event(key: bytes) -> StoredEvent:
    """The event of a key; always the same, as a repeated event must be."""
    ms = (_DAY + key[-1] % 5) * DAY_MS + int.from_bytes(key[8:], "big") % DAY_MS
    return StoredEvent(key, "click", ms, ms, "k1~shopper", "k1~session", "q1", "drill", "p1", 1, None, None, None)


@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_no_acknowledged_event_is_lost_and_none_is_doubled(tmp_path: Path, rounds: int) -> None:
    result = measure_event_faults(tmp_path, rounds, 11)
    assert result.acknowledged > rounds
    assert (result.lost, result.doubled, result.altered, result.broken_days) == (0, 0, 0, 0)
    assert result.acknowledged <= result.stored <= result.sent


def found(folder: Path, events: list[StoredEvent], acknowledged: set[bytes]) -> tuple[int, int, int, int, int]:
    with closing(SqliteEvents(folder)) as store:
        store.append(events)
    result = counted(folder, len(events), acknowledged)
    return result.stored, result.lost, result.doubled, result.altered, result.broken_days


def test_the_harness_reports_lost_and_altered_events(tmp_path: Path) -> None:
    keys = [bytes(15) + bytes([at]) for at in range(4)]
    events = [sent_event(key) for key in keys[:3]]
    assert found(tmp_path / "whole", events, set(keys[:3])) == (3, 0, 0, 0, 0)
    events[1] = events[1]._replace(product_id="p2")
    events[2] = events[2]._replace(position=None)
    assert found(tmp_path / "harmed", events, set(keys)) == (3, 1, 0, 2, 0)


def test_round_without_started_writers_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "no folder"
    file.touch()
    with pytest.raises(AssertionError, match="a writer sent nothing"):
        measure_event_faults(file, 1, 11)
