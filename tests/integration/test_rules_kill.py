"""Kills of processes that change rules: acknowledged changes are stored, no change is stored in part."""

from __future__ import annotations

import itertools
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shelfwise.service.curation.rules import Redirect, Rule, RuleStore
from tests.machine import fork_context

SEED = 3
WRITERS = 2
SIZE = 20


def put_until_killed(root: Path, writer: str, channel: Connection) -> None:
    store = RuleStore(root)
    for turn in itertools.count():
        rules = [Rule(f"{writer} {number}", (Redirect(f"/{turn}"),), name="x" * 200) for number in range(SIZE)]
        channel.send((turn, store.put(rules, who=writer)))
        if turn % 4 == 3:
            store.delete([rule.id for rule in rules], who=writer)
            channel.send((-1, 0))


@pytest.mark.parametrize("rounds", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_kill_leaves_complete_changes_and_log(tmp_path: Path, rounds: int) -> None:
    context, dice = fork_context(), random.Random(SEED)
    store = RuleStore(tmp_path)
    acknowledged: dict[int, tuple[str, int]] = {}
    for attempt in range(rounds):
        pairs = [context.Pipe(duplex=False) for _ in range(WRITERS)]
        writers = [
            context.Process(target=put_until_killed, args=(tmp_path, f"{attempt}-{place}", pipe))
            for place, (_, pipe) in enumerate(pairs)
        ]
        for writer, (_, pipe) in zip(writers, pairs, strict=True):
            writer.start()
            pipe.close()
        assert pairs[0][0].poll(60)
        time.sleep(dice.uniform(0, 0.05))
        for writer in writers:
            writer.kill()
            writer.join()
        assert {writer.exitcode for writer in writers} == {-signal.SIGKILL}
        for place, (listener, _) in enumerate(pairs):
            acknowledged |= {
                number: (f"{attempt}-{place}", turn) for turn, number in acknowledgements(listener) if turn >= 0
            }
        check(store, acknowledged)
    assert len(acknowledged) > rounds


def acknowledgements(listener: Connection) -> list[tuple[int, int]]:
    received = []
    try:
        while listener.poll(0):
            received.append(listener.recv())
    except EOFError:
        pass
    return received


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
