"""The lines of a keyword index on disk: read as they were written, and never in part without an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.errors import StoreDamagedError
from retrieval.index.keyword_documents import LINES_FILE, LineWriter, read_lines

LINES = [bytes([65 + place % 26]) * (1 + 977 * place % 5_000) for place in range(400)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with LineWriter(tmp_path) as writer:
        for line in LINES:
            writer.write(line)
    return tmp_path


def test_they_come_back_in_their_order(folder: Path) -> None:
    assert list(read_lines(folder)) == LINES


def test_a_line_longer_than_what_is_read_at_once_comes_back(tmp_path: Path) -> None:
    long = bytes(range(256)) * 4_000
    with LineWriter(tmp_path) as writer:
        writer.write(long)
        writer.write(b"x")
    assert list(read_lines(tmp_path)) == [long, b"x"]


def test_none_are_none(tmp_path: Path) -> None:
    LineWriter(tmp_path).close()
    assert list(read_lines(tmp_path)) == []


def test_a_file_that_is_cut_off_anywhere_is_damaged(folder: Path) -> None:
    """A frame without its end was taken for a whole one where the cut fell between two lines."""
    path = folder / LINES_FILE
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreDamagedError, match=r"lines\.zst cannot be read .*rebuild the index"):
            list(read_lines(folder))


def test_bytes_behind_the_end_are_damage(folder: Path) -> None:
    path = folder / LINES_FILE
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(StoreDamagedError):
        list(read_lines(folder))


def test_a_last_line_without_its_end_is_damage(tmp_path: Path) -> None:
    writer = LineWriter(tmp_path)
    writer.write(b"first")
    writer._packed.write((9).to_bytes(4, "little") + b"sec")
    writer.close()
    with pytest.raises(StoreDamagedError, match="breaks off"):
        list(read_lines(tmp_path))
