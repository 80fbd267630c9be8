"""Rejected rows: reported with line and reason, written as a feed, and read as products after a repair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from shelfwise.indexer.feeds.base import RejectedRow
from shelfwise.indexer.rejects import EXAMPLES, REJECTED_FILE, RejectExample, RejectLog, mask_text, remove_unfinished
from shelfwise.retrieval.errors import FeedError, StoreError
from shelfwise.retrieval.events.privacy import Masker
from tests.unit.indexer.conftest import Shop


def rejected(line: int, reason: str = "no title", row: object = None, file: str = "feed.csv") -> RejectedRow:
    return RejectedRow(file, line, reason, f"detail {line}", "csv", row)


class TestFile:
    def test_a_line_has_file_line_reason_detail_format_and_row(self, tmp_path: Path) -> None:
        name = b"f\xff.csv".decode("utf-8", "surrogateescape")
        with RejectLog(tmp_path / REJECTED_FILE) as reject_log:
            reject_log.reject([rejected(3, row={"id": "1", "title": ""}, file=name)])
        result = {"file": r"f\udcff.csv", "line": 3, "reason": "no title", "detail": "detail 3", "format": "csv"}
        line = (tmp_path / REJECTED_FILE).read_bytes()
        assert msgspec.json.decode(line) == {**result, "row": {"id": "1", "title": ""}}

    def test_every_row_is_written_and_counted_with_examples(self, tmp_path: Path) -> None:
        with RejectLog(tmp_path / REJECTED_FILE) as reject_log:
            reject_log.reject(rejected(line, "no id" if line % 3 else "no title") for line in range(1, 101))
            reject_log.flush()
            assert len((tmp_path / REJECTED_FILE).read_bytes().splitlines()) == 100
            counted = reject_log.reasons
        assert counted.counts == {"no id": 67, "no title": 33}
        assert [each.line for each in counted.examples["no title"]] == [3 * place for place in range(1, EXAMPLES + 1)]

    def test_old_file_is_kept_until_the_new_one_is_complete(self, tmp_path: Path) -> None:
        path = tmp_path / REJECTED_FILE
        path.write_text("repaired by hand")
        path.chmod(0o400)
        with RejectLog(path) as reject_log:
            reject_log.reject([rejected(1)])
            assert path.read_text() == "repaired by hand"
            reject_log.flush()
            reject_log.reject([rejected(2)])
        assert len(path.read_bytes().splitlines()) == 2
        assert [each.name for each in tmp_path.iterdir()] == [REJECTED_FILE]

    def test_old_file_is_kept_after_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / REJECTED_FILE
        path.write_text("repaired by hand")
        with pytest.raises(FeedError), RejectLog(path) as reject_log:
            reject_log.reject([rejected(1)])
            raise FeedError("another feed is missing")
        assert path.read_text() == "repaired by hand"
        assert [each.name for each in tmp_path.iterdir()] == [REJECTED_FILE]

    def test_symlink_is_kept_and_device_is_written_directly(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "target")
        for path in (tmp_path / "link", Path("/dev/null")):
            with RejectLog(path) as reject_log:
                reject_log.reject([rejected(1)])
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes()
        assert Path("/dev/null").is_char_device()


class TestRepairing:
    def test_duplicate_row_can_be_repaired_with_another_id(self, tmp_path: Path, fresh: Shop) -> None:
        path, repaired = tmp_path / "feed.jsonl", tmp_path / "repaired.jsonl"
        path.write_text('{"id": "1", "title": "drill", "price": 5}\n{"id": "1", "title": "saw", "colour": "red"}\n')
        fresh.rebuild(path, force=True)
        repaired.write_text((fresh.root / REJECTED_FILE).read_text().replace('"id":"1"', '"id":"2"'))
        fresh.rebuild(path, repaired, force=True)
        drill, saw = fresh.products
        assert (drill.title, saw.title, saw.attributes) == ("drill", "saw", {"colour": "red"})


KILLED = """
import os, signal, sys
from pathlib import Path
from shelfwise.indexer.rejects import RejectExample, RejectLog
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


def line_of(folder: Path) -> int:
    line: int = json.loads((folder / "rejected" / "a.jsonl").read_bytes())["line"]
    return line


def test_failed_import_keeps_rejected_rows_and_no_empty_file(tmp_path: Path) -> None:
    with open_rejects(tmp_path):
        pass
    with pytest.raises(FeedError), open_rejects(tmp_path):
        raise FeedError("log: breaks off")
    assert names(tmp_path) == []
    with pytest.raises(FeedError), open_rejects(tmp_path) as log:
        add(log, 7)
        raise FeedError("log: breaks off")
    assert line_of(tmp_path) == 7


def test_only_files_of_killed_imports_are_removed(tmp_path: Path) -> None:
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
    remove_unfinished(tmp_path / "never made")
    assert not (tmp_path / "never made").exists()


def test_concurrent_imports_cannot_share_a_file(tmp_path: Path) -> None:
    with open_rejects(tmp_path) as log:
        add(log, 1)
        other = open_rejects(tmp_path)
        with pytest.raises(StoreError, match="is being written by another import"):
            add(other, 2)
    assert line_of(tmp_path) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_unremovable_file_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "rejected"
    folder.mkdir()
    (folder / ".a.jsonl.new").touch()
    folder.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        remove_unfinished(folder)
    folder.chmod(0o700)


@pytest.mark.parametrize("blanks", range(970, 1_001, 3))
def test_truncation_leaves_no_partial_address(blanks: int) -> None:
    text = "x" * 20 + " " * blanks + "john.doe@example.com" + " y" * 100
    assert "john" not in mask_text(text, Masker(), 10_000)


def test_a_text_is_masked_before_it_is_cut() -> None:
    assert mask_text("x" * 50 + " john.doe@example.com", Masker(), 60) == "x" * 50 + " [email]"
    assert mask_text("x" * 61, Masker(), 60) == "x" * 60 + "..."
    assert mask_text("x" * 900_000, Masker(), 60) == "x" * 60 + "..."
