"""Queries that learn what answers the ones that shoppers replaced them by: how much, and never across a division."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from rerank.text_towers.dataset import (
    JudgedQuery,
    Opinion,
    Paraphrase,
    TowerDataset,
    TowerSources,
    build_dataset,
    from_reformulations,
    is_validation_query,
    normalize_query,
)
from tests.unit.rerank.text_towers.tiny_towers import judged, row_of, shop

SHARE, SEED = 0.2, 1
"""As `shop` divides."""


def learned(paraphrases: Sequence[Paraphrase], *more: JudgedQuery, held_out: Sequence[str] = ()) -> TowerDataset:
    sources = TowerSources([*judged(), *more], held_out=held_out, share=SHARE, paraphrases=paraphrases)
    return build_dataset(sources, row_of, SEED)


def told(made: TowerDataset, query: str) -> dict[int, Any]:
    """Gain and weight of each row, for a query that trains; nothing for one that is not there."""
    queries = [normalize_query(each) for each in made.queries]
    if query not in queries:
        return {}
    number = queries.index(query)
    assert number in made.training
    pairs = made.pairs_of(np.array([number]))
    opinions = zip(made.gains[pairs].tolist(), made.weights[pairs].tolist(), strict=True)
    return dict(zip(made.rows[pairs].tolist(), opinions, strict=True))


def one_that(*, trains: bool) -> str:
    """A query of the shop."""
    return next(each.query for each in judged() if is_validation_query(each.query, SHARE, SEED) != trains)


def unasked(*, trains: bool, words: str = "glowing thing") -> str:
    """One that nobody has judged."""
    return next(each for at in range(99) if is_validation_query(each := f"{words} {at}", SHARE, SEED) != trains)


KNOWN, NEW = one_that(trains=True), unasked(trains=True)


def right() -> list[int]:
    return sorted(row for row, (gain, _) in told(shop(), KNOWN).items() if gain == 1.0)


def test_one_without_positives_learns_those_of_the_other_by_the_share_that_went_on() -> None:
    made = learned([Paraphrase(NEW.upper(), f" {KNOWN.title()}", 0.4)])
    assert told(made, NEW) == {row: (1.0, pytest.approx(0.4)) for row in right()}
    assert made.paraphrases == 1
    assert len(made.training) == len(shop().training) + 1
    assert [made.queries[number] for number in made.validation] == [shop().queries[n] for n in shop().validation]


def test_what_is_known_for_the_query_itself_stands() -> None:
    one, two = right()
    own = {f"p{one:03}": Opinion(0.1, 0.1), "p070": Opinion(1.0, 0.7)}
    made = learned([Paraphrase(NEW, KNOWN, 0.5)], JudgedQuery(NEW, own))
    expected = {one: (0.1, 0.1), 70: (1.0, 0.7), two: (1.0, 0.5)}
    assert told(made, NEW) == {row: pytest.approx(opinion) for row, opinion in expected.items()}
    assert made.paraphrases == 1


def test_one_with_positives_enough_learns_from_itself_alone() -> None:
    own = JudgedQuery(NEW, {f"p{row:03}": Opinion(1.0) for row in (70, 75, 80)})
    made = learned([Paraphrase(NEW, KNOWN, 0.5)], own)
    assert told(made, NEW).keys() == {70, 75, 80}
    assert made.paraphrases == 0


def test_of_several_ways_the_one_that_counts_most() -> None:
    opinions = {f"p{right()[0]:03}": Opinion(1.0, 0.5), "p070": Opinion(0.5, 0.5)}
    other = JudgedQuery(unasked(trains=True, words="good thing"), opinions)
    made = learned([Paraphrase(NEW, KNOWN, 0.1), Paraphrase(NEW, other.query, 0.6)], other)
    one, two = right()
    expected = {one: (1.0, 0.3), two: (1.0, 0.1), 70: (0.5, 0.3)}
    assert told(made, NEW) == {row: pytest.approx(opinion) for row, opinion in expected.items()}


def test_nothing_is_handed_on_that_came_from_another_one() -> None:
    last = unasked(trains=True, words="lit thing")
    made = learned([Paraphrase(NEW, KNOWN, 0.5), Paraphrase(last, NEW, 0.5)])
    assert told(made, NEW)
    assert not told(made, last)


def test_two_spellings_of_one_query_are_no_paraphrase() -> None:
    made = learned([Paraphrase(KNOWN, KNOWN.upper(), 0.5), Paraphrase("™", KNOWN, 0.5)])
    assert made.paraphrases == 0
    assert made.queries == shop().queries


class TestDivision:
    def same_as_without(self, made: TowerDataset, **given: Sequence[str]) -> bool:
        without = learned([], **given)
        return (
            made.queries == without.queries and np.array_equal(made.weights, without.weights) and not made.paraphrases
        )

    def test_one_that_chooses_hands_nothing_on(self) -> None:
        assert self.same_as_without(learned([Paraphrase(NEW, one_that(trains=False), 0.9)]))

    def test_one_that_is_held_out_hands_nothing_on(self) -> None:
        made = learned([Paraphrase(NEW, KNOWN, 0.9)], held_out=[KNOWN.upper()])
        assert self.same_as_without(made, held_out=[KNOWN])

    def test_one_that_would_choose_had_anybody_judged_it_learns_nothing(self) -> None:
        assert self.same_as_without(learned([Paraphrase(unasked(trains=False), KNOWN, 0.9)]))

    def test_one_that_chooses_learns_nothing(self) -> None:
        assert self.same_as_without(learned([Paraphrase(one_that(trains=False), KNOWN, 0.9)]))

    def test_one_that_is_held_out_learns_nothing(self) -> None:
        made = learned([Paraphrase(NEW, KNOWN, 0.9)], held_out=[f" {NEW.upper()}"])
        assert self.same_as_without(made)

    def test_queries_of_a_file_that_choose_neither_learn_nor_hand_on(self) -> None:
        choosing = judged()[:7]
        names = [each.query for each in choosing]
        other = judged()[20].query
        paraphrases = [Paraphrase("any thing", names[0], 0.9), Paraphrase(names[1], other, 0.9)]
        made = build_dataset(TowerSources(judged(), choosing, paraphrases=paraphrases), row_of)
        assert made.paraphrases == 0
        # Where a file chooses, no text says on which side a query is.
        free = [Paraphrase(unasked(trains=trains), other, 0.9) for trains in (True, False)]
        assert build_dataset(TowerSources(judged(), choosing, paraphrases=free), row_of).paraphrases == 2


def test_shares_are_of_all_shoppers_who_asked() -> None:
    counts = {"purchased": [0, 1, 0], "carted": [0, 0, 0], "clicked": [3, 2, 5]}
    reformulations = pl.DataFrame(
        {
            "query": ["tap", "bulbb", "rare"],
            "to_query": ["faucet", "bulb", "often"],
            "count": [9, 12, 6],
            "shoppers": [8, 12, 6],
            **counts,
        }
    )
    queries = pl.DataFrame({"query": ["tap", "bulbb", "faucet"], "shoppers": [40, 12, 90]})
    assert from_reformulations(reformulations, queries) == [
        Paraphrase("bulbb", "bulb", 12 / 12),
        Paraphrase("tap", "faucet", 8 / 40),
    ]
