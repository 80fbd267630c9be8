"""Judged queries and augmentation of the text towers."""

from __future__ import annotations

import polars as pl
import pytest

from shelfwise.rerank.text_towers.dataset import (
    Augmentation,
    AugmentOptions,
    JudgedQuery,
    Opinion,
    TowerSources,
    build_dataset,
    from_judgments,
    from_labels,
    normalize_query,
)
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.judgments import Judgments
from shelfwise.retrieval.records import Product
from tests.unit.rerank.text_towers.tiny_towers import COLOURS, judged, row_of


def asked(query: str, **gains: float) -> JudgedQuery:
    return JudgedQuery(query, {product: Opinion(gain, gain) for product, gain in gains.items()})


class TestSplits:
    def test_validation_query_is_not_trained_on(self) -> None:
        chosen = [JudgedQuery(each.query.upper(), each.opinions) for each in judged()[:7]]
        made = build_dataset(TowerSources(judged(), chosen), row_of)
        assert made.dropped.leaked == 7
        training = {normalize_query(made.queries[number]) for number in made.training.tolist()}
        validation = {normalize_query(made.queries[number]) for number in made.validation.tolist()}
        assert len(validation) == 7
        assert not training & validation

    def test_test_query_is_not_used(self) -> None:
        held_out = [f" {each.query.title()}" for each in judged()[:11]]
        made = build_dataset(TowerSources(judged(), held_out=held_out, share=0.2), row_of)
        assert made.dropped.leaked == 11
        assert not {normalize_query(query) for query in held_out} & {normalize_query(query) for query in made.queries}

    def test_spellings_are_merged_with_the_higher_grade(self) -> None:
        twice = [*judged(), asked("RED bulb", p000=0.2, p005=0.9)]
        made = build_dataset(TowerSources(twice), row_of)
        assert len(made.queries) == len(judged())
        number = [normalize_query(query) for query in made.queries].index("red bulb")
        gains = dict(zip(made.rows[made.query_of == number], made.gains[made.query_of == number], strict=True))
        assert gains[0] == 1.0
        assert gains[5] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ([asked(f"{colour} lamp", p000=0.1) for colour in COLOURS], "no positives .* 6 queries have no relevant"),
        ([asked(f"{colour} lamp", p900=1.0) for colour in COLOURS], "no positives .*6 labels are for products that no"),
        ([asked(f"query {number}", p000=1.0) for number in range(60)], "one product, so there is one class only"),
        (judged(words=("bulb",)), r"queries with a positive are left to train on, at least 20 are needed"),
    ],
    ids=["no positives", "all products gone", "one class only", "too few queries"],
)
def test_insufficient_data_is_refused(asked_for: list[JudgedQuery], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        build_dataset(TowerSources(asked_for), row_of)


def test_grades_become_shares_of_the_highest_gain() -> None:
    found = from_judgments(Judgments({"lamp": {"a": 3.0, "b": 2.0, "c": 1.0}}, 1.0))
    gains = {product: opinion.gain for product, opinion in found[0].opinions.items()}
    assert gains == {"a": 1.0, "b": (2**1 - 1) / (2**2 - 1), "c": 0.0}


def test_click_labels_become_shares_of_the_best_of_the_query() -> None:
    rows = [
        ("lamp", "a", 4.0, 0.0, 1.0, 0.4, 0.5),
        ("lamp", "b", 1.0, 0.0, 0.0, 0.1, 0.2),
        ("lamp", "c", 0.0, 0.0, 0.0, 0.3, 0.9),
        ("tap", "d", 2.0, 0.0, 0.0, 0.05, 1.0),
    ]
    names = ["query", "product_id", "clicks", "carts", "purchases", "label", "weight"]
    lamp, tap = from_labels(pl.DataFrame(rows, schema=names, orient="row"))
    assert lamp.opinions == {"a": Opinion(1.0, 0.5), "b": Opinion(0.1 / 0.4, 0.1 / 0.4 * 0.2)}
    assert tap.opinions == {"d": Opinion(1.0, 1.0)}


TITLE = "Acme Cordless Drill 18 V with two Batteries"
DRILL = Product("p1", TITLE, "Strong.", brand="Acme", category=("Tools", "Drills"))


def test_query_with_a_long_word_gets_one_typo() -> None:
    augmentation = Augmentation(AugmentOptions(typos=1.0), "1")
    typed = {augmentation.query("cordless drill", DRILL) for _ in range(20)}
    assert len(typed) > 10
    assert all(len(each.split()) == 2 for each in typed)
    assert augmentation.query("18 v", DRILL) == "18 v"
    assert augmentation.query("电钻 18v", DRILL) == "电钻 18v"


def test_units_get_other_spellings() -> None:
    augmentation = Augmentation(AugmentOptions(units=1.0), "1")
    spelled = {augmentation.query("drill 18 volt", DRILL) for _ in range(40)}
    assert spelled == {"drill 18 volt", "drill 18v", "drill 18 v"}
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
def test_brand_of_the_positive_is_removed_from_the_query(query: str, read: str) -> None:
    assert Augmentation(AugmentOptions(brands=1.0), "1").query(query, DRILL) == read


def test_fields_are_dropped_except_the_title() -> None:
    augmentation = Augmentation(AugmentOptions(fields=1.0), "1")
    seen = [augmentation.positive("drill", DRILL) for _ in range(60)]
    assert {each.title for each in seen} == {DRILL.title}
    assert len({(each.brand, each.category, each.description) for each in seen}) == 8


def test_query_words_are_removed_from_the_positive() -> None:
    augmentation = Augmentation(AugmentOptions(unlike=1.0), "1")
    assert augmentation.positive("Cordless DRILL", DRILL).title == "acme 18 v with two batteries"
    chinese = Product("z1", "亚克力鸟笼大号豪华别墅")
    title = augmentation.positive("鸟笼", chinese).title
    assert "鸟笼" not in title
    assert "豪华" in title
    red = Product("p2", "Cordless Drill Red")
    assert augmentation.positive("cordless drill with two batteries", red) is red


@pytest.mark.parametrize("option", ["typos", "unlike", "fields", "brands"])
def test_seed_determines_the_augmentation(option: str) -> None:
    query = "acme drill"

    def drawn(seed: str) -> list[object]:
        augmentation = Augmentation(AugmentOptions(**{option: 0.5}), seed)
        return [(augmentation.query(query, DRILL), augmentation.positive(query, DRILL)) for _ in range(40)]

    assert drawn("1") == drawn("1") != drawn("2")
    assert any(each == (query, DRILL) for each in drawn("1"))
