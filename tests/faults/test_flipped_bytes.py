"""A flipped byte in any file of an index directory: verification names the file, or the byte has no meaning."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.verify import store_problems, verify_version
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.settings import Settings
from tests.whole_index import click_of, write_whole_index

SEED = 3
WITHOUT_MEANING = ("events/events.sqlite-shm",)
"""Files whose content is made again, as are lock files. Of SQLite files, free space and counters have no meaning."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index directory with every kind of file, and events in the log of a killed process."""
    root = tmp_path_factory.mktemp("index")
    write_whole_index(root)
    if (process := os.fork()) == 0:
        with EventLog.open(root, Settings()) as log:
            log.record([click_of(number) for number in range(6, 60)])
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    return root


def problems(root: Path) -> list[str]:
    store = Store(root)
    found = [problem.part for problem in store_problems(store)]
    for name in store.versions():
        found += [problem.part for problem in verify_version(store, name, NullProgress()).problems]
    return found


def content(path: Path) -> object:
    """The content of a SQLite file, which a flipped byte may leave unchanged."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [(name, connection.execute(f"SELECT * FROM {name.decode()}").fetchall()) for name in names]  # noqa: S608


@pytest.mark.parametrize("flips", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_flipped_byte_of_a_file_is_named_or_has_no_meaning(index: Path, tmp_path: Path, flips: int) -> None:
    assert problems(index) == []
    dice, silent = random.Random(SEED), []
    for name in sorted(path.relative_to(index).as_posix() for path in index.rglob("*") if path.is_file()):
        whole = (index / name).read_bytes()
        if name in WITHOUT_MEANING or name.endswith("lock") or not whole:
            continue
        for number in range(flips):
            root = Path(shutil.copytree(index, tmp_path / f"{number} {name.replace('/', ' ')[-60:]}"))
            offset = dice.randrange(len(whole))
            (root / name).write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x10]) + whole[offset + 1 :])
            is_silent = not problems(root)
            if is_silent and content(root / name) != content(index / name):
                silent.append((name, offset))
            shutil.rmtree(root)
    assert silent == []
