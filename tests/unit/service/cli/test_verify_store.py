"""What all versions share is verified: the journal of live changes, as far as the version that serves needs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.store.manifest import CURRENT, MARKER, Manifest
from retrieval.store.versions import Store
from retrieval.updates.changes import Delete
from retrieval.updates.journal import Journal
from retrieval.updates.journal_files import COPY, JOURNAL
from service.cli.verify import store_problems


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A version that holds the first of three live changes."""
    store = Store(tmp_path)
    with store.lock():
        manifest = Manifest(1, store.next_version(), "", 1, "", "", "", "", 1, "", {}, last_merged_change=1)
        store.publish(store.create_build_folder(), manifest)
    with Journal(tmp_path) as journal:
        for name in ("first", "second", "third"):
            journal.append([Delete(name)])
    return store


def damage(store: Store, what: bytes, *names: str) -> None:
    for name in names:
        path = store.root / name
        path.write_bytes(path.read_bytes().replace(what, what[::-1]))


def test_a_whole_journal_is_no_problem(store: Store) -> None:
    assert store_problems(store) == []


@pytest.mark.parametrize("name", [JOURNAL, COPY])
def test_a_damaged_copy_is_named_and_nothing_is_lost(store: Store, name: str) -> None:
    damage(store, b"second", name)
    (problem,) = store_problems(store)
    assert problem.what.startswith(f"{store.root / name} is damaged: change 2 has another checksum")
    assert problem.advice.startswith("nothing is lost")
    with Journal(store.root) as journal:
        journal.append([Delete("fourth")])
    assert store_problems(store) == []


def test_a_change_that_is_damaged_in_both_copies_is_lost(store: Store) -> None:
    damage(store, b"second", JOURNAL, COPY)
    (problem,) = store_problems(store)
    assert "journal of live changes" in problem.what
    assert problem.advice.startswith(f"restore {JOURNAL} and {COPY} from a copy")


def test_a_change_that_the_served_version_has_is_not_needed(store: Store) -> None:
    damage(store, b"first", JOURNAL, COPY)
    assert store_problems(store) == []


def test_where_no_version_is_named_that_of_the_newest_counts(store: Store) -> None:
    damage(store, b"first", JOURNAL, COPY)
    (store.root / CURRENT).write_text("v000009\n")
    (problem,) = store_problems(store)
    assert problem.part == CURRENT


def test_a_damaged_marker_is_named(store: Store) -> None:
    (store.root / MARKER).write_text("{")
    (problem,) = store_problems(store)
    assert problem.part == MARKER
    assert "shelfwise.json cannot be read" in problem.what
    assert problem.advice == "the versions beside it say what it should, and a rebuild writes it anew"
