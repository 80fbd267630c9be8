"""Kills of processes that append to the journal of live changes.

Every change whose number was returned is in the journal afterwards, and no append is there in part; also if one of the
journal's files is damaged before it is next opened.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import scratch_path
from shelfwise.retrieval.updates.changes import Change, Delete, Upsert
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL

SEED = 5
WRITERS = 2
SPAWN = multiprocessing.get_context("spawn")


def changes_of(name: str) -> list[Change]:
    """Changes of one append, which must be stored completely or not at all."""
    return [Delete(f"{name} first"), Upsert(Product(f"{name} second", "drill", "x" * 3_000)), Delete(f"{name} third")]


def append_until_killed(root: Path, writer: str, channel: Connection) -> None:
    with Journal(root) as journal:
        for place in range(1_000_000):
            name = f"{writer} {place}"
            channel.send((name, journal.append(changes_of(name))))
            if place % 50 == 49:
                journal.forget(journal.last() - 200)


def kill_writers(root: Path, link: Connection) -> None:
    """Starts writers, kills them after each received delay, and sends the acknowledged changes.

    Runs in a process without threads, so that the writers can be forked from it, which is fast.
    """
    forks = multiprocessing.get_context("fork")
    for attempt in itertools.count():
        moment = link.recv()
        pairs = [forks.Pipe(duplex=False) for _ in range(WRITERS)]
        writers = []
        for place, (_, channel) in enumerate(pairs):
            writers.append(forks.Process(target=append_until_killed, args=(root, f"{attempt}-{place}", channel)))
            writers[-1].start()
        for _, channel in pairs:
            channel.close()
        pairs[0][0].poll(30)  # the first change is acknowledged, so that even the first round has something to lose
        time.sleep(moment)
        for writer in writers:
            writer.kill()
            writer.join()
        given = {name: seqs for listener, _ in pairs for name, seqs in acknowledgements(listener).items()}
        link.send(([writer.exitcode for writer in writers], given))


def acknowledgements(listener: Connection) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    try:
        while listener.poll(30):
            name, seqs = listener.recv()
            found[name] = seqs
    except (EOFError, OSError):
        pass
    return found


def damage(root: Path, chance: random.Random) -> None:
    path = root / chance.choice((JOURNAL, COPY))
    content = bytearray(path.read_bytes())
    place = chance.choice((chance.randrange(len(content)), chance.randrange(100), len(content) - 1))
    kind = chance.choice(("flip", "flip", "cut", "remove"))
    if kind == "flip":
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    elif kind == "cut":
        path.write_bytes(content[:place])
    else:
        path.unlink()


def assert_no_loss(root: Path, given: dict[str, list[int]]) -> int:
    """Asserts that every acknowledged change that was not pruned has its number; returns the last number."""
    with Journal(root) as journal:
        entries = {entry.seq: entry.change for entry in journal.since(0)}
        assert list(entries) == list(range(min(entries), journal.last() + 1))
        for name, seqs in given.items():
            for seq, change in zip(seqs, changes_of(name), strict=True):
                assert entries.get(seq) == change if seq >= min(entries) else seq <= journal.last() - 200
        whole = [change.id.rpartition(" ")[2] for seq, change in entries.items() if seq % 3 == 1]
        assert set(whole) == {"first"}, "an append was kept in part"
        assert journal.problems() == []
        assert (root / JOURNAL).read_bytes() == (root / COPY).read_bytes()
        return journal.last()


@pytest.mark.parametrize("rounds", [3, pytest.param(15, marks=pytest.mark.slow)])
@pytest.mark.parametrize("harmed", [False, True])
def test_kill_at_any_time_loses_no_acknowledged_change(tmp_path: Path, harmed: bool, rounds: int) -> None:
    moments = random.Random(SEED)
    link, end = SPAWN.Pipe()
    killer = SPAWN.Process(target=kill_writers, args=(tmp_path, end))
    killer.start()
    last, acknowledged = 0, 0
    try:
        for _ in range(rounds):
            link.send(moments.uniform(0, 0.06))
            exits, given = link.recv()
            assert exits == [-signal.SIGKILL] * WRITERS
            if harmed:
                damage(tmp_path, moments)
            else:
                with Journal(tmp_path) as journal:
                    assert journal.problems() == [], "a kill alone damages nothing"
            reached = assert_no_loss(tmp_path, given)
            assert min(seq for seqs in given.values() for seq in seqs) > last, "a number was given twice"
            last = reached
            acknowledged += len(given)
    finally:
        killer.terminate()
        killer.join()
    assert acknowledged > 2 * rounds


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_failed_journal_creation_refuses_changes(tmp_path: Path) -> None:
    scratch_path(tmp_path / JOURNAL).symlink_to("/dev/full")
    with Journal(tmp_path) as journal, pytest.raises(StoreError, match=r"No space left on device.*the change was not"):
        journal.append(changes_of("a"))
