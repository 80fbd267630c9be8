"""Item neighbours: kept pairs, their strengths, and their effect on a tower's scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shelfwise.rerank.user_tower.histories import Histories
from shelfwise.rerank.user_tower.item_neighbours import NO_NEIGHBOURS, NeighbourOptions, Neighbours, find_neighbours
from shelfwise.rerank.user_tower.user_tower_training import fit
from shelfwise.retrieval.errors import TrainingError
from tests.unit.rerank.user_tower.small_stores import EACH, KINDS, TINY, catalog, shoppers

CHOSEN = [[5, 7, 5], [5, 7], [7, 9], [2], [9, 5, 7]]
HISTORIES = Histories.of(CHOSEN)
TIMES = [[0, 86_400, 432_000], [0, 0], [86_400, 172_800], [5], [3_600, 259_200, 345_600]]
TIMED = Histories.of(CHOSEN, times=TIMES)
ROWS = np.array([5, 7, 9])
AGAIN = NeighbourOptions(again=0.3)
FOUND = find_neighbours(HISTORIES, ROWS, AGAIN, least_shoppers=1)


def pairs(found: Neighbours) -> dict[tuple[int, int], float]:
    owner = np.repeat(np.arange(len(found)), np.diff(found.starts))
    result = zip(owner.tolist(), found.others.tolist(), strict=True)
    return dict(zip(result, found.strengths.tolist(), strict=True))


def ridge_regression(histories: Histories, ridge: float, half_life: float | None = None) -> NDArray[np.float64]:
    chosen = np.zeros((len(histories), len(ROWS)))
    for shopper in range(len(histories)):
        part = histories.of_shopper(shopper)
        for row, time in zip(histories.products[part].tolist(), histories.times[part].tolist(), strict=True):
            if row in ROWS:
                age = 0.0 if half_life is None else (np.nanmax(histories.times) - time) / 86_400 / half_life
                chosen[shopper, ROWS.tolist().index(row)] = 0.5 ** (age / 2)
    common = chosen.T @ chosen
    penalty = ridge * np.diag(common).mean()
    made = np.zeros_like(common)
    for target in range(len(ROWS)):
        others = np.arange(len(ROWS)) != target
        system = common[np.ix_(others, others)] + penalty * np.eye(len(ROWS) - 1)
        made[others, target] = np.linalg.solve(system, common[others, target])
    return made


@pytest.mark.parametrize("half_life", [None, 2.0])
def test_weights_equal_ridge_regression_of_each_product(half_life: float | None) -> None:
    histories = TIMED if half_life else HISTORIES
    found = pairs(find_neighbours(histories, ROWS, NeighbourOptions(0.5, half_life, again=0.3), least_shoppers=1))
    expected = ridge_regression(histories, 0.5, half_life)
    assert len(found) == 9
    for (one, other), strength in found.items():
        assert strength == pytest.approx(0.3 if one == other else expected[one, other], abs=1e-5)


@pytest.mark.parametrize(("again", "half_life"), [(0.0, None), (0.3, 3.0)])
def test_transitions_equal_ridge_regression_of_visits(again: float, half_life: float | None) -> None:
    options = NeighbourOptions(None, None, again, transition=4.0, transition_half_life=half_life)
    found = pairs(find_neighbours(TIMED, ROWS, options, least_shoppers=1))
    # Visits by shopper: 7 after 5; 5 after 5 and 7; 9 after 7; 5 after 9; 7 after 5 and 9.
    before = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]], float)
    inside = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]], float)
    days = np.array([1, 5, 2, 3, 4], float)
    if not again:
        inside = np.where(before > 0, 0.0, inside)
    weights = (inside.sum(axis=1) > 0) * (1.0 if half_life is None else 0.5 ** ((5 - days) / half_life))
    common = before.T @ (before * weights[:, None])
    system = common + 30.0 * np.diag(common).mean() * np.eye(3)
    expected = 4.0 * np.linalg.solve(system, before.T @ (inside * weights[:, None]))
    if not again:
        np.fill_diagonal(expected, 0.0)
    for (one, other), strength in found.items():
        assert strength == pytest.approx(expected[one, other], abs=1e-6)
    assert found
    both = pairs(find_neighbours(TIMED, ROWS, replace(options, ridge=25.0), least_shoppers=1))
    alone = pairs(find_neighbours(TIMED, ROWS, replace(options, ridge=25.0, transition=0.0), least_shoppers=1))
    assert both[0, 1] == pytest.approx(alone[0, 1] + expected[0, 1], abs=1e-6)


def test_unknown_times_cannot_be_decayed() -> None:
    with pytest.raises(TrainingError, match="cannot be computed"):
        find_neighbours(HISTORIES, ROWS, NeighbourOptions(half_life=60.0), least_shoppers=1)


def test_rarely_chosen_products_have_no_neighbours_in_large_catalogs() -> None:
    found = find_neighbours(HISTORIES, ROWS, AGAIN, least_shoppers=1, most_products=2)
    assert {*pairs(found)} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert not found.problem(3)


def test_pairs_of_too_few_shoppers_are_left_out() -> None:
    assert {*pairs(find_neighbours(HISTORIES, ROWS, AGAIN, least_shoppers=3))} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_strongest_neighbours_are_kept_in_order() -> None:
    known = pairs(FOUND)
    found = find_neighbours(HISTORIES, ROWS, AGAIN, least_shoppers=1, most=2)
    assert np.diff(found.starts).tolist() == [2, 2, 2]
    assert not found.problem(3)
    kept = pairs(found)
    assert all((place, place) in kept for place in range(3))
    for place in range(3):
        (dropped,) = (abs(known[place, other]) for other in range(3) if (place, other) not in kept)
        assert all(dropped <= abs(strength) for (one, _), strength in kept.items() if one == place)


def test_scores_are_summed_over_the_history_with_decay() -> None:
    result, known = FOUND.scores(np.array([-1, 2, 0]), 0.5), pairs(FOUND)
    assert result.tolist() == pytest.approx([known[0, at] + 0.5 * known[2, at] for at in range(3)])


def test_neighbours_are_mapped_to_new_rows() -> None:
    known, some = pairs(FOUND), FOUND.some(np.array([2, 1]))
    assert pairs(some) == {(0, 0): known[2, 2], (0, 1): known[2, 1], (1, 0): known[1, 2], (1, 1): known[1, 1]}
    assert not some.problem(2)
    assert NO_NEIGHBOURS.some(np.array([2, 1])) is NO_NEIGHBOURS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"starts": np.array([0, 1])}, "has bounds of neighbours that do not match"),
        ({"starts": np.array([0, 3, 2, 9])}, "has bounds of neighbours that do not match"),
        ({"others": np.full(9, 3, np.int32)}, "names neighbours that it does not have"),
        ({"strengths": np.full(9, np.nan, np.float32)}, "has strengths of neighbours that are not within -1 and 1"),
    ],
)
def test_damage_is_reported(change: dict[str, Any], message: str) -> None:
    assert len(FOUND.others) == 9
    assert not FOUND.problem(3)
    assert replace(FOUND, **change).problem(3) == message


@pytest.mark.usefixtures("one_thread")
def test_neighbour_weight_is_chosen_on_validation_data() -> None:
    vectors, kinds = catalog()
    plain = fit(vectors, shoppers(), replace(TINY, epochs=1, learning_rate=1e-9, refit=False), categories=kinds)
    beside = plain.learned.neighbours
    assert beside.weight > 0  # an untrained network gives neighbours a weight
    without = replace(plain.learned, neighbours=NO_NEIGHBOURS)
    asked = Histories.of([[1, EACH + 1], [], [KINDS * EACH - 1]])
    alone = type(plain)(plain.encode, plain.catalog, without, kinds).scores(asked)
    added = plain.scores(asked) - alone
    places = np.searchsorted(plain.learned.rows, [1, EACH + 1])
    expected = np.zeros(KINDS * EACH)
    expected[plain.learned.rows] = beside.weight * beside.neighbours.scores(places, beside.decay)
    assert added[0] == pytest.approx(expected, abs=1e-4)
    assert not added[1].any()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("hide_seen", [True, False])
def test_self_weights_apply_only_if_seen_products_are_shown(hide_seen: bool) -> None:
    vectors, kinds = catalog()
    options = replace(TINY, epochs=1, learning_rate=1e-9, refit=False, hide_seen=hide_seen)
    learned = fit(vectors, shoppers(), options, categories=kinds).learned.neighbours.options
    assert learned is not None
    assert learned.again == (0.0 if hide_seen else 0.3)
