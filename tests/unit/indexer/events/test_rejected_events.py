"""The log of rejected events, written while an import stores its batches; masked texts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.events.masking import mask_text
from indexer.rejects import RejectExample, RejectLog, remove_unfinished
from retrieval.errors import FeedError, StoreError
from retrieval.events.privacy import Masker

KILLED = """
import os, signal, sys
from pathlib import Path
from indexer.rejects import RejectExample, RejectLog
log = RejectLog(Path(sys.argv[1]) / "rejected" / "a.jsonl", is_partial=True)
log.write("bad time", RejectExample("log", 1, ""), {"line": 1})
os.kill(os.getpid(), signal.SIGKILL)
"""


def open_rejects(folder: Path, name: str = "a.jsonl") -> RejectLog:
    return RejectLog(folder / "rejected" / name, is_partial=True)


def add(log: RejectLog, line: int) -> None:
    log.write("bad time", RejectExample("log", line, "'soon'"), {"line": line})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "rejected").iterdir())


def test_the_file_takes_its_place_when_it_is_closed(tmp_path: Path) -> None:
    with open_rejects(tmp_path) as log:
        assert names(tmp_path) == []
        add(log, 1)
        assert names(tmp_path) == [".a.jsonl.new"]
    assert names(tmp_path) == ["a.jsonl"]


def test_nothing_set_aside_leaves_no_file_even_where_the_import_fails(tmp_path: Path) -> None:
    with open_rejects(tmp_path):
        pass
    assert names(tmp_path) == []
    with pytest.raises(FeedError), open_rejects(tmp_path):
        raise FeedError("log: breaks off")
    assert names(tmp_path) == []


def test_what_was_set_aside_before_an_import_failed_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FeedError), open_rejects(tmp_path) as log:
        add(log, 7)
        raise FeedError("log: breaks off")
    assert json.loads((tmp_path / "rejected" / "a.jsonl").read_bytes())["line"] == 7


def test_what_a_killed_import_left_is_removed_and_no_other_file(tmp_path: Path) -> None:
    with open_rejects(tmp_path, "earlier.jsonl") as log:
        add(log, 1)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[4], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert names(tmp_path) == [".a.jsonl.new", "earlier.jsonl"]
    with open_rejects(tmp_path, "later.jsonl") as log:
        add(log, 1)
        remove_unfinished(tmp_path / "rejected")
        assert names(tmp_path) == [".later.jsonl.new", "earlier.jsonl"]
        add(log, 2)
    assert names(tmp_path) == ["earlier.jsonl", "later.jsonl"]
    assert len((tmp_path / "rejected" / "later.jsonl").read_bytes().splitlines()) == 2


def test_there_is_nothing_to_remove_where_nothing_was_imported(tmp_path: Path) -> None:
    remove_unfinished(tmp_path / "rejected")
    assert not (tmp_path / "rejected").exists()


def test_an_import_begins_a_file_anew_that_a_killed_one_left_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / ".a.jsonl.new").write_bytes(b"half a li")
    with open_rejects(tmp_path) as log:
        add(log, 3)
    assert json.loads((tmp_path / "rejected" / "a.jsonl").read_bytes())["line"] == 3


def test_two_imports_do_not_write_one_file(tmp_path: Path) -> None:
    with open_rejects(tmp_path) as log:
        add(log, 1)
        other = open_rejects(tmp_path)
        with pytest.raises(StoreError, match="is being written by another import"):
            add(other, 2)
    assert json.loads((tmp_path / "rejected" / "a.jsonl").read_bytes())["line"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "rejected"
    folder.mkdir()
    (folder / ".a.jsonl.new").touch()
    folder.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        remove_unfinished(folder)
    folder.chmod(0o700)


@pytest.mark.parametrize("blanks", range(970, 1_001, 3))
def test_no_half_of_an_address_is_left_where_a_long_text_is_cut(blanks: int) -> None:
    text = "x" * 20 + " " * blanks + "john.doe@example.com" + " y" * 100
    assert "john" not in mask_text(text, Masker(), 10_000)


def test_a_text_is_masked_before_it_is_cut() -> None:
    assert mask_text("x" * 50 + " john.doe@example.com", Masker(), 60) == "x" * 50 + " [email]"
    assert mask_text("x" * 61, Masker(), 60) == "x" * 60 + "..."
    assert mask_text("x" * 900_000, Masker(), 60) == "x" * 60 + "..."
