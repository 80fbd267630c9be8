"""Damage to the files of an index directory that belong to no version: `index verify` names the file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from shelfwise.retrieval.store.files import seal_folder
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.verify import Problem, store_problems
from tests.whole_index import write_whole_index

OPTIONAL = re.compile(r"(.*\.sqlite|admin\.token|keys\.json|rankers/CURRENT|training/towers-1/seal\.json)")
"""Files that an intact index may lack."""
OTHERS = re.compile(r"(versions|encoders)/|(.*/)?(lock|lock\.json|.*\.lock|identity)|.*-(wal|shm)")
"""Files of versions, and files whose content is made again."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index directory with every kind of file."""
    root = tmp_path_factory.mktemp("full")
    write_whole_index(root)
    for name in ("model.safetensors", "adapter/adapter.safetensors"):
        path = root / "training/towers-1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(range(200)))
    seal_folder(root / "training/towers-1", {})
    return root


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_content(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Flips a bit of a page's header in SQLite, else of the middle of the file."""
    content = bytearray(path.read_bytes())
    content[4_096 if path.suffix == ".sqlite" else len(content) // 2] ^= 0x10
    path.write_bytes(content)


def test_intact_directory_has_no_problems(full: Path) -> None:
    assert store_problems(Store(full)) == []


@pytest.mark.parametrize("damage", [truncate, remove_content, flip, Path.unlink])
def test_verification_names_each_damaged_file(full: Path, damage: Callable[[Path], None]) -> None:
    names = sorted(path.relative_to(full).as_posix() for path in full.rglob("*") if path.is_file())
    for name in (each for each in names if not OTHERS.match(each)):
        path = full / name
        whole = path.read_bytes()
        damage(path)
        found = store_problems(Store(full))
        path.write_bytes(whole)
        if damage is Path.unlink and OPTIONAL.fullmatch(name):
            assert not found
        else:
            assert any(path.name in f"{problem.part} {problem.what}" for problem in found), name
            assert all(problem.advice for problem in found)


def problems_after(root: Path, file: str, statement: str) -> list[Problem]:
    """The problems of an index directory after a statement in one of its files, which is undone."""
    path = root / file
    whole = path.read_bytes()
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(statement)
        return store_problems(Store(root))
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE events SET kind = 'clic+' WHERE key = (SELECT min(key) FROM events)", "has changed"),
        ("UPDATE events SET checksum = checksum + 1 WHERE key = (SELECT min(key) FROM events)", "has changed"),
        ("DELETE FROM events WHERE key = (SELECT min(key) FROM events)", "as many events as were stored"),
        ("DELETE FROM days", "as many events as were stored"),
    ],
)
def test_verification_finds_a_changed_event(full: Path, statement: str, what: str) -> None:
    (problem,) = problems_after(full, "events/events.sqlite", statement)
    assert problem.part == "events/events.sqlite"
    assert what in problem.what


@pytest.mark.parametrize(("table", "column"), [("rules", "rule"), ("changes", "after")])
def test_verification_finds_a_changed_letter_in_a_document(full: Path, table: str, column: str) -> None:
    statement = f"UPDATE {table} SET {column} = replace({column}, 'drill', 'drull')"  # noqa: S608
    sum_of_rows, problem = problems_after(full, "rules.sqlite", statement)
    assert "a value has changed" in sum_of_rows.what
    assert "the rule 'drills' does not agree with its history" in problem.what
    assert problem.advice == "restore it from a backup"
