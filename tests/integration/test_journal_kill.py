"""Kills of processes that append to the journal of live changes.

Every change whose number was returned is in the journal afterwards, and no append is there in part; also if one of the
journal's files is damaged before it is next opened.
"""

from __future__ import annotations

import random
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import scratch_path
from shelfwise.retrieval.updates.changes import Change, Delete, Upsert
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from tests.machine import killed_writers

SEED = 5


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
    chance = random.Random(SEED)
    last, acknowledged = 0, 0
    for received in killed_writers(append_until_killed, tmp_path, rounds, SEED):
        given = {name: seqs for each in received for name, seqs in each}
        if harmed:
            damage(tmp_path, chance)
        else:
            with Journal(tmp_path) as journal:
                assert journal.problems() == [], "a kill alone damages nothing"
        reached = assert_no_loss(tmp_path, given)
        assert min(seq for seqs in given.values() for seq in seqs) > last, "a number was given twice"
        last = reached
        acknowledged += len(given)
    assert acknowledged > 2 * rounds


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_failed_journal_creation_refuses_changes(tmp_path: Path) -> None:
    scratch_path(tmp_path / JOURNAL).symlink_to("/dev/full")
    with Journal(tmp_path) as journal, pytest.raises(StoreError, match=r"No space left on device.*the change was not"):
        journal.append(changes_of("a"))
