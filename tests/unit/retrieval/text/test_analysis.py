"""Analysis of texts, with synonyms."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.text.analysis import (
    MAX_GROUPS,
    Analyzer,
    Synonyms,
    TermGroup,
    contains_chinese,
    identifier_key,
)
from shelfwise.retrieval.text.units import is_measure

ANALYZER = Analyzer()
LONGEST_TERM = 200

# Any characters, which test edge cases, and title-like text, which tests the rules.
SAMPLES = (
    "12 12v 1/2 1-1/2 ½ 0.50 .5 in in. inch \" ' ft x × X - / , . & V volt M8 m 3-in-1 1,000 99,99 dcd771c2 dcd-771-c2 "
    "0x0a wi fi wi-fi t-shirt men's running shelves 4x8wood "
    "２ 毫升 手机 不锈钢保温杯 小 é ø İ ß ガス हिन्दी ﷺ ™ ſ ŉ \ud800 \0"
)
PIECES = SAMPLES.split(" ")
TITLES = st.lists(st.sampled_from(PIECES), max_size=12).flatmap(
    lambda pieces: st.sampled_from([" ", "", "-"]).map(lambda between: between.join(pieces))
)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
TEXTS = st.one_of(ANY_TEXT, TITLES)


def finds(query: str, title: str) -> bool:
    terms = set(ANALYZER.terms(title))
    groups = ANALYZER.groups(query)
    return bool(groups) and all(any(terms.issuperset(terms_) for terms_ in group.alternatives) for group in groups)


@pytest.mark.parametrize(
    "spellings",
    [
        ("1/2 in", "1/2 in.", '1/2"', "½ inch", "1/2-inch", "0.5 inches", ".5in", "½″", "１／２ in"),
        ("1 1/2 in.", "1-1/2 in.", "1½ inch", '1.5"', "1.50-Inch"),
        ("12V", "12 volt", "12-volt", "12 v", "12 Volts", "１２Ｖ"),
        ("M8x40", "M8 x 40", "M8×40", "m8 X 40"),
        ("2x4", "2 x 4", "2 in. x 4 in.", "2×4", "2 by 4", '2"x4"', "2in x 4in", "2 in. W x 4 in. H"),
        ("6 ft", "6'", "6-Foot", "6 feet", "6ft."),
        ("5 fl. oz.", "5 fl oz", "5 fluid ounces"),
        ("3.5 mm", "3.5mm", "3.50 millimeters"),
        ("500ml", "500 ml", "500毫升", "５００ｍｌ"),
        ("100,000 BTU", "100000 btu"),
        ("3-in-1", "3 in 1", "3in1"),
        ("0.50", ".5", "0.5", "½"),
        ("wi-fi", "wifi", "wi fi", "Wi–Fi", "WI.FI"),
        ("t-shirt", "tshirt", "t shirt", "T-Shirts"),
        ("dish washer", "dishwasher", "dish-washers"),
        ("DCD771C2", "dcd 771 c2"),
        ("DCD771C2", "DCD-771-C2"),
        ("PS4", "ps 4", "ps-4"),
        ("men's", "mens", "men", "MEN’S"),
        ("washing", "washes", "washed"),
        ("Café", "cafe", "CAFE\u0301"),
        ("Straße", "strasse"),
        ("ガス", "ｶﾞｽ"),
    ],
    ids=" | ".join,
)
def test_spellings_match_each_other(spellings: tuple[str, ...]) -> None:
    missed = [(query, title) for query in spellings for title in spellings if not finds(query, title)]
    assert missed == []


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("12", "DEWALT 12V drill"),
        ("2x4", "2 in. x 4 in. x 8 ft. lumber"),
        ("4x8", "3/4 in. x 4 ft. x 8 ft. plywood"),
        ("4x8wood", "4 x 8 wood panel"),
        ("1/2 pvc", "1/2 in. PVC elbow"),
        ("dcd771", "DCD771-C2"),
        ("2light", "2-Light"),
        ("key board", "keyboard board"),
        ("保温杯", "不锈钢保温杯500ml"),
        ("ipad壳", "苹果iPad保护壳"),
        ("हिन्दी", "किताब हिन्दी"),
    ],
)
def test_query_matches_title(query: str, title: str) -> None:
    assert finds(query, title)


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("1/2 in", "1/4 in."),
        ("24/7", "3.4286"),
        ("m8x40", "8 x 40"),
        ("2x8", "2 in. x 4 in. x 8 ft."),
        ("15 apples", "15a 8 fuse"),
        ("gaming pc", "gaming 6 pieces"),
        ("in", "12 in"),
        ("hi ram", "hiram"),
        ("कि", "की"),
        ("が", "か"),
        ("保温", "电话"),
    ],
)
def test_query_does_not_match_title(query: str, title: str) -> None:
    assert not finds(query, title)


def test_terms_of_a_title() -> None:
    title = "RIDGID® 12-Gauge Men's Wi-Fi Saw, 3/4 in. x 3 in. (DCD771C2)"
    assert ANALYZER.terms(title) == (
        ["ridgid", "12", "12ga", "ga", "men", "wi", "fi", "wifi", "saw", "0.75", "3", "0.75x3", "dcd771c2"]
    )


def test_chinese_terms_are_words_characters_and_latin_parts() -> None:
    expected = "蓝牙 耳机 蓝 牙 耳 机 12 12v volt 适用 适 用"
    assert " ".join(ANALYZER.terms("蓝牙耳机12V适用")) == expected


def test_typed_word_is_the_first_alternative_before_joined_words() -> None:
    (quantity,) = ANALYZER.groups("12 volt")
    assert quantity.alternatives == (("12v",), ("12",))
    first, second = ANALYZER.groups("key board")
    assert first.alternatives == (("key",), ("keyboard",))
    assert second.alternatives == (("board",),)


@pytest.mark.parametrize("text", ["", " ", "-/.'\"&_", "\ud800", "™®"])
def test_empty_text_has_no_terms(text: str) -> None:
    assert ANALYZER.terms(text) == []
    assert ANALYZER.groups(text) == ()


@given(TEXTS)
def test_arbitrary_text_gives_bounded_terms_without_whitespace(text: str) -> None:
    terms = ANALYZER.terms(text)
    assert all(term.split() == [term] and len(term) <= LONGEST_TERM for term in terms)
    "\n".join(terms).encode()


@given(TEXTS)
def test_every_group_of_a_title_matches_its_own_terms(text: str) -> None:
    terms = set(ANALYZER.terms(text))
    for group in ANALYZER.groups(text):
        assert any(terms.issuperset(alternative) for alternative in group.alternatives)


@given(TEXTS)
@example("M1.5 x 40")
@example("feets inchesing")
@example("M0X-0A")
@example("0-0X0A")
def test_a_term_is_among_its_own_terms(text: str) -> None:
    for term in ANALYZER.terms(text):
        if not contains_chinese(term):
            assert term in ANALYZER.terms(term)


@given(TEXTS)
def test_case_and_width_do_not_change_terms(text: str) -> None:
    ascii_text = text.encode("ascii", "ignore").decode()
    wide = ascii_text.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
    assert ANALYZER.terms(ascii_text.upper()) == ANALYZER.terms(ascii_text) == ANALYZER.terms(wide)


@pytest.mark.parametrize(
    "piece", ["a", "7", "drill ", "12V ", "1x", "1/2-", "a-", "保温杯", "ﷺ", "が", "'", "in.", "z" * 90 + "-"]
)
def test_one_megabyte_is_analysed_in_bounded_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    terms = ANALYZER.terms(text)
    assert len(terms) <= len(text)
    assert max(map(len, terms), default=0) <= LONGEST_TERM
    assert len(ANALYZER.groups(text)) <= MAX_GROUPS


def test_identity_covers_the_synonyms() -> None:
    synonyms = Synonyms.parse(["couch, sofa"])
    assert Analyzer().identity == Analyzer(Synonyms()).identity
    assert Analyzer(synonyms).identity != Analyzer().identity
    assert Analyzer(synonyms).identity.endswith(synonyms.fingerprint)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("012345678905", "0012345678905"),
        ("012345678905", "00012345678905"),
        ("DCD771C2", "dcd 771-c2"),
        ("QE55/XU.1", "qe55xu1"),
        ("ＡＢ－１２", "ab_12"),
        ("0042", "42"),
    ],
)
def test_spellings_of_an_identifier_are_equal(one: str, other: str) -> None:
    assert identifier_key(one) == identifier_key(other) != ""


@pytest.mark.parametrize(("one", "other"), [("0A1", "A1"), ("123", "1230"), ("DCD771C2", "DCD771C3")])
def test_different_identifiers_are_not_equal(one: str, other: str) -> None:
    assert identifier_key(one) != identifier_key(other)


def test_measures_are_recognised_by_their_terms() -> None:
    groups = Analyzer().groups("50 ft, 2 x 4, 1/2 in., M8 x 40, 500毫升, 7 drill dcd771")
    measures = [*filter(is_measure, (group.alternatives[0][0] for group in groups))]
    assert measures == ["50ft", "2x4", "0.5in", "m8x40", "500ml"]


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


def is_found(analyzer: Analyzer, query: str, title: str) -> bool:
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
    assert is_found(analyzer, query, title)
    assert query == title or is_found(analyzer, query, query)


@pytest.mark.parametrize(
    ("query", "title"), [("hard drive", "hdd"), ("television", "tv"), ("hdd", "hard hat"), ("hdd", "hard case drive")]
)
def test_one_way_synonyms_match_whole_phrases_only(analyzer: Analyzer, query: str, title: str) -> None:
    assert not is_found(analyzer, query, title)


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
    assert is_found(Analyzer(Synonyms.parse(LINES)), query, query)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("couch", "has no synonym"),
        ("couch, , sofa", "'' has no word"),
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
