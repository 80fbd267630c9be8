"""Writers that are killed: an index, its journal, its rules, its models and its first version stay whole."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import httpx2
import numpy as np
import pytest

import shelfwise.indexer.checkpoint
import shelfwise.indexer.embedding
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.index.token_states import STATES_FILES
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import scratch_path
from shelfwise.retrieval.store.lock import HOLDER, LOCK
from shelfwise.retrieval.store.manifest import CURRENT, STATES_FOLDER, VECTORS_FOLDER
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.changes import Change, Delete, Upsert
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from shelfwise.service.app import create_app
from shelfwise.service.curation.rules import Redirect, Rule, RuleStore
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.settings import RankerSettings, ServiceSettings, Settings
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.machine import die_at, fork_context, killed_writers
from tests.rankers import ENCODING, add_ranker, few_rankers
from tests.services import TLS, add_key, local_client, service
from tests.versions import publish_products

SEED = 3
QUERIES = ("cordless drill", "耳机", "red mug", "gift for a gardener", "")

Answers = list[list[str]]


def run_rebuild(root: Path, feed: Path, cache: Path, fatal_step: int = 0) -> None:
    """Runs a rebuild that kills its process at the `fatal_step`-th change to a folder, from 1."""
    shelfwise.indexer.embedding.CHUNK = 16
    shelfwise.indexer.checkpoint.MIN_SECONDS = 0.0
    if fatal_step:
        die_at(fatal_step)
    rebuild(root, RebuildOptions((str(feed),), cache, encoder=ENCODER, runtime="onnx-int8", keep=1))


@dataclasses.dataclass(frozen=True)
class Scratch:
    feed: Path
    index: Path
    catalog: str
    answers: Answers


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    return fork_context()


def _scratch(folder: Path, name: str, products: Sequence[Product], cache: Path) -> Scratch:
    feed = write_feed(folder / f"{name}.jsonl", products)
    run_rebuild(folder / name, feed, cache)
    catalog = Store(folder / name).serving()[0].catalog
    return Scratch(feed, folder / name, catalog, _answers(folder / name))


def _answers(index: Path) -> Answers:
    patient = Settings(ranker=RankerSettings(deadline=60))
    with SearchEngine.open(index, settings=patient) as engine:
        assert engine.notices == ()
        return [[hit.product.id for hit in engine.search(query, size=200).hits] for query in QUERIES]


def _assert_whole(index: Path, catalogs: tuple[Scratch, Scratch]) -> Scratch:
    serving = Store(index).serving()[0].catalog
    (scratch,) = (each for each in catalogs if each.catalog == serving)
    assert _answers(index) == scratch.answers
    return scratch


def _assert_equal(index: Path, scratch: Scratch) -> None:
    ours, theirs = (Store(root).version_folder(Store(root).current()) for root in (index, scratch.index))
    ids = [[store.id_of(row) for row in range(len(store))] for store in (ProductStore(ours), ProductStore(theirs))]
    assert ids[0] == ids[1]
    vectors = [np.load(folder / VECTORS_FOLDER / VECTORS_FILE) for folder in (ours, theirs)]
    assert np.array_equal(vectors[0], vectors[1])
    assert all(
        (ours / STATES_FOLDER / name).read_bytes() == (theirs / STATES_FOLDER / name).read_bytes()
        for name in STATES_FILES
    )
    assert _answers(index) == scratch.answers


def _assert_tidy(index: Path) -> None:
    names = {path.name for path in index.iterdir()}
    quality = {"quality.html", "quality.json"}
    assert names == {"CURRENT", "encoders", "lock", "rejected.jsonl", "shelfwise.json", "versions"} | quality
    assert len(list((index / "versions").iterdir())) == len(list((index / "encoders").iterdir())) == 1


@pytest.mark.parametrize("stride", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_run_after_a_kill_leaves_no_leftovers(
    forks: ForkServerContext, tmp_path: Path, cache: Path, stride: int
) -> None:
    """Kills at each step of publishing, which kills after a random time seldom hit."""
    old = [Product(f"p{place}", f"cordless drill {place}", price=1.0) for place in range(8)]
    new = [dataclasses.replace(product, price=2.0) for product in old]
    catalogs = (_scratch(tmp_path, "old", old, cache), _scratch(tmp_path, "new", new, cache))
    served = []
    for step in range(1, 100, stride):
        index = Path(shutil.copytree(catalogs[0].index, tmp_path / f"index-{step}", copy_function=os.link))
        process = forks.Process(target=run_rebuild, args=(index, catalogs[1].feed, cache, step))
        process.start()
        process.join()
        served.append(_assert_whole(index, catalogs))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        # The folder hardly changes from one step to the next.
        if step % 3 == 1:
            run_rebuild(index, catalogs[1].feed, cache)
            _assert_equal(index, catalogs[1])
            _assert_tidy(index)
    assert len(served) > 10 // stride
    assert served == sorted(served, key=catalogs.index)
    assert served[-1] is catalogs[1]


def test_a_killed_service_loses_no_acknowledged_write_to_a_new_index(demo_index: Path, tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    shutil.copytree(demo_index, stores / "shop")
    headers = {"X-Algolia-API-Key": add_key(KeyFile(stores / KEYS_FILE), Scope.ADMIN)}
    acknowledged: list[str] = []

    with service(stores, tmp_path / "log") as running, ThreadPoolExecutor(4) as threads:

        def write(name: str) -> None:
            try:
                url = f"{running.address}/1/indexes/{name}/k"
                sent = httpx2.put(url, json={"name": "Kettle"}, headers=headers, timeout=60, verify=TLS)
            except httpx2.HTTPError:
                return
            assert sent.status_code == 200, sent.text
            acknowledged.append(name)

        writes = {name: threads.submit(write, name) for name in ("one", "two", "three", "four")}
        while not acknowledged and not all(each.done() for each in writes.values()):
            time.sleep(0.001)
        running.process.kill()  # while the others are being created
        [each.result() for each in writes.values()]
    assert acknowledged
    with local_client(create_app(stores, ServiceSettings())) as client:
        for name in writes:
            found = client.get(f"/1/indexes/{name}/k", headers=headers)
            assert found.status_code == 200 or name not in acknowledged, (name, found.text)
        assert client.put("/1/indexes/after/k", json={"name": "Kettle"}, headers=headers).status_code == 200
        assert not client.app.state.indexes.notices  # type: ignore[attr-defined]


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


KEEP = 2


def run_publish(root: Path, fatal_step: int) -> None:
    """Publishes a third ranker, which removes the first one; kills its process at the given step."""
    die_at(fatal_step, opens=True)
    add_ranker(few_rankers(root, KEEP), 3)


def _whole(root: Path) -> tuple[str, list[str]]:
    registry = few_rankers(root, KEEP)
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
        add_ranker(few_rankers(before, KEEP), number)

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
        name = add_ranker(few_rankers(root, KEEP), 4).model.name
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


JOURNAL_SEED = 5


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
    chance = random.Random(JOURNAL_SEED)
    last, acknowledged = 0, 0
    for received in killed_writers(append_until_killed, tmp_path, rounds, JOURNAL_SEED):
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
