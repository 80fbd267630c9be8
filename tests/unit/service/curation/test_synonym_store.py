"""The synonyms of an index directory on disk: validated, changed atomically, with a log of every change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import SynonymError
from shelfwise.retrieval.text.analysis import SynonymRule, Synonyms
from shelfwise.service.curation.synonyms import (
    Synonym,
    SynonymKind,
    SynonymStore,
    format_lines,
    name_synonym,
    parse_line,
    read_lines,
)

NOW = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)
SOFA = Synonym("sofa", SynonymKind.TWO_WAY, ("sofa", "couch", "settee"))
HDD = Synonym("hdd", SynonymKind.ONE_WAY, ("hdd",), ("hard drive", "hard disk"))


@pytest.fixture
def store(tmp_path: Path) -> SynonymStore:
    return SynonymStore(tmp_path, clock=lambda: NOW)


def test_synonym_expands_each_phrase() -> None:
    assert list(SOFA.rules) == [
        SynonymRule("sofa", ("couch", "settee")),
        SynonymRule("couch", ("sofa", "settee")),
        SynonymRule("settee", ("sofa", "couch")),
    ]
    assert list(HDD.rules) == [SynonymRule("hdd", ("hard drive", "hard disk"))]


def test_whitespace_is_collapsed(store: SynonymStore) -> None:
    store.put([Synonym("pan", SynonymKind.TWO_WAY, ("  frying \t pan", "skillet"))])
    assert store.get("pan").phrases == ("frying pan", "skillet")


@pytest.mark.parametrize(
    ("synonym", "field", "message"),
    [
        ("couch, sofa", "", "must be of the class Synonym, not str"),
        (Synonym("", SynonymKind.TWO_WAY, ("a", "b")), "id", "is empty"),
        (Synonym("x", "sideways", ("a", "b")), "kind", "sideways"),  # type: ignore[arg-type]
        (Synonym("x", SynonymKind.TWO_WAY, ("a", 3)), "phrases", "Expected `str`"),  # type: ignore[arg-type]
        (Synonym("x", SynonymKind.TWO_WAY, ("a",)), "phrases", "has 1 phrases, it can have 2 to 30"),
        (Synonym("x", SynonymKind.TWO_WAY, tuple(f"word{n}" for n in range(31))), "phrases", "has 31 phrases"),
        (Synonym("x", SynonymKind.TWO_WAY, ("a", "b"), ("c",)), "to", "but kind is two-way"),
        (Synonym("x", SynonymKind.ONE_WAY, ("a",)), "to", "has 0 phrases, it can have 1 to 30"),
        (Synonym("x", SynonymKind.ONE_WAY, (), ("a",)), "phrases", "has 0 phrases"),
        (Synonym("x", SynonymKind.TWO_WAY, ("a", "!?")), "phrases", "has no word"),
        (Synonym("x", SynonymKind.TWO_WAY, ("a", "b, c")), "phrases", 'contains ","'),
        (Synonym("x", SynonymKind.TWO_WAY, ("a", "b # c")), "phrases", 'contains "#"'),
        (Synonym("x", SynonymKind.TWO_WAY, ("couch", "Couches")), "phrases", "is the same as 'couch'"),
        (Synonym("x", SynonymKind.ONE_WAY, ("couch",), ("sofa", "COUCH")), "to", "is the same as 'couch'"),
    ],
)
def test_an_invalid_one_names_its_field(store: SynonymStore, synonym: Synonym, field: str, message: str) -> None:
    with pytest.raises(SynonymError, match=message) as refused:
        store.put([SOFA, synonym])
    assert refused.value.field == field
    assert store.revision() == 0


def test_synonyms_of_one_phrase_are_limited_in_total(store: SynonymStore) -> None:
    several = [
        Synonym(f"s{n}", SynonymKind.ONE_WAY, ("Thing",), tuple(f"w{n}x{m}" for m in range(30))) for n in range(2)
    ]
    store.put(several)
    more = Synonym("more", SynonymKind.ONE_WAY, ("thing",), ("other",))
    with pytest.raises(SynonymError, match="'thing' would have 61 synonyms, at most 60"):
        store.put([more])
    store.put([replace(more, enabled=False)])


def test_id_is_derived_from_the_words() -> None:
    assert name_synonym(SynonymKind.TWO_WAY, ("Sofa", "Big couch")).id == "sofa-big-couch"
    assert parse_line(" hdd =>  hard   drive, hard disk ") == Synonym(
        "hdd-to-hard-drive-hard-disk", SynonymKind.ONE_WAY, ("hdd",), ("hard drive", "hard disk")
    )
    long = name_synonym(SynonymKind.TWO_WAY, tuple(f"phrase {number}" for number in range(20)))
    assert len(long.id) == 69
    assert long.id == name_synonym(long.kind, long.phrases).id != name_synonym(long.kind, long.phrases[:-1]).id


def test_file_uses_the_format_of_rebuild(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    text = "# a comment\nsofa, couch, sofa # twice\n\nhdd => hard drive\n移动电源, 充电宝\nsofa, couch\n"
    path.write_text(text, encoding="utf-8")
    found = read_lines(path)
    assert [each.line for each in found] == ["sofa, couch", "hdd => hard drive", "移动电源, 充电宝"]
    written = format_lines([*found, replace(HDD, enabled=False)])
    assert written.splitlines()[-1] == "# off: hdd => hard drive, hard disk"
    rules = tuple(rule for each in found for rule in each.rules)
    assert Synonyms.parse(written.splitlines()) == Synonyms.parse(text.splitlines()[:-1]) == Synonyms(rules)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("couch", "has no synonym"),
        ("couch, couch", "has 1 phrases"),
        ("a => b => c", "more than one"),
        ("a, => c", "is empty"),
        ("sneaker, sneakers", "is the same as"),
    ],
)
def test_invalid_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text(f"sofa, couch\n{line}\n")
    with pytest.raises(SynonymError, match=f"synonyms.txt:2: .*{message}"):
        read_lines(path)


def test_unreadable_file_raises(tmp_path: Path) -> None:
    with pytest.raises(SynonymError, match="cannot be read"):
        read_lines(tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_bytes(b"a, b\n\xff\n")
    with pytest.raises(SynonymError, match=r"bad\.txt:2: not UTF-8"):
        read_lines(tmp_path / "bad.txt")
