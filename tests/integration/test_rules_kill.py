"""Kills of processes that change rules: acknowledged changes are stored, no change is stored in part."""

from __future__ import annotations

import itertools
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shelfwise.service.curation.rules import Redirect, Rule, RuleStore
from tests.machine import killed_writers

SEED = 3
SIZE = 20


def put_until_killed(root: Path, writer: str, channel: Connection) -> None:
    store = RuleStore(root)
    for turn in itertools.count():
        rules = [Rule(f"{writer} {number}", (Redirect(f"/{turn}"),), name="x" * 200) for number in range(SIZE)]
        channel.send((writer, turn, store.put(rules, who=writer)))
        if turn % 4 == 3:
            store.delete([rule.id for rule in rules], who=writer)


@pytest.mark.parametrize("rounds", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_kill_leaves_complete_changes_and_log(tmp_path: Path, rounds: int) -> None:
    store = RuleStore(tmp_path)
    acknowledged: dict[int, tuple[str, int]] = {}
    for received in killed_writers(put_until_killed, tmp_path, rounds, SEED):
        acknowledged |= {number: (writer, turn) for each in received for writer, turn, number in each}
        check(store, acknowledged)
    assert len(acknowledged) > rounds


def check(store: RuleStore, acknowledged: dict[int, tuple[str, int]]) -> None:
    by_revision: dict[int, list[tuple[str, bool, str]]] = {}
    rules: dict[str, Rule] = {}
    for change in reversed(store.history(limit=10_000)):
        url = (
            next((each.url for each in change.after.actions if isinstance(each, Redirect)), "") if change.after else ""
        )
        by_revision.setdefault(change.revision, []).append((change.who, change.after is not None, url))
        assert rules.get(change.id) == change.before
        if change.after:
            rules[change.id] = change.after
        else:
            del rules[change.id]
    # No revision is missing, each has all of its rules, and every acknowledged one is there.
    assert list(by_revision) == list(range(1, store.revision() + 1))
    assert all(len(changes) == SIZE and len(set(changes)) == 1 for changes in by_revision.values())
    assert all(by_revision[number][0] == (who, True, f"/{turn}") for number, (who, turn) in acknowledged.items())
    assert store.read().documents == tuple(rules[name] for name in sorted(rules))
