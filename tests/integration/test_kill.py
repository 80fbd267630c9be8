"""Kills of a rebuild at every step of publishing: the version that was intact continues to serve.

Each rebuild is a process, forked from one that has imported everything, and killed by SIGKILL. Kills after a random
time are in `tests.faults`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import numpy as np
import pytest

import shelfwise.indexer.checkpoint
import shelfwise.indexer.embedding
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.index.token_states import STATES_FILES
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import STATES_FOLDER, VECTORS_FOLDER
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import RankerSettings, Settings
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.machine import die_at, fork_context

SEED = 3
QUERIES = ("cordless drill", "耳机", "red mug", "gift for a gardener", "")

Answers = list[list[str]]


def run_rebuild(root: Path, feed: Path, cache: Path, fatal_step: int = 0) -> None:
    """Runs a rebuild that kills its process at the `fatal_step`-th change to a folder, from 1."""
    shelfwise.indexer.embedding.CHUNK = 16
    shelfwise.indexer.checkpoint.LEAST_SECONDS = 0.0
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


def _start(forks: ForkServerContext, *arguments: object) -> ForkServerProcess:
    process = forks.Process(target=run_rebuild, args=arguments)
    process.start()
    return process


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
        process = _start(forks, index, catalogs[1].feed, cache, step)
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
