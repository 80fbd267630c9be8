"""What rules and synonyms are kept alike by, where their own tests do not show it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retrieval.errors import InputError, SynonymError
from service.curation.rules import Redirect, Rule, RuleStore
from service.curation.rules import encode_rule as rule_line
from service.curation.synonyms import Synonym, SynonymKind, SynonymStore
from service.curation.synonyms import encode_synonym as synonym_line
from service.experiments import ExperimentStore

RULE = Rule("sale", (Redirect("/sale"),))
SOFA = Synonym("sofa", SynonymKind.TWO_WAY, ("sofa", "couch"))
TIME = datetime(2026, 11, 27, 12, 30, 0, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("store", "entry", "line", "application"),
    [(RuleStore, RULE, rule_line(RULE), 0x53575255), (SynonymStore, SOFA, synonym_line(SOFA), 0x5357534E)],
)
def test_a_file_of_before_is_read_and_goes_on(
    tmp_path: Path, store: type[RuleStore | SynonymStore], entry: Rule | Synonym, line: str, application: int
) -> None:
    """Its tables are written out here: a program that makes others does not read what people have."""
    one, many = store.kind.one, store.kind.many
    with sqlite3.connect(tmp_path / f"{many}.sqlite") as file:
        file.executescript(f"""
            CREATE TABLE {many} (id TEXT PRIMARY KEY, {one} TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE changes (
                revision INTEGER NOT NULL, id TEXT NOT NULL, time INTEGER NOT NULL, who TEXT NOT NULL, before TEXT,
                after TEXT, PRIMARY KEY (revision, id)
            ) WITHOUT ROWID;
            PRAGMA application_id = {application};
            PRAGMA user_version = 1;
        """)
        file.execute(f"INSERT INTO {many} VALUES (?, ?)", (entry.id, line))  # noqa: S608 - our names
        file.execute("INSERT INTO changes VALUES (1, ?, 1795782600000007, 'm7', NULL, ?)", (entry.id, line))
    opened = store(tmp_path)
    assert opened.get(entry.id) == entry
    assert opened.delete([entry.id]) == 2
    (_, made) = opened.history()
    assert (made.revision, made.time, made.who, made.id) == (1, TIME, "m7", entry.id)
    assert (made.before, made.after) == (None, entry)


def test_what_is_restored_must_hold_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SynonymStore(tmp_path)
    store.put([SOFA, replace(SOFA, id="other")])
    assert store.delete(["sofa"]) == 2
    monkeypatch.setattr("service.curation.document_store.MOST_ENTRIES", 1)
    with pytest.raises(SynonymError, match="there would be 2 synonyms, at most 1 are kept"):
        store.restore(1)
    assert [each.id for each in store.read().documents] == ["other"]
    assert store.restore(0) == 3
    assert store.read().documents == ()


@pytest.mark.parametrize(("who", "said"), [("m" * 101, "at most 100 characters"), ("m\x1b7", "control character")])
def test_who_changes_something_is_a_name(tmp_path: Path, who: str, said: str) -> None:
    calls = (
        lambda: RuleStore(tmp_path).put([RULE], who=who),
        lambda: SynonymStore(tmp_path).decline("0a", who=who),
        lambda: ExperimentStore(tmp_path).stop("merging", who=who),
    )
    for call in calls:
        with pytest.raises(InputError, match=said):
            call()
    assert list(tmp_path.iterdir()) == []
