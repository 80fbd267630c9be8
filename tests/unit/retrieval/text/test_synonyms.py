from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.text.analysis import Analyzer, Synonyms, TermGroup

LINES = (
    "# furniture",
    "couch, sofa, settee",
    "",
    "hdd => hard drive, hard disk  # one way",
    "hard drive case, drive enclosure",
    "手机, 移动电话",
    "tv => television",
    "power screwgun, 20v drill",
    "hotspot => wi-fi router",
)


def finds(analyzer: Analyzer, query: str, title: str) -> bool:
    terms = analyzer.terms(title)
    text = f" {' '.join(terms)} "
    return all(
        any(set(terms).issuperset(choice) for choice in group.alternatives)
        or any(f" {' '.join(phrase)} " in text for phrase in group.synonyms)
        for group in analyzer.groups(query)
    )


@pytest.fixture
def analyzer() -> Analyzer:
    return Analyzer(Synonyms.parse(LINES))


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("couch", "red sofa"),
        ("sofas", "red settee"),
        ("settee cover", "cover for couches"),
        ("hdd", "hard drive 1 TB"),
        ("hard-drive case", "hard-drive case"),
        ("hard drive case usb", "usb drive enclosure"),
        ("power screwgun", "Drill 20 volt drill, red"),
        ("hotspots", "Wi-Fi router"),
        ("手机壳", "移动电话壳"),
    ],
)
def test_synonym_matches(analyzer: Analyzer, query: str, title: str) -> None:
    assert finds(analyzer, query, title)
    assert query == title or finds(analyzer, query, query)


@pytest.mark.parametrize(
    ("query", "title"), [("hard drive", "hdd"), ("television", "tv"), ("hdd", "hard hat"), ("hdd", "hard case drive")]
)
def test_one_way_synonyms_match_whole_phrases_only(analyzer: Analyzer, query: str, title: str) -> None:
    assert not finds(analyzer, query, title)


def test_phrase_matches_word_by_word_or_by_its_synonym(analyzer: Analyzer) -> None:
    drive, enclosure = analyzer.groups("drive enclosure")
    assert drive == TermGroup((("drive",), ("driveenclosur",)), (("hard", "drive", "case"),))
    assert enclosure == TermGroup((("enclosur",),), (("hard", "drive", "case"),))
    assert enclosure.weighed_terms == {"enclosur", "hard", "drive", "case"}


def test_chinese_characters_match_synonyms_of_their_word(analyzer: Analyzer) -> None:
    groups = [group for group in analyzer.groups("红手机") if group.is_character]
    assert [(group.alternatives, bool(group.synonyms)) for group in groups] == [((("手",),), True), ((("机",),), True)]


@pytest.mark.parametrize(("query", "other"), [("手机", ("移动", "电话")), ("移动电话壳", ("手机",))])
def test_chinese_phrase_within_a_longer_run_has_synonyms(
    analyzer: Analyzer, query: str, other: tuple[str, ...]
) -> None:
    first, *_ = analyzer.groups(query)
    assert any(set(other) <= set(phrase) for phrase in first.synonyms)


def test_longest_phrase_wins_and_lines_are_combined() -> None:
    rules = ["drill => borer", "hammer drill => perforator", "couch => sofa", "couches => divan"]
    hammer, drill, couch = Analyzer(Synonyms.parse(rules)).groups("hammer drill couch")
    assert hammer.synonyms == drill.synonyms == (("perfor",),)
    assert couch == TermGroup((("couch",),), (("sofa",), ("divan",)))


@given(st.text(st.characters(exclude_categories=()), max_size=30), st.sampled_from(["couch", "hdd", "手机", "tv"]))
def test_a_synonym_never_loses_a_match(text: str, word: str) -> None:
    query = f"{word} {text} {word}"
    assert finds(Analyzer(Synonyms.parse(LINES)), query, query)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("couch", "has no synonym"),
        ("couch, couch", "has no synonym"),
        ("couch, , sofa", "'' has no word"),
        ("=> sofa", "'' has no word"),
        ("couch, --", "'--' has no word"),
        ("a => b => c", 'more than one "=>"'),
    ],
)
def test_invalid_line_error_names_file_and_line(tmp_path: Path, line: str, wrong: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(f"# comment\nsofa, couch\n{line}\n", encoding="utf-8")
    with pytest.raises(SettingError) as refused:
        Synonyms.load(path)
    assert str(refused.value).startswith(f"{path}:3: ")
    assert wrong in str(refused.value)
    assert 'write "couch, sofa"' in str(refused.value)


def test_a_file_that_is_missing_or_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    with pytest.raises(SettingError, match="cannot be read"):
        Synonyms.load(path)
    path.write_bytes(b"couch, sofa\ncaf\xe9, bistro\n")
    with pytest.raises(SettingError, match=r"words\.txt:2: not UTF-8"):
        Synonyms.load(path)


def test_a_file_with_a_byte_order_mark_and_windows_lines_loads(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffcouch, sofa\r\n手机, 电话\r\n".encode())
    assert [rule.phrase for rule in Synonyms.load(path).rules] == ["couch", "sofa", "手机", "电话"]


def test_fingerprint_depends_on_the_rules_only() -> None:
    one = Synonyms.parse(["couch, sofa"])
    assert one.fingerprint == Synonyms.parse(["# why", "  couch ,sofa # so"], "other.txt").fingerprint
    assert one.fingerprint != Synonyms.parse(["couch => sofa"]).fingerprint
    assert one.fingerprint != Synonyms().fingerprint
