"""Damage to the write-ahead log of events is reported, and the log is kept."""

from __future__ import annotations

import os
import random
import signal
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.events.sqlite import EVENTS_FILE, SqliteEvents
from shelfwise.retrieval.events.store import EVENT_SCHEMA
from shelfwise.retrieval.events.wal import damaged_copies, log_path, log_problem, unreadable_part
from shelfwise.retrieval.updates.journal import lock_folder
from tests.event_stores import event

HEADER, FRAME = 32, 4_120
APPENDS, EACH = 60, 3
SEED = 5
FILES = ("", "-wal", "-shm")


def kill_store(folder: Path, *, checkpoint: bool = False) -> Path:
    """The database of a process that was killed after acknowledged appends; its log has all of them, or a quarter."""
    if (process := os.fork()) == 0:
        store = SqliteEvents(folder)
        for number in range(APPENDS):
            store.append([event(EACH * number + each) for each in range(EACH)])
            if checkpoint and number == APPENDS * 3 // 4:
                store._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    return folder / EVENTS_FILE


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    database = kill_store(tmp_path_factory.mktemp("killed"))
    return {name: database.with_name(f"{EVENTS_FILE}{name}").read_bytes() for name in FILES}


@pytest.fixture
def database(killed: dict[str, bytes], tmp_path: Path) -> Path:
    return restore(tmp_path, killed)


def restore(folder: Path, killed: dict[str, bytes]) -> Path:
    for name, content in killed.items():
        (folder / f"{EVENTS_FILE}{name}").write_bytes(content)
    return folder / EVENTS_FILE


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def read(database: Path) -> tuple[pl.DataFrame, tuple[str, ...]]:
    with closing(SqliteEvents(database.parent)) as store:
        days = store.days() or (0,)
        return pl.concat([*store.read(min(days), max(days)), pl.DataFrame(schema=EVENT_SCHEMA)]), store.notices


@pytest.mark.parametrize("count", [30, pytest.param(1_000, marks=pytest.mark.slow)])
def test_flipped_byte_of_the_log_is_reported(killed: dict[str, bytes], tmp_path: Path, count: int) -> None:
    intact, notices = read(restore(tmp_path, killed))
    assert (intact.height, notices) == (APPENDS * EACH, ())
    log, dice = killed["-wal"], random.Random(SEED)
    headers = (*range(HEADER + 24), *range(len(log) - FRAME, len(log) - FRAME + 24, 3))
    for offset in (*headers, *dice.sample(range(len(log)), count)):
        database = restore(tmp_path, killed)
        overwrite(log_path(database), offset, bytes([log[offset] ^ dice.randrange(1, 256)]))
        assert log_problem(database), offset
        try:
            events, notices = read(database)
        except StoreDamagedError:  # the log had the first pages, too
            pass
        else:
            assert notices, offset
            assert events.join(intact, on="key", how="semi").height == events.height
        assert damaged_copies(database), offset
        for path in damaged_copies(database):
            path.unlink()


def test_unreadable_pages_are_reported_and_the_log_is_kept(database: Path) -> None:
    overwrite(log_path(database), HEADER + 20 * FRAME, bytes(512))
    damaged = log_path(database).read_bytes()
    problem = log_problem(database)
    assert "pages of its log cannot be read" in problem
    with closing(SqliteEvents(database.parent)) as store:
        (copy,) = damaged_copies(database)
        assert copy.read_bytes() == damaged
        (notice,) = store.notices
        assert "pages of its log cannot be read" in notice
        assert "restore the events from a backup" in notice
        assert store.append([event(1_000)]).added == 1
        assert 0 < store.count() < APPENDS * EACH
    with closing(SqliteEvents(database.parent)) as store:
        assert store.notices == (notice,)
        store.forget(["k1~nobody"])
        assert not store.notices


def test_transaction_that_was_not_finished_is_no_damage(database: Path, killed: dict[str, bytes]) -> None:
    log = killed["-wal"]
    with log_path(database).open("ab") as file:
        file.write(log[-FRAME:-1000] + bytes(1000) + log[-FRAME:-2000])
    assert log_problem(database) == ""
    database.with_name(f"{EVENTS_FILE}-shm").unlink()
    assert "the last transaction" in log_problem(database)
    assert read(database)[0].height == APPENDS * EACH


def test_frames_that_were_never_committed_are_no_damage(database: Path, killed: dict[str, bytes]) -> None:
    """Another process overwrote the first frames of a killed one, whose other frames follow."""
    with log_path(database).open("ab") as file:
        file.write(killed["-wal"][-3 * FRAME :])
    assert not unreadable_part(database)


@pytest.mark.parametrize("cut", [FRAME, 10 * FRAME, 100])
def test_truncated_log_is_reported(database: Path, killed: dict[str, bytes], cut: int) -> None:
    os.truncate(log_path(database), len(killed["-wal"]) - cut)
    assert "pages of its log cannot be read" in log_problem(database)


def test_frames_of_an_earlier_log_are_no_damage(tmp_path: Path) -> None:
    database = kill_store(tmp_path, checkpoint=True)
    log = log_path(database).read_bytes()
    salts = {log[offset + 8 : offset + 16] for offset in range(HEADER, len(log), FRAME)}
    assert len(salts) == 2
    assert log_problem(database) == ""
    assert read(database)[0].height == APPENDS * EACH


def test_log_in_use_is_not_taken_for_damaged(tmp_path: Path) -> None:
    if (process := os.fork()) == 0:
        writer = SqliteEvents(tmp_path)
        for number in range(300):
            writer.append([event(number)])
        os._exit(0)
    checks = 0
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if log_path(tmp_path / EVENTS_FILE).exists():
            with lock_folder(tmp_path, None):
                assert not unreadable_part(tmp_path / EVENTS_FILE)
            checks += 1
    assert checks > 0
