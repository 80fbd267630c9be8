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
from shelfwise.service.http.auth import KEYS_FILE, TOKEN_FILE
from tests.whole_index import write_whole_index

FILES = (
    "CURRENT",
    "relations.bin",
    "events/derived/bots/DAY/seal.json",
    "events/derived/bots/DAY/sessions.parquet",
    "events/derived/days/DAY/day.json",
    "events/derived/days/DAY/events.parquet",
    "events/derived/derived.json",
    "events/derived/parts/DAY/acts.parquet",
    "events/derived/tables-000001/popularity.parquet",
    "events/events.sqlite",
    "events/keys.json",
    "experiments.sqlite",
    "admin.token",
    "keys.json",
    "popular_queries.json",
    "popularity.json",
    "protocol.sqlite",
    "query_memory.bin",
    "rankers/CURRENT",
    "rankers/ranker-0001/model.onnx",
    "rankers/ranker-0001/seal.json",
    "relevance.sqlite",
    "rules.sqlite",
    "shelfwise.json",
    "synonyms.sqlite",
    "tasks.sqlite",
    "training/towers-1/adapter/adapter.safetensors",
    "training/towers-1/model.safetensors",
    "training/towers-1/seal.json",
)
OPTIONAL_FILES = (
    KEYS_FILE,
    TOKEN_FILE,
    "rankers/CURRENT",
    "training/towers-1/seal.json",
    *(name for name in FILES if name.endswith(".sqlite")),
)
"""Files that an intact index may lack."""


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


def path_of(root: Path, name: str) -> Path:
    (path,) = root.glob(name.replace("DAY", "*"))
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Flips a bit of a page's header in SQLite, else of the middle of the file."""
    content = bytearray(path.read_bytes())
    content[4_096 if path.suffix == ".sqlite" else len(content) // 2] ^= 0x10
    path.write_bytes(content)


def test_list_names_every_file(full: Path) -> None:
    day = re.compile(r"(?<=/)\d{4}-\d{2}-\d{2}[^/]*")
    others = re.compile(r"(versions|encoders)/|(.*/)?(lock|lock\.json|.*\.lock|identity)|.*-(wal|shm)")
    paths = (path.relative_to(full).as_posix() for path in full.rglob("*") if path.is_file())
    kinds = {day.sub("DAY", path) for path in paths if not others.match(path)}
    assert kinds >= set(FILES)
    folders = {path.rpartition("/")[0] for path in FILES}
    assert {kind.rpartition("/")[0] for kind in kinds} == folders
    assert {kind for kind in kinds if "/" not in kind} <= set(FILES)
    assert store_problems(Store(full)) == []


@pytest.mark.parametrize("damage", [truncate, empty, flip, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_verification_names_a_damaged_file(full: Path, name: str, damage: Callable[[Path], None]) -> None:
    path = path_of(full, name)
    whole = path.read_bytes()
    damage(path)
    try:
        found = store_problems(Store(full))
    finally:
        path.write_bytes(whole)
    if damage is Path.unlink and name in OPTIONAL_FILES:
        assert not found
    else:
        assert any(path.name in f"{problem.part} {problem.what}" for problem in found)
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
