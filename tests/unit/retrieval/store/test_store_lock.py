"""The writer lock: the error names the holder, and the note of an ended process is ignored."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from shelfwise.retrieval.errors import StoreError, StoreLockedError
from shelfwise.retrieval.store import lock
from shelfwise.retrieval.store.lock import HOLDER, LOCK, LockHolder, hold_lock, lock_holder

PROGRAM = (
    "import sys, pathlib; from shelfwise.retrieval.store.lock import hold_lock\n"
    "with hold_lock(pathlib.Path(sys.argv[1]), 'prune'): print('held', flush=True); sys.stdin.read()"
)


def note(folder: Path, *, pid: int, host: str = "") -> LockHolder:
    holder = LockHolder("rebuild", pid, host or socket.gethostname(), "mia", "shelfwise", "2025-01-01T00:00:00+00:00")
    (folder / HOLDER).write_bytes(msgspec.json.encode(holder))
    return holder


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


@contextmanager
def rival(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def assert_refused(folder: Path, words: str) -> None:
    with pytest.raises(StoreLockedError, match=words):
        hold_lock(folder, "rebuild").__enter__()


def test_lock_error_names_purpose_process_user_host_and_time(tmp_path: Path) -> None:
    with rival(tmp_path) as process:
        holder = lock_holder(tmp_path)
        assert holder is not None
        assert (holder.purpose, holder.pid, holder.host) == ("prune", process.pid, socket.gethostname())
        words = rf"a prune is running in .*: -c, process {process.pid} of \S+ on {holder.host}, since \d{{4}}-\S+; wait"
        assert_refused(tmp_path, words)


def test_note_of_a_killed_holder_does_not_block(tmp_path: Path) -> None:
    with rival(tmp_path) as process:
        pass
    assert (tmp_path / HOLDER).exists()
    assert process.returncode < 0
    assert lock_holder(tmp_path) is None
    with hold_lock(tmp_path, "rebuild"):
        holder = lock_holder(tmp_path)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert not (tmp_path / HOLDER).exists()


def test_lock_error_does_not_name_an_ended_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_NOTE_SECONDS", 0.01)
    with hold_lock(tmp_path, "rebuild"):
        note(tmp_path, pid=dead_process())
        assert_refused(tmp_path, "another program is using .*; wait for it to end")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"pid": 1}', b'{"purpose": "x", "pid": "1"}'])
def test_unreadable_note_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(lock, "_NOTE_SECONDS", 0.01)
    with hold_lock(tmp_path, "rebuild"):
        (tmp_path / HOLDER).write_bytes(content)
        assert_refused(tmp_path, "another program is using")


def test_process_of_another_user_or_host_may_be_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    assert lock_holder(tmp_path) is None
    assert note(tmp_path, pid=dead_process(), host="another-machine") == lock_holder(tmp_path)
    monkeypatch.setattr(os, "kill", refuse)
    assert note(tmp_path, pid=1) == lock_holder(tmp_path)


def test_lock_is_available_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock, "write_durably", full)
    monkeypatch.setattr(lock, "_NOTE_SECONDS", 0.01)
    with hold_lock(tmp_path, "prune"):
        assert_refused(tmp_path, "another program is using")


def test_error_names_lock_that_cannot_be_acquired(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(StoreError, match=r"lock cannot be locked .*check the disk"), hold_lock(tmp_path, "rebuild"):
        pass
