"""Vocabularies of a catalog: its words and its types of products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.encoders.base import TokenSpans
from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import Analyzer, Synonyms
from shelfwise.retrieval.text.highlight import token_words, word_spans
from shelfwise.retrieval.text.product_types import (
    NO_TYPES,
    ROWS_FILE,
    ProductTypes,
    TypeNames,
    compound_head,
    head_phrases,
    type_phrase,
    type_synonyms,
)
from shelfwise.retrieval.text.vocabulary import (
    WordLookup,
    forms,
    index_words,
    is_correctable,
    language_words,
    postings_of,
    words_of,
)

WORDS = st.sampled_from(("drill", "drills", "drip", "bit", "电钻", "钻", "é", "zoo"))
TEXTS = st.lists(st.lists(WORDS, max_size=5), max_size=12)
LOOKUPS = st.lists(
    st.builds(WordLookup, st.one_of(WORDS, st.sampled_from(("d", "dr", "", "q"))), st.booleans()), max_size=3
)


def test_words_of_every_entry_of_the_dictionary_belong_to_the_language() -> None:
    assert {"drill", "didn't"} <= language_words()
    assert set(words_of("didn't")) <= language_words()


def has(text: list[str], lookup: WordLookup) -> bool:
    begun = lookup.is_prefix and any(word.startswith(lookup.word) for word in text)
    return begun or any(word in forms(lookup.word) for word in text)


@given(TEXTS, LOOKUPS)
def test_lookup_equals_a_scan_of_all_texts(texts: list[list[str]], lookups: list[WordLookup]) -> None:
    postings = postings_of(texts)
    found = postings.matching(lookups).tolist()
    assert found == [at for at, text in enumerate(texts) if all(has(text, lookup) for lookup in lookups)]
    words = [postings[place] for place in range(len(postings))]
    assert words == sorted({word for text in texts for word in text})
    assert [postings.position(word) for word in words] == list(range(len(words)))


def test_lone_surrogate_is_not_a_word() -> None:
    postings = postings_of([["drill"]])
    assert postings.position("\ud800") is None
    assert not postings.prefix_positions("\ud800")
    assert not postings_of([]).matching([WordLookup("a")]).size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Cordless Drill, 18V", ["cordless", "drill", "18v"]),
        ("Men's T-Shirt", ["mens", "t", "shirt"]),
        ("Men’s", ["mens"]),
        ("Café Crème", ["cafe", "creme"]),
        ("Cafe\u0301", ["cafe"]),
        ("无线drill电钻", ["无线", "drill", "电钻"]),
        ("snake_case", ["snake", "case"]),
        ("Ёлка", ["ёлка"]),
        ("\x00\x1f ,.;", []),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_chinese_is_found_by_bigrams_and_last_character() -> None:
    assert index_words("无线电钻") == ["无线", "线电", "电钻", "钻"]
    assert index_words("钻") == ["钻"]
    assert [index_words("a" * length) for length in (40, 41)] == [["a" * 40], []], "nobody types so long a word"


@pytest.mark.parametrize(
    ("word", "other"), [("drill", "drills"), ("drills", "drill"), *((w, "") for w in ("tv", "18v", "电钻", "дрель"))]
)
def test_singular_and_plural_are_matched_by_s(word: str, other: str) -> None:
    assert forms(word) == ((word, other) if other else (word,))


@pytest.mark.parametrize(
    ("word", "is_it"), [("drill", True), ("дрель", True), ("café", True), ("18v", False), ("电钻", False)]
)
def test_words_that_can_be_spell_checked(word: str, is_it: bool) -> None:
    assert is_correctable(word) is is_it


def words(text: str, *known: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text, known)]


def places(text: str, *spans: tuple[int, int]) -> TokenSpans:
    return TokenSpans(text, np.arange(len(spans), dtype=np.int32), np.array(spans, np.int64).reshape(-1, 2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bosch cordless-drill, 18V (2.0Ah)", ["Bosch", "cordless-drill", "18V", "2.0Ah"]),
        ("1/2 in. men's M8x40 · Café", ["1/2", "in", "men's", "M8x40", "Café"]),
        ("博世 18V充电电钻", ["博世", "18V", "充电", "电钻"]),
        ("--- … _", []),
        ("", []),
    ],
)
def test_spans_cover_readable_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_known_chinese_word_is_found_inside_a_longer_one() -> None:
    assert words("博世无线电钻充电式") == ["博世", "无线电", "钻", "充电式"]
    assert words("博世无线电钻充电式", "电钻", "drill") == ["博世", "无线", "电钻", "充电式"]
    assert words("电钻电钻", "电", "电钻") == ["电钻", "电钻"]


@given(
    st.text(st.sampled_from("ab1 -.'电钻无线é_½\u0301\n"), max_size=40), st.lists(st.sampled_from(("电钻", "线", "a")))
)
def test_spans_ascend_and_cover_every_letter(text: str, known: list[str]) -> None:
    spans = list(word_spans(text, known))
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    covered = {place for start, end in spans for place in range(start, end)}
    assert {place for place, letter in enumerate(text) if letter.isalnum()} <= covered


def test_tokens_are_assigned_to_their_words() -> None:
    # The first token begins with the blank before its word; the hyphen's token is part of the whole word.
    found = token_words(places(" Torx-bit, x", (0, 5), (5, 6), (6, 9), (9, 10), (11, 12)), 9)
    assert found.words == ("Torx-bit", "x")
    assert found.keys == ("torx-bit", "x")
    assert found.word_of.tolist() == [0, 0, 0, -1, 1]
    behind = token_words(places("a b c", (0, 1), (2, 3), (4, 5)), 2)
    assert (behind.words, behind.word_of.tolist()) == (("a", "b"), [0, 1])


TYPES = ProductTypes.of(
    [("cordless", "drill"), ("hammer", "drill"), ("drill", "bit", "set"), ("drill",)],
    np.array([0, 1, 2, -1], np.int32),
    np.array([3, -1, -1, -1], np.int32),
)
ROWS = np.arange(4)


@pytest.mark.parametrize(
    ("title", "brand", "head"),
    [
        ("Brunmarck Drill Bit Set for Cordless Drill, 10-Piece", "", "brunmarck drill bit set"),
        ("Cordless Drill by Draxelby, Jorvik DX3768, 20V, Yellow", "Draxelby", "cordless drill"),
        ("Rain Computers - Remix Backpack for Laptops - Olive", "Rain Computers", "remix backpack"),
        ("4 ft. 2-Light LED Utility Shop Light (4-Pack)", "", "2-light led util shop light"),
        ("Brother TN-12C toner cartridge Original Cyan 1 pc(s)", "Brother", "tn-12c toner cartridg"),
        ("Alienware AW610M mouse RF Wireless+USB Type-A Optical 16000 DPI Right-hand", "Alienware", "aw610m mous"),
        ("SanDisk 64GB Extended Capacity (SDXC) Memory Card", "", "extend capac memori card"),
        ("Vaio E Series Laptop / Core i5 Processor - Pink", "", "vaio e seri laptop"),
        ("炊语 电热水壶 800W", "", "电热水壶"),
        ("cordless drill under $100", "", "cordless drill"),
        ("LED Under Cabinet Lighting Fixture", "", "led under cabinet light fixtur"),
    ],
)
def test_the_head_is_the_last_word_before_complements_sizes_and_colours(title: str, brand: str, head: str) -> None:
    phrases = [" ".join(phrase) for phrase in head_phrases(title, brand)]
    assert head in phrases[:2]


@pytest.mark.parametrize(
    ("text", "head"),
    [("防水背包", "背包"), ("运动水杯", "水杯"), ("背包", ""), ("咖啡机", ""), ("大号防水背包", ""), ("backpack", "")],
)
def test_the_head_of_a_chinese_compound_is_its_second_word(text: str, head: str) -> None:
    assert compound_head(text) == head


@pytest.mark.parametrize("text", ["", " ", "12", "for", "red", "2 in. x 4 in.", "1." * 50_000])
def test_a_text_without_a_noun_names_no_type(text: str) -> None:
    assert head_phrases(text) == []


@pytest.mark.parametrize(
    ("query", "words", "expected"),
    [
        ("drill", 1, [1, 1, 0, 0]),
        ("cordless drill", 2, [1, 0.4, 0, 0]),
        ("battery drill", 2, [0.7, 0.4, 0, 0]),
        ("drill bit set", 3, [0, 0, 1, 0]),
        ("drill with two cases", 4, [1 / 16, 1 / 16, 0, 0]),
    ],
)
def test_agreement_depends_on_shared_and_other_words(query: str, words: int, expected: list[float]) -> None:
    wanted = TYPES.named(query, words)
    assert wanted is not None
    assert TYPES.agreements(wanted, ROWS) == pytest.approx(expected)
    assert wanted.is_sure == (max(expected) == 1)


def test_query_without_a_type_of_the_catalog_has_agreement_0() -> None:
    assert TYPES.named("saw", 1) is None


def test_query_without_a_known_head_uses_heads_of_nearest_products() -> None:
    nearest = {0: "Torvane Cordless Drill 12V", 1: "Oxmoorly Hammer Drill", 2: "Drill Bit Set, 10-Piece"}
    alike, different = np.array([2.0, 2.0, 0.0]), np.array([0.0, 0.0, 4.0])
    wanted = TYPES.voted("screwdriver", nearest, alike, 2)
    assert TYPES.agreements(wanted, ROWS) == pytest.approx([2, 2, 0, 0])
    wanted = TYPES.voted("screwdriver drill", nearest, different, 2)
    votes = float(np.exp(4) / (np.exp(4) + 2))
    assert TYPES.agreements(wanted, ROWS) == pytest.approx([0, 0, 2 * votes, 0]), "its own words elect no head"
    assert not wanted.is_sure


@pytest.mark.parametrize(
    ("query", "words", "expected"),
    [
        ("borer", 1, [1, 1, 0, 0]),
        ("cordless borer", 2, [1, 0.4, 0, 0]),
        ("twist bores", 2, [0, 0, 1, 0]),
        ("borer case", 2, None),
        ("电钻", 1, [1, 0.4, 0, 0]),
        ("手枪钻", 1, [1, 1, 0, 0]),
    ],
)
def test_a_query_agrees_with_the_types_of_its_synonyms(query: str, words: int, expected: list[float] | None) -> None:
    rules = ["drill, borer, 手枪钻", "twist bores => drill bit set", "电钻 => cordless drill"]
    wanted = TYPES.named(query, words, type_synonyms(Analyzer(Synonyms.parse(rules))))
    assert (None if wanted is None else TYPES.agreements(wanted, ROWS).tolist()) == expected


def test_a_live_change_gives_a_product_its_type() -> None:
    changed = TYPES.with_changes({1: None, 9: Product("n", "Torvane Brushless Cordless Drill, 12V")})
    assert [changed.name_of(row) for row in (0, 1, 9, 10)] == ["cordless drill", "", "cordless drill", ""]
    assert TYPES.name_of(1) == "hammer drill", "the types of the version stay as they are"


def test_types_of_rules_replace_those_of_products() -> None:
    given = TYPES.with_given({0: "Drills", 3: "Washing Machine", 9: "washing machines"})
    assert [given.name_of(row) for row in (0, 1, 3, 9)] == ["drill", "hammer drill", "wash machin", "wash machin"]
    assert len(given.phrases) == len(TYPES.phrases) + 1
    wanted = given.named("washing machine", 2)
    assert wanted is not None
    assert wanted.is_sure
    assert given.agreements(wanted, ROWS).tolist() == [0, 0, 0, 1]
    assert given.names_of(3, Product("p", "Mug")) == TypeNames(by_rule="Washing Machine")
    assert TYPES.named("washing machine", 2) is None


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("Washing  Machines", "wash machin"),
        ("men's running shoes", "men's run shoe"),
        ("drill for kids", ""),
        ("very long cordless drill", ""),
        (" ", ""),
        ("\ud800", ""),
    ],
)
def test_name_of_one_type_is_a_phrase(name: str, phrase: str) -> None:
    assert " ".join(type_phrase(name)) == phrase


@pytest.mark.parametrize(
    ("row", "title", "category", "names"),
    [
        (0, "Torvane Cordless Drills, 12V", ("Tools", "Drills"), TypeNames("cordless drills", "drills")),
        (1, "Hammer-Drill", (), TypeNames("hammer drill")),
        (2, "Storage case; drill-bit sets: Drill Bit Set.", (), TypeNames("drill bit set")),
        (3, "Mug", ("Mugs",), TypeNames()),
        (4, "", (), TypeNames()),
    ],
)
def test_types_are_shown_in_the_words_of_the_product(
    row: int, title: str, category: tuple[str, ...], names: TypeNames
) -> None:
    found = TYPES.names_of(row, Product("p", title, category=category))
    assert found == names
    assert found.name == names.by_title


def test_types_round_trip_and_are_refused_for_other_products(tmp_path: Path) -> None:
    TYPES.write(tmp_path / "types")
    ratings = np.array([3, np.nan, 9, 5], np.float32)
    opened = ProductTypes.open(tmp_path / "types", ratings)
    assert [opened.name_of(row) for row in range(4)] == [TYPES.name_of(row) for row in range(4)]
    with pytest.raises(StoreDamagedError, match="types of 4 products, not 5; rebuild the index"):
        ProductTypes.open(tmp_path / "types", np.zeros(5, np.float32))
    with pytest.raises(StoreDamagedError, match=r"phrases\.json cannot be read .*; rebuild the index"):
        ProductTypes.open(tmp_path, ratings)
    np.save(tmp_path / "types" / ROWS_FILE, np.array([[0, 1, 2, 9], [0] * 4], np.int32))
    with pytest.raises(StoreDamagedError, match="rebuild the index"):
        ProductTypes.open(tmp_path / "types", ratings)


def test_best_known_products_of_each_type_come_in_turn(tmp_path: Path) -> None:
    by_title = np.array([0, 0, 1, -1, 0, 1, 2], np.int32)
    ProductTypes.of([("cordless", "drill"), ("drill",), ("saw",)], by_title, by_title).write(tmp_path / "types")
    types = ProductTypes.open(tmp_path / "types", np.array([1, 5, 2, 9, 3, 4, 9], np.float32))
    wanted = types.named("drill", 1)
    assert wanted is not None
    assert types.best_known(wanted, 9).tolist() == [1, 5, 4, 2, 0]
    assert types.best_known(wanted, 2).tolist() == [1, 5]
    assert types.with_changes({1: None}).best_known(wanted, 2).tolist() == [5]
    assert types.best_known(NO_TYPES, 2).tolist() == []
    assert types.count(wanted) == 5
