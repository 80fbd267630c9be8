"""Kills of a publish at every step: the old ranker serves or the new one does, and no partial files remain.

Each publish is a process, forked from one that has imported everything, and killed by SIGKILL.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.lock import HOLDER, LOCK
from shelfwise.retrieval.store.manifest import CURRENT
from tests.machine import die_at, fork_context
from tests.rankers import ENCODING, add_ranker
from tests.versions import publish_products

KEEP = 2


def run_publish(root: Path, fatal_step: int) -> None:
    """Publishes a third ranker, which removes the first one; kills its process at the given step."""
    die_at(fatal_step, opens=True)
    add_ranker(ranker_store(root, KEEP), 3)


def _whole(root: Path) -> tuple[str, list[str]]:
    registry = ranker_store(root, KEEP)
    for name in registry.names():
        registry.open(name)
    found = registry.serving(ENCODING)
    assert found.model is not None
    assert found.notices == ()
    return found.model.name, registry.names()


@pytest.mark.slow
def test_publish_after_a_kill_leaves_no_leftovers(tmp_path: Path) -> None:
    context = fork_context()
    before = tmp_path / "before"
    publish_products(before, [Product("1", "cordless drill")])
    for number in (1, 2):
        add_ranker(ranker_store(before, KEEP), number)

    states = []
    for step in range(1, 100):
        root = Path(shutil.copytree(before, tmp_path / f"store-{step}"))
        process = context.Process(target=run_publish, args=(root, step))
        process.start()
        process.join()
        states.append(_whole(root))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        name = add_ranker(ranker_store(root, KEEP), 4).model.name
        assert _whole(root)[0] == name
        kept = {path.name for path in (root / "rankers").iterdir()} - {HOLDER}
        assert kept == {CURRENT, LOCK, *_whole(root)[1]}
        assert len(_whole(root)[1]) == KEEP

    first, last = ("ranker-0002", ["ranker-0001", "ranker-0002"]), ("ranker-0003", ["ranker-0002", "ranker-0003"])
    added = ("ranker-0002", ["ranker-0001", "ranker-0002", "ranker-0003"])
    serving = ("ranker-0003", ["ranker-0001", "ranker-0002", "ranker-0003"])
    order = [first, added, serving, last]
    assert [state for place, state in enumerate(states) if state not in states[:place]] == order
    assert states == sorted(states, key=order.index)
