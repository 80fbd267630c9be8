"""Writers of events that are killed repeatedly, and counts of lost, doubled and altered events."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import polars as pl

from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.store import EVENT_SCHEMA, event_table
from shelfwise.retrieval.events.stored import DAY_MS, KEY_BYTES, StoredEvent

# In each round two processes append to one store, each with two threads, and are killed at a random time. They pass on
# at once the keys of durable events. The next round's processes begin by repeating the events without a response, as a
# client would.

_PROCESSES = 2
_THREADS = 2
_LONGEST_SECONDS = 0.25
_START_SECONDS = 30.0
_DAY = 20_000
_MOST_AT_ONCE = 5
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


def measure_event_faults(folder: Path, rounds: int, seed: int, context: ForkServerContext) -> EventFaults:
    """Kills `rounds` rounds of writers, which are forked from `context`, and then counts the faults.

    Raises AssertionError if a writer does not begin to write: its round would prove nothing.
    """
    dice = np.random.default_rng(seed)
    acknowledged: set[bytes] = set()
    pending: list[bytes] = []
    sent = 0
    for number in range(rounds):
        writers = [_Writer(context, folder, number * _PROCESSES + each, pending) for each in range(_PROCESSES)]
        try:
            for writer in writers:
                writer.wait_until_it_writes()
            time.sleep(dice.uniform(0, _LONGEST_SECONDS))
        finally:
            killed = [writer.kill() for writer in writers]
        acknowledged.update(key for done, _ in killed for key in done)
        begun = {key for _, keys in killed for key in keys}
        sent += len(begun - set(pending))
        pending = sorted((begun | set(pending)) - acknowledged)
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


class _Writer:
    """A process that writes until it is killed; two pipes carry the keys of begun and of acknowledged events."""

    def __init__(self, context: ForkServerContext, folder: Path, number: int, pending: Sequence[bytes]) -> None:
        self._begun, begun = context.Pipe(duplex=False)
        self._done, done = context.Pipe(duplex=False)
        self._process = context.Process(target=_write, args=(folder, number, pending, begun, done))
        self._process.start()
        begun.close()
        done.close()
        self._keys: tuple[list[bytes], list[bytes]] = ([], [])
        self._threads = [
            threading.Thread(target=_collect, args=(pipe.fileno(), keys), daemon=True)
            for pipe, keys in zip((self._done, self._begun), self._keys, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_it_writes(self) -> None:
        """Waits for the first event, as a kill before it proves nothing. Raises AssertionError if there is none."""
        until = time.monotonic() + _START_SECONDS
        while not self._keys[1]:
            if not self._process.is_alive():
                raise AssertionError(f"a writer ended with {self._process.exitcode} before it wrote anything")
            if time.monotonic() >= until:
                raise AssertionError(f"a writer has written nothing within {_START_SECONDS:.0f} s")
            time.sleep(0.001)

    def kill(self) -> tuple[list[bytes], list[bytes]]:
        """Kills the process; returns the acknowledged keys and all begun ones."""
        self._process.kill()
        self._process.join()
        for thread in self._threads:
            thread.join()
        self._done.close()
        self._begun.close()
        return self._keys


def _collect(descriptor: int, keys: list[bytes]) -> None:
    rest = b""
    while part := os.read(descriptor, 1 << 16):
        rest += part
        whole = len(rest) - len(rest) % KEY_BYTES
        keys.extend(rest[at : at + KEY_BYTES] for at in range(0, whole, KEY_BYTES))
        rest = rest[whole:]


def _write(folder: Path, number: int, pending: Sequence[bytes], begun: Connection, done: Connection) -> None:
    store = SqliteEvents(folder)
    threads = [
        threading.Thread(target=_write_on, args=(store, number * _THREADS + each, pending, begun, done))
        for each in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _write_on(store: SqliteEvents, number: int, pending: Sequence[bytes], begun: Connection, done: Connection) -> None:
    dice = np.random.default_rng(number)
    _send(store, list(pending), begun, done)
    count = 0
    while True:
        size = int(dice.integers(1, _MOST_AT_ONCE + 1))
        _send(store, [_key(number, count + each) for each in range(size)], begun, done)
        count += size


def _send(store: SqliteEvents, keys: list[bytes], begun: Connection, done: Connection) -> None:
    if keys:
        os.write(begun.fileno(), b"".join(keys))
        store.append([sent_event(key) for key in keys])
        os.write(done.fileno(), b"".join(keys))


def _key(number: int, count: int) -> bytes:
    return number.to_bytes(8, "big") + count.to_bytes(8, "big")


def sent_event(key: bytes) -> StoredEvent:
    """The event of a key; always the same, as a repeated event must be."""
    ms = (_DAY + key[-1] % 5) * DAY_MS + int.from_bytes(key[8:], "big") % DAY_MS
    return StoredEvent(key, "click", ms, ms, "k1~shopper", "k1~session", "q1", "drill", "p1", 1, None, None, None)
