"""Spellings: quantities, compounds, plurals and typing errors."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from rerank.training.query_attributes import CatalogWords, Words
from rerank.training.query_generation import mistype, respell
from rerank.training.query_text import read_words

TITLES = ("Outside Corner", "Out of the Side Box", "Drills", "Drill", "Format", "Mat for Cats") * 3
CATALOG = CatalogWords([read_words(title) for title in TITLES], [()] * len(TITLES))


def respelled(*words: str) -> set[Words]:
    return {respell(words, CATALOG, Random(seed)) for seed in range(300)}


@pytest.mark.parametrize(
    ("quantity", "spellings"),
    [
        ("24 in.", {"24 in", "24 inch", "24in", '24"', "24"}),
        ("5-gal.", {"5 gal", "5 gallon", "5gal"}),
        ("250 gb", {"250 gb", "250gb"}),
        ("18-volt", {"18 volt", "18v", "18 v"}),
        ("12 x 12", {"12 x 12", "12x12"}),
    ],
)
def test_quantities_are_spelled_in_every_way(quantity: str, spellings: set[str]) -> None:
    assert respelled(quantity) == {(spelling,) for spelling in spellings}


def test_units_between_chinese_words_stand_close_to_their_number() -> None:
    assert respelled("500 g", "鸭舌") == {("500g", "鸭舌")}


def test_both_sides_of_dimensions_are_spelled_alike() -> None:
    for (text,) in respelled("24 in. x 80 in."):
        assert len(set(re.findall('[a-z"]+', text.replace("x", "")))) <= 1


def test_codes_lose_their_signs_at_times() -> None:
    assert respelled("gl-100") == {("gl-100",), ("gl100",)}


def test_compounds_go_apart_and_together_where_titles_have_that() -> None:
    assert respelled("outside", "corner") == {("outside", "corner"), ("out", "side", "corner")}
    assert ("outside", "corner") in respelled("out", "side", "corner")


def test_no_compound_is_taken_apart_at_a_joining_word() -> None:
    assert respelled("format") == {("format",)}


def test_singular_stands_for_plural_and_the_other_way() -> None:
    assert respelled("drill") == {("drill",), ("drills",)}
    assert respelled("drills") == {("drills",), ("drill",)}


@given(
    st.lists(st.sampled_from(["hammer", "DEWALT", "LaserJet", "saw", "24 in.", "剃须刀", "x1"]), max_size=4),
    st.integers(),
)
def test_a_typing_error_changes_one_word_by_one_stroke(words: list[str], seed: int) -> None:
    typed = mistype(tuple(words), Random(seed))
    changed = [(old, new) for old, new in zip(words, typed, strict=True) if old != new]
    assert len(changed) <= 1
    for old, new in changed:
        assert old in ("hammer", "DEWALT", "LaserJet")
        # A stroke may also be the swap of two letters.
        assert OSA.distance(old, new) == 1


def test_words_that_are_short_or_of_other_letters_keep_their_spelling() -> None:
    words = ("saw", "剃须刀", "24 in.", "dcd771")
    assert {mistype(words, Random(seed)) for seed in range(20)} == {words}
