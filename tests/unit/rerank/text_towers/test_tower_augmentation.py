"""Other spellings of what towers are trained on."""

from __future__ import annotations

import pytest

from rerank.text_towers.dataset import Augmentation, AugmentOptions
from retrieval.records import Product

DRILL = Product(
    "p1",
    "Acme Cordless Drill 18 V with two Batteries",
    brand="Acme",
    category=("Tools", "Drills"),
    description="Strong.",
)


def test_by_default_all_is_read_as_it_is() -> None:
    augmentation = Augmentation(AugmentOptions(), "1")
    assert augmentation.query("cordless drill", DRILL) == "cordless drill"
    assert augmentation.positive("cordless drill", DRILL) is DRILL


def test_a_query_gets_one_typing_error_where_it_has_a_long_word() -> None:
    augmentation = Augmentation(AugmentOptions(typos=1.0), "1")
    typed = {augmentation.query("cordless drill", DRILL) for _ in range(20)}
    assert len(typed) > 10
    assert all(len(each.split()) == 2 for each in typed)
    assert augmentation.query("18 v", DRILL) == "18 v"
    assert augmentation.query("电钻 18v", DRILL) == "电钻 18v"


def test_units_are_spelled_in_other_ways() -> None:
    augmentation = Augmentation(AugmentOptions(units=1.0), "1")
    assert {augmentation.query("drill 18 volt", DRILL) for _ in range(40)} == {
        "drill 18 volt",
        "drill 18v",
        "drill 18 v",
    }
    assert augmentation.query("cordless drill", DRILL) == "cordless drill"


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("ACME cordless drill", "cordless drill"),
        ("drill by acme", "drill by"),
        ("acme", "acme"),
        ("cordless drill", "cordless drill"),
    ],
)
def test_a_query_is_asked_without_its_positives_brand(query: str, read: str) -> None:
    assert Augmentation(AugmentOptions(brands=1.0), "1").query(query, DRILL) == read


def test_a_brand_of_two_words_goes_as_a_whole_or_stays() -> None:
    augmentation, tap = Augmentation(AugmentOptions(brands=1.0), "1"), Product("t", "Tap", brand="American Standard")
    assert augmentation.query("american standard tap", tap) == "tap"
    assert augmentation.query("standard tap", tap) == "standard tap"
    assert augmentation.query("standard tap", Product("t", "Tap")) == "standard tap"


def test_fields_are_left_out_and_the_title_stays() -> None:
    augmentation = Augmentation(AugmentOptions(fields=1.0), "1")
    seen = [augmentation.positive("drill", DRILL) for _ in range(60)]
    assert {each.title for each in seen} == {DRILL.title}
    assert len({(each.brand, each.category, each.description) for each in seen}) == 8


def test_a_positive_is_read_without_the_words_of_its_query() -> None:
    augmentation = Augmentation(AugmentOptions(unlike=1.0), "1")
    assert augmentation.positive("Cordless DRILL", DRILL).title == "acme 18 v with two batteries"
    chinese = Product("z1", "亚克力鸟笼大号豪华别墅")
    title = augmentation.positive("鸟笼", chinese).title
    assert "鸟笼" not in title
    assert "豪华" in title


def test_one_that_would_keep_too_few_words_is_read_as_it_is() -> None:
    augmentation = Augmentation(AugmentOptions(unlike=1.0), "1")
    assert augmentation.positive("cordless drill with two batteries", Product("p2", "Cordless Drill Red")).title == (
        "Cordless Drill Red"
    )


@pytest.mark.parametrize("option", ["typos", "unlike", "fields", "brands"])
def test_a_seed_tells_what_is_drawn(option: str) -> None:
    query = "acme drill"

    def drawn(seed: str) -> list[object]:
        augmentation = Augmentation(AugmentOptions(**{option: 0.5}), seed)
        return [(augmentation.query(query, DRILL), augmentation.positive(query, DRILL)) for _ in range(40)]

    assert drawn("1") == drawn("1") != drawn("2")
    assert any(each == (query, DRILL) for each in drawn("1"))
