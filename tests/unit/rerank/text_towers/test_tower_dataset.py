"""What the towers learn from: what is left out, counted, and refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rerank.text_towers.dataset import (
    JudgedQuery,
    Opinion,
    TowerSources,
    build_dataset,
    from_judgments,
    from_labels,
    is_validation_query,
    normalize_query,
)
from retrieval.errors import TrainingError
from retrieval.judgments import Judgments
from tests.unit.rerank.text_towers.tiny_towers import COLOURS, judged, row_of, shop


def asked(query: str, **gains: float) -> JudgedQuery:
    return JudgedQuery(query, {product: Opinion(gain, gain) for product, gain in gains.items()})


def test_queries_are_divided_and_nothing_is_lost() -> None:
    made = shop()
    assert len(made.training) + len(made.validation) == len(made.queries) == len(judged())
    assert 0 < len(made.validation) < len(made.training)
    # Right are the two sizes of the colour; the two of another one are known, and wrong.
    assert made.is_positive.sum() == 2 * len(made.queries)
    assert len(made.rows) == 4 * len(made.queries)
    assert (np.diff(made.query_of) >= 0).all()


def test_the_normalised_text_alone_says_on_which_side_a_query_is() -> None:
    for query in ("Red  Lamp", "red lamp", "RED LAMP ", "ｒｅｄ lamp"):
        assert normalize_query(query) == "red lamp"
        assert is_validation_query(query, 0.5, 3) == is_validation_query("red lamp", 0.5, 3)
    sides = {is_validation_query(f"query {number}", 0.3, 1) for number in range(50)}
    assert sides == {True, False}
    assert sum(is_validation_query(f"query {number}", 0.3) for number in range(2_000)) == pytest.approx(600, abs=60)


class TestLeak:
    def test_a_query_that_also_chooses_does_not_train(self) -> None:
        chosen = [JudgedQuery(each.query.upper(), each.opinions) for each in judged()[:7]]
        made = build_dataset(TowerSources(judged(), chosen), row_of)
        assert made.dropped.leaked == 7
        training = {normalize_query(made.queries[number]) for number in made.training.tolist()}
        validation = {normalize_query(made.queries[number]) for number in made.validation.tolist()}
        assert len(validation) == 7
        assert not training & validation

    def test_a_query_that_is_measured_has_no_part(self) -> None:
        held_out = [f" {each.query.title()}" for each in judged()[:11]]
        made = build_dataset(TowerSources(judged(), held_out=held_out, share=0.2), row_of)
        assert made.dropped.leaked == 11
        assert not {normalize_query(query) for query in held_out} & {normalize_query(query) for query in made.queries}

    def test_two_spellings_are_one_query_with_the_higher_of_two_opinions(self) -> None:
        twice = [*judged(), asked("RED bulb", p000=0.2, p005=0.9)]
        made = build_dataset(TowerSources(twice), row_of)
        assert len(made.queries) == len(judged())
        number = [normalize_query(query) for query in made.queries].index("red bulb")
        gains = dict(zip(made.rows[made.query_of == number], made.gains[made.query_of == number], strict=True))
        assert gains[0] == 1.0
        assert gains[5] == pytest.approx(0.9)


class TestGone:
    def test_products_that_are_gone_are_counted(self) -> None:
        with_gone = [JudgedQuery(each.query, {**each.opinions, "p900": Opinion(1.0)}) for each in judged()]
        made = build_dataset(TowerSources(with_gone), row_of)
        assert made.dropped.gone == len(with_gone)
        assert made.rows.max() < 120

    def test_a_query_that_only_they_answered_is_left_out(self) -> None:
        made = build_dataset(TowerSources([*judged(), asked("kettle", p900=1.0), asked("jug", p000=0.1)]), row_of)
        assert made.dropped.without_positive == 2
        assert made.dropped.gone == 1


class TestRefused:
    def test_no_positives(self) -> None:
        nothing = [asked(f"{colour} lamp", p000=0.1) for colour in COLOURS]
        with pytest.raises(TrainingError, match=r"no positives .* 6 queries have no product"):
            build_dataset(TowerSources(nothing), row_of)

    def test_all_products_gone(self) -> None:
        with pytest.raises(TrainingError, match=r"no positives .*6 opinions are of products that are gone"):
            build_dataset(TowerSources([asked(f"{colour} lamp", p900=1.0) for colour in COLOURS]), row_of)

    def test_one_class_only(self) -> None:
        with pytest.raises(TrainingError, match="one product, so there is one class only"):
            build_dataset(TowerSources([asked(f"query {number}", p000=1.0) for number in range(60)]), row_of)

    def test_too_few_queries(self) -> None:
        with pytest.raises(
            TrainingError, match=r"queries with a positive are left to train on, at least 20 are needed"
        ):
            build_dataset(TowerSources(judged(words=("bulb",))), row_of)

    def test_judgments_that_call_nothing_relevant(self) -> None:
        with pytest.raises(TrainingError, match="all judgments have the grade 0"):
            from_judgments(Judgments({"lamp": {"p000": 0.0}, "tap": {"p001": 0.0}}, -1.0))


def test_grades_become_shares_of_the_highest_gain() -> None:
    found = from_judgments(Judgments({"lamp": {"a": 3.0, "b": 2.0, "c": 1.0}}, 1.0))
    gains = {product: opinion.gain for product, opinion in found[0].opinions.items()}
    assert gains == {"a": 1.0, "b": (2**1 - 1) / (2**2 - 1), "c": 0.0}


def test_labels_of_what_was_clicked_become_shares_of_the_querys_best() -> None:
    labels = pl.DataFrame(
        {
            "query": ["lamp", "lamp", "lamp", "tap"],
            "product_id": ["a", "b", "c", "d"],
            "clicks": [4.0, 1.0, 0.0, 2.0],
            "carts": [0.0, 0.0, 0.0, 0.0],
            "purchases": [1.0, 0.0, 0.0, 0.0],
            "label": [0.4, 0.1, 0.3, 0.05],
            "weight": [0.5, 0.2, 0.9, 1.0],
        }
    )
    lamp, tap = from_labels(labels)
    assert lamp.opinions == {"a": Opinion(1.0, 0.5), "b": Opinion(0.1 / 0.4, 0.1 / 0.4 * 0.2)}
    assert tap.opinions == {"d": Opinion(1.0, 1.0)}
