"""Document stores with a history of changes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import (
    InputError,
    RelationError,
    RelevanceError,
    RuleError,
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    SynonymError,
)
from shelfwise.retrieval.records import Relation, RelationEvidence, RelationKind
from shelfwise.service.curation import sqlite_file
from shelfwise.service.curation.relations import RelationCorrection, RelationStore, corrected, removed_from
from shelfwise.service.curation.relevance import RelevanceStore
from shelfwise.service.curation.rules import Match, Pin, Redirect, Rule, RuleStore, When
from shelfwise.service.curation.sqlite_file import SqliteFile, content_problem
from shelfwise.service.curation.synonyms import Synonym, SynonymKind, SynonymStore

RULES_FILE = "rules.sqlite"
NOW = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)
SALE = Rule("sale", (Redirect("/sale"),), When("sale", Match.EXACT))
DRILLS = Rule("drills", (Pin(("B1", "B2")),), When("drill", Match.CONTAINS))


@pytest.fixture
def store(tmp_path: Path) -> RuleStore:
    return RuleStore(tmp_path, clock=lambda: NOW)


def test_reading_creates_nothing(store: RuleStore, tmp_path: Path) -> None:
    assert store.read().documents == ()
    assert store.revision() == 0
    assert store.history() == []
    with pytest.raises(RuleError, match="there is no rule 'sale'"):
        store.get("sale")
    assert list(tmp_path.iterdir()) == []


def test_unchanged_document_adds_no_revision(store: RuleStore) -> None:
    assert store.put([SALE]) == store.put([SALE]) == store.patch("sale", {"enabled": True}) == store.restore(1) == 1
    assert store.put([]) == store.delete([]) == 1
    assert len(store.history()) == 1


def test_entries_without_an_id_get_one_of_their_text(store: RuleStore) -> None:
    unnamed = replace(SALE, id="")
    texts = {"Sale!": "sale-2", "été 50%": "ete-50", "促销": "rule", "a" * 200: "a" * 26}
    rules = [SALE, *(replace(unnamed, name=name) for name in texts), replace(unnamed, when=When())]
    assert store.put(rules) == store.put(rules) == 1
    named = {each.id: each.name for each in store.read().documents}
    assert named == {"sale": "", "redirect": "", **{own_id: name for name, own_id in texts.items()}}


def test_every_revision_can_be_restored(store: RuleStore) -> None:
    states = [store.read().documents]
    changes: list[Callable[[], int]] = [
        lambda: store.put([SALE]),
        lambda: store.put([DRILLS, replace(SALE, priority=1)]),
        lambda: store.delete(["sale"]),
        lambda: store.put([replace(SALE, name="again"), replace(DRILLS, priority=4)]),
        lambda: store.delete(["sale", "drills"]),
    ]
    for change in changes:
        assert change() == len(states)
        states.append(store.read().documents)
    for revision in (3, 0, 4, 1, 2, 5):
        store.restore(revision)
        assert store.read().documents == states[revision]


def test_refused_change_changes_nothing(store: RuleStore) -> None:
    store.put([SALE])
    with pytest.raises(RuleError, match="no rule 'drills'"):
        store.delete(["sale", "drills"])
    with pytest.raises(RuleError, match="id cannot be changed"):
        store.patch("sale", {"id": "other"})
    assert store.read().documents == (SALE,)


def test_similar_name_is_suggested_and_history_is_bounded(store: RuleStore) -> None:
    store.put([SALE, DRILLS])
    with pytest.raises(RuleError, match="no rule 'dirlls'; did you mean drills"):
        store.delete(["dirlls"])
    for limit in (0, 10_001):
        with pytest.raises(RuleError, match="limit is"):
            store.history(limit=limit)


def test_threads_change_different_rules_at_once(store: RuleStore) -> None:
    names = [f"rule {number:02}" for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        revisions = list(threads.map(lambda name: store.put([replace(SALE, id=name)], who=name), names))
    assert sorted(revisions) == list(range(1, 25))
    assert [rule.id for rule in store.read().documents] == names
    assert all(change.who == change.id for change in store.history())


def test_foreign_or_newer_file_is_refused(store: RuleStore, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / RULES_FILE) as other:
        other.execute("CREATE TABLE theirs (x)")
    for call in (store.read, lambda: store.put([SALE])):
        with pytest.raises(StoreForeignError, match="does not contain rules of Shelfwise"):
            call()
    (tmp_path / RULES_FILE).unlink()
    store.put([SALE])
    with sqlite3.connect(tmp_path / RULES_FILE) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreForeignError, match="another version"):
        store.read()
    (tmp_path / RULES_FILE).write_bytes(b"no database at all " * 99)
    with pytest.raises(StoreDamagedError, match="is damaged"):
        store.read()
    with pytest.raises(StoreError, match="cannot be used"):
        RuleStore(tmp_path / "nowhere").put([SALE])


@pytest.mark.parametrize("line", ["", "{", '{"id": "sale"}', '{"id": "sale", "actions": [{"kind": "teleport"}]}'])
def test_unreadable_rule_is_damage(line: str, store: RuleStore, tmp_path: Path) -> None:
    store.put([SALE])
    with sqlite3.connect(tmp_path / RULES_FILE) as other:
        other.execute("UPDATE rules SET rule = ?", (line,))
    with pytest.raises(StoreDamagedError, match="one of its rules cannot be read"):
        store.read()


SOFA = Synonym("sofa", SynonymKind.TWO_WAY, ("sofa", "couch"))


def test_restored_documents_must_be_consistent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SynonymStore(tmp_path)
    store.put([SOFA, replace(SOFA, id="other")])
    assert store.delete(["sofa"]) == 2
    monkeypatch.setattr("shelfwise.service.curation.document_store.MAX_ENTRIES", 1)
    with pytest.raises(SynonymError, match="there would be 2 synonyms, at most 1 are allowed"):
        store.restore(1)
    assert [each.id for each in store.read().documents] == ["other"]
    assert store.restore(0) == 3
    assert store.read().documents == ()


@pytest.mark.parametrize(("who", "message"), [("m" * 101, "at most 100"), ("m\x1b7", "control character")])
def test_author_must_be_a_name(tmp_path: Path, who: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RuleStore(tmp_path).put([SALE], who=who)
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_of_a_process_leaves_the_lock_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """POSIX frees all locks of a process on a file when it closes any descriptor of the file."""
    monkeypatch.setattr(sqlite_file, "_WAIT_SECONDS", 0.05)
    file = SqliteFile(tmp_path / "numbers.sqlite", "numbers", 7, "CREATE TABLE numbers (n);", private=True)
    other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('BEGIN IMMEDIATE')"
    with file.writing() as cursor:
        cursor.execute("INSERT INTO numbers VALUES (1)")
        with pytest.raises(StoreError, match="locked"), file.writing():
            pass
        found = subprocess.run([sys.executable, "-c", other, file.path], capture_output=True, text=True, check=False)
    assert "database is locked" in found.stderr


def test_sum_of_rows_follows_every_change_and_finds_another_one(tmp_path: Path) -> None:
    tables = "CREATE TABLE numbers (n INTEGER PRIMARY KEY, t TEXT, r REAL, b BLOB);"
    file = SqliteFile(tmp_path / "numbers.sqlite", "numbers", 7, tables)
    changes = (
        "INSERT INTO numbers VALUES (1, 'a', 1, x'00'), (2, '\u6c34', NULL, NULL), (3, 'c', .1, NULL)",
        "INSERT OR REPLACE INTO numbers VALUES (1, 'b', '2', x'01')",
        "INSERT INTO numbers VALUES (2, 'd', 1, 1) ON CONFLICT DO UPDATE SET t = excluded.t",
        "UPDATE numbers SET n = 9 WHERE n = 3",
        "DELETE FROM numbers WHERE n = 9",
    )
    for change in changes:
        with file.writing() as cursor:
            assert cursor.execute(change).rowcount == (3 if change is changes[0] else 1)
        with closing(sqlite3.connect(file.path)) as connection:
            assert content_problem(connection) == ""
    with closing(sqlite3.connect(file.path)) as connection, connection:
        connection.execute("UPDATE numbers SET t = 'e' WHERE n = 2")
        assert content_problem(connection) == "a value has changed"


FITS = Relation(RelationKind.FITS, RelationEvidence.ATTRIBUTES, 0.5)
BOUGHT = Relation(RelationKind.COMPLEMENT, RelationEvidence.SHOPPERS, 0.5, 9)


def test_id_of_a_correction_is_its_pair(tmp_path: Path) -> None:
    store = RelationStore(tmp_path)
    # The order of complements does not matter: this is one correction, changed.
    store.put([RelationCorrection(RelationKind.COMPLEMENT, "a", "b", removed=True)])
    store.put([RelationCorrection(RelationKind.COMPLEMENT, "b", "a")])
    assert [each.removed for each in store.read().documents] == [False]
    store.put([RelationCorrection(RelationKind.FITS, "a b", "c"), RelationCorrection(RelationKind.FITS, "a", "b c")])
    assert len(store.read().documents) == 3, "an id may have spaces"
    store.delete(["fits 'a b' c", "fits a 'b c'"])
    assert [each.id for each in store.read().documents] == ["complement a b"]
    with pytest.raises(RelationError, match="kind: is 'beside'; it must be one of"):
        store.put([RelationCorrection("beside", "a", "b")])  # type: ignore[arg-type]


def test_relations_are_added_and_removed_on_both_sides() -> None:
    added = RelationCorrection(RelationKind.FITS, "toner", "printer")
    removed = RelationCorrection(RelationKind.COMPLEMENT, "printer", "lamp", removed=True)
    found = [("lamp", BOUGHT), ("paper", BOUGHT)]
    owner = Relation(RelationKind.FITS, RelationEvidence.OWNER, 1.0, reverse=True)
    assert list(corrected("printer", found, [added, removed])) == [("toner", owner), ("paper", BOUGHT)]
    assert list(corrected("lamp", [("printer", BOUGHT)], [added, removed])) == []
    assert list(corrected("toner", [("printer", FITS)], [added])) == [("printer", replace(owner, reverse=False))]
    assert removed_from("printer", [added, removed]) == frozenset({"lamp"})
    assert removed_from("lamp", [removed]) == frozenset({"printer"})


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({"cutoff": 3.1}, "cutoff", "cutoff: .* must be a number from -3 to 3"),
        ({"margin": "wide"}, "margin", "Expected `float`, got `str`"),
        ({"cutof": 1}, "cutof", "no field 'cutof'; did you mean cutoff"),
        ({"typo_tolerance": "no"}, "typo_tolerance", "must be one of on, offer, off"),
        ({"never_corrected": ["two words"]}, "never_corrected", r"never_corrected\[0\]: 'two words' is not one word"),
        (
            {"signals": [{"field": "rating", "weight": 0}]},
            "signals",
            r"signals\[0\].weight: .*weight \(above 0, at most 10\)",
        ),
        ({"signals": [{"field": "rating"}] * 2}, "signals", "'rating' is listed twice"),
        ({"signals": [{"field": f"f{number}"} for number in range(11)]}, "signals", "at most 10"),
        ({"fields": {"title": 0}}, "fields", r"fields.title: .*title \(at least 1\)"),
        ({"fields": {"attributes": {"colour": 11}}}, "fields", "whole numbers from 0 to 10"),
        ({"fields": {"sku": 1}}, "sku", "fields: no field 'sku'"),
        ([], "", "is list, it must be an object with named fields"),
    ],
)
def test_error_names_the_field_and_allowed_values(document: object, field: str, message: str) -> None:
    with pytest.raises(RelevanceError, match=message) as refusal:
        RelevanceStore.kind.validate(RelevanceStore.kind.accept(document, "settings"))
    assert refusal.value.field == field
