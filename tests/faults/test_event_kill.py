"""Killed writers of events: no acknowledged event is lost, and none is stored twice."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
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
    sent: set[bytes] = set()
    acknowledged: set[bytes] = set()
    pending: list[bytes] = []
    for received in killed_writers(partial(_write, pending), tmp_path, rounds, 11, 0.25):
        for is_stored, keys in (message for each in received for message in each):
            (acknowledged if is_stored else sent).update(keys)
        pending[:] = sorted(sent - acknowledged)
    assert len(acknowledged) > rounds
    with closing(SqliteEvents(tmp_path)) as store:
        read = {day: pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *store.read(day, day)]) for day in store.days()}
        assert {day: state.count for day, state in store.days().items()} == {day: read[day].height for day in read}
    events = pl.concat(read.values())
    stored = events["key"].to_list()
    assert acknowledged <= set(stored) <= sent
    assert len(stored) == len(set(stored))
    assert events.equals(event_table(map(sent_event, stored)))
