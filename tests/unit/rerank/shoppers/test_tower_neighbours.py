"""What the same shoppers chose: which pairs are kept, how strong they are, and what they add to a tower's scores."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rerank.shoppers.histories import Histories, Ints
from rerank.shoppers.neighbours import NOTHING_BESIDE, Beside, Neighbours, neighbours_of
from rerank.shoppers.training import fit
from tests.unit.rerank.shoppers.small_stores import EACH, KINDS, TINY, catalog, shoppers

HISTORIES = Histories.of([[5, 7, 5], [5, 7], [7, 9], [2], [9, 5, 7]])
ROWS = np.array([5, 7, 9])


def pairs(found: Neighbours) -> dict[tuple[int, int], float]:
    owner = np.repeat(np.arange(len(found)), np.diff(found.starts))
    told = zip(owner.tolist(), found.others.tolist(), strict=True)
    return dict(zip(told, found.strengths.tolist(), strict=True))


def cosine(both: int, one: int, other: int) -> float:
    return both / math.sqrt(one * other)


def test_strengths_are_cosines_over_shoppers() -> None:
    found = pairs(neighbours_of(HISTORIES, ROWS, least_shoppers=1))
    # 5 by three shoppers, 7 by four, 9 by two.
    assert found[0, 0] == pytest.approx(cosine(3, 3, 3))
    assert found[0, 1] == found[1, 0] == pytest.approx(cosine(3, 3, 4))
    assert found[1, 2] == pytest.approx(cosine(2, 4, 2))
    assert found[0, 2] == pytest.approx(cosine(1, 3, 2))


def test_pairs_of_few_shoppers_are_nobodys_to_tell() -> None:
    assert {*pairs(neighbours_of(HISTORIES, ROWS, least_shoppers=3))} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_strongest_are_kept_in_the_order_of_places() -> None:
    found = neighbours_of(HISTORIES, ROWS, least_shoppers=1, most=2)
    assert np.diff(found.starts).tolist() == [2, 2, 2]
    assert {*pairs(found)} == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 2)}


def test_what_is_beside_several_adds_up_and_older_ones_count_less() -> None:
    found = neighbours_of(HISTORIES, ROWS, least_shoppers=1)
    places, told = found.beside(np.array([-1, 2, 0]), 0.5)
    known = pairs(found)
    assert places.tolist() == [0, 1, 2]
    assert told.tolist() == pytest.approx([known[0, at] + 0.5 * known[2, at] for at in range(3)])


@pytest.mark.parametrize("places", [np.array([-1, -1]), np.empty(0, np.int64)])
def test_nothing_is_beside_nothing(places: Ints) -> None:
    found, told = neighbours_of(HISTORIES, ROWS, least_shoppers=1).beside(places, 0.9)
    assert len(found) == len(told) == 0


def test_a_catalog_without_known_products_has_none() -> None:
    none = neighbours_of(HISTORIES, np.empty(0, np.int64), least_shoppers=1)
    assert (len(none), len(none.others)) == (0, 0)
    assert not none.problem(0)


def test_some_of_them_have_new_places() -> None:
    found = neighbours_of(HISTORIES, ROWS, least_shoppers=1)
    known, some = pairs(found), found.some(np.array([2, 1]))
    assert pairs(some) == {(0, 0): known[2, 2], (0, 1): known[2, 1], (1, 0): known[1, 2], (1, 1): known[1, 1]}
    assert not some.problem(2)
    assert NOTHING_BESIDE.some(np.array([2, 1])) is NOTHING_BESIDE


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"starts": np.array([0, 1])}, "holds bounds of neighbours that do not fit"),
        ({"starts": np.array([0, 3, 2, 9])}, "holds bounds of neighbours that do not fit"),
        ({"others": np.full(9, 3, np.int32)}, "names neighbours that it does not hold"),
        ({"strengths": np.full(9, np.nan, np.float32)}, "holds strengths of neighbours that are not within 0 and 1"),
    ],
)
def test_damage_is_told(change: dict[str, Any], told: str) -> None:
    found = neighbours_of(HISTORIES, ROWS, least_shoppers=1)
    assert len(found.others) == 9
    assert not found.problem(3)
    assert replace(found, **change).problem(3) == told


@pytest.mark.usefixtures("one_thread")
def test_a_tower_counts_them_as_much_as_its_validation_wants() -> None:
    vectors, kinds = catalog()
    plain = fit(vectors, shoppers(), replace(TINY, epochs=1, learning_rate=1e-9, refit=False), categories=kinds)
    beside = plain.learned.beside
    assert beside.weight > 0  # a network that has learned nothing is glad of them
    without = replace(plain.learned, beside=NOTHING_BESIDE)
    asked = Histories.of([[1, EACH + 1], [], [KINDS * EACH - 1]])
    alone = type(plain)(plain.encode, plain.catalog, without, kinds).scores(asked)
    added = plain.scores(asked) - alone
    places = np.searchsorted(plain.learned.rows, [1, EACH + 1])
    found, told = Beside(beside.neighbours, beside.weight, beside.fading).of(places)
    expected = np.zeros(KINDS * EACH)
    expected[plain.learned.rows[found]] = told
    assert added[0] == pytest.approx(expected, abs=1e-4)
    assert not added[1].any()
