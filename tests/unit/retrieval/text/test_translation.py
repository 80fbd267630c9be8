"""Chinese queries in the words of a catalog in English."""

from __future__ import annotations

import numpy as np
import pytest

from shelfwise.retrieval.text.translation import translate
from shelfwise.retrieval.text.vocabulary import Numbers, words_of

TITLES = (
    "Heat shrink tubing",
    "Stainless steel kitchen sink",
    "White bathroom cabinet",
    "Ceiling fan",
    "Ceiling fan with light",
    "Box fan",
    "Latex gloves",
    "Nitrile gloves",
    "3 ft steel ladder",
    "Coaxial drawer slide",
)


def texts_with(word: str) -> Numbers:
    found = [place for place, title in enumerate(TITLES) if {word, f"{word}s"} & set(words_of(title))]
    return np.array(found, np.uint32)


@pytest.mark.parametrize(
    ("query", "translation"),
    [
        ("热缩管", "heat shrink tubing"),
        ("熱縮管", "heat shrink tubing"),
        ("不锈钢厨房水槽", "stainless steel kitchen sink"),
        ("白色浴室柜", "white bathroom cabinet"),
        ("天花板风扇", "ceiling fan"),
        ("吊扇", "ceiling fan"),
        ("不含乳胶的手套", "without latex glove"),
        ("不要乳胶手套", "not latex glove"),
        ("便宜的吊扇", "cheap ceiling fan"),
        ("茅台", ""),
        ("的", ""),
        ("", ""),
    ],
)
def test_a_word_becomes_what_products_call_it(query: str, translation: str) -> None:
    assert translate(query, texts_with) == translation


def test_a_unit_stays_one_only_after_a_number() -> None:
    assert translate("英尺钢梯子", texts_with, is_after_number=True) == "ft steel ladder"
    assert translate("米", texts_with, is_after_number=True) == "m"
    assert translate("米", texts_with) == ""
