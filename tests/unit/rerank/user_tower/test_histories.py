"""Histories of shoppers, neighbours of products in them, and the training of user towers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import PADDING
from shelfwise.rerank.training.trainer import Epoch, Run
from shelfwise.rerank.user_tower.held_out_acts import HeldOutActs, hide, hit_rate, ndcg, ranks, ranks_of, split_by_time
from shelfwise.rerank.user_tower.histories import Histories, TextPlaces, certainty, gap_classes, visit_numbers
from shelfwise.rerank.user_tower.item_neighbours import (
    NO_NEIGHBOURS,
    NeighbourOptions,
    Neighbours,
    WeightedNeighbours,
    factorize,
    find_neighbours,
)
from shelfwise.rerank.user_tower.tower import UserTower
from shelfwise.rerank.user_tower.transformer import HistoryWindowBatches, NegativeSampler
from shelfwise.rerank.user_tower.user_tower_training import choose_prior, fit
from shelfwise.retrieval.errors import TrainingError
from tests.progress import KilledError, killed_at
from tests.unit.rerank.user_tower.small_stores import EACH, KINDS, TINY, catalog, shoppers


def test_a_window_ends_with_the_newest_act() -> None:
    windows = Histories.of([[5, 6], [], [7]]).newest(width=3)
    assert windows.products.tolist() == [[PADDING, 5, 6], [PADDING] * 3, [PADDING, PADDING, 7]]
    assert windows.kinds.tolist() == [[PADDING, 3, 3], [PADDING] * 3, [PADDING, PADDING, 3]]


def test_gaps_are_until_the_next_act_and_until_now() -> None:
    day = 86_400.0
    windows = Histories.of([[1, 2]], times=[[0.0, 2 * day]]).newest(np.array([2 * day + 30]), width=2)
    assert windows.gaps.tolist() == [gap_classes(np.array([2 * day, 30.0])).tolist()]


def test_a_basket_is_shuffled_within_itself() -> None:
    given = Histories.of([[1, 2, 3, 4], [5, 6]], times=[[0.0, 1.0, 1.0, 1.0], [2.0, 3.0]])
    made = {tuple(given.shuffled(np.random.default_rng(seed)).products.tolist()) for seed in range(30)}
    assert len(made) == 6
    assert all(each[0] == 1 and each[4:] == (5, 6) and sorted(each) == [1, 2, 3, 4, 5, 6] for each in made)


def test_split_by_time_does_not_leak() -> None:
    random = np.random.default_rng(0)
    times = [np.sort(random.random(8) * 100).tolist() for _ in range(40)]
    given = Histories.of([list(range(8))] * 40, times=times)
    learning, held = split_by_time(given, 0.25)
    assert held.now is not None
    assert learning.times.max() < held.now.min()
    assert held.histories.lengths.min() > 0
    # The target is the first act after the moment, whose index is the number of earlier acts.
    assert held.targets.tolist() == held.histories.lengths.tolist()


def test_split_can_start_at_a_given_time() -> None:
    given = Histories.of([[0, 1, 2, 3]], times=[[1.0, 2.0, 3.0, 4.0]])
    assert split_by_time(given, 0.5)[1].targets.tolist() == [2]
    assert split_by_time(given, 0.5, after=1.0)[1].targets.tolist() == [2]
    learning, held = split_by_time(given, 0.5, after=3.5)
    assert (learning.products.tolist(), held.targets.tolist()) == ([0, 1, 2], [3])


def test_target_is_the_first_new_product_if_seen_ones_are_hidden() -> None:
    times = [[1.0, 2.0, 9.0, 10.0], [3.0, 4.0, 9.5, 11.0], [5.0, 6.0, 7.0, 8.0]]
    given = Histories.of([[1, 2, 2, 3], [4, 5, 5, 4], [2, 1, 1, 2]], times=times)
    learning, held = split_by_time(given, 0.34, hide_seen=True)
    assert learning.times.max() == 8.0
    assert (held.targets.tolist(), held.histories.products.tolist()) == ([3], [1, 2])
    assert held.now is not None
    assert held.now.tolist() == [10.0]
    assert split_by_time(given, 0.34)[1].targets.tolist() == [2, 5]


def test_whole_first_visit_after_the_moment_is_held_out() -> None:
    times = [[0.0, 1e4, 1e4, 1.1e4, 2e4], [0.0, 5e3, 6e3, 3e4, 3e4]]
    given = Histories.of([[1, 2, 3, 1, 4], [5, 6, 7, 8, 9]], times=times)
    assert visit_numbers(given).tolist() == [0, 1, 1, 1, 2, 3, 4, 4, 5, 5]
    learning, held = split_by_time(given, 0.5, whole_visit=True, after=7e3)
    assert learning.products.tolist() == [1, 2, 3, 5, 6, 7]
    assert held.targets.tolist() == [1, 8, 9]
    assert held.now is not None
    assert held.now.tolist() == [1.1e4, 3e4]
    assert (held.visits.tolist(), held.histories.lengths.tolist()) == ([0, 1, 1], [3, 3])
    some = held.only(np.array([1, 2]))
    assert (some.targets.tolist(), some.visits.tolist()) == ([8, 9], [0, 0])
    assert some.seen()[0].tolist() == [5, 6, 7]
    assert split_by_time(given, 0.5, whole_visit=True, hide_seen=True)[1].targets.tolist() == [4, 8, 9]


def test_acts_without_times_are_visits_of_their_own() -> None:
    assert visit_numbers(Histories.of([[1, 2], [], [3]])).tolist() == [0, 1, 2]
    assert not len(visit_numbers(Histories.of([[]])))


def test_without_times_the_last_act_is_held_out() -> None:
    learning, held = split_by_time(Histories.of([[1, 2, 3], [4], [5, 6]]), 0.1)
    assert held.targets.tolist() == [3, 6]
    assert learning.products.tolist() == [1, 2, 4, 5]
    assert held.histories.lengths.tolist() == [2, 1]


def test_every_act_after_the_first_is_predicted_once() -> None:
    given = Histories.of([list(range(130)), [3, 4], [9]])
    counts = np.bincount(given.products, minlength=200)
    batches = HistoryWindowBatches(given, counts, size=2, negatives=1_000, unknown=0.0, hide_seen=True, seed=1)
    found = []
    for batch in batches.of_epoch(1):
        after = batch.windows.products[batch.places]
        found += list(zip(after.tolist(), batch.sample.rows[batch.wanted].tolist(), strict=True))
        assert not {*zip(*batch.hidden, strict=True)} & {*enumerate(batch.wanted)}
    assert sorted(found) == sorted([(each, each + 1) for each in range(129)] + [(3, 4)])


def test_seen_products_are_neither_targets_nor_candidates() -> None:
    given = Histories.of([[1, 2, 1, 3]])
    options: dict[str, Any] = {"size": 1, "negatives": 9, "unknown": 0.0, "seed": 1}
    for hide_seen, wanted in ((False, [2, 1, 3]), (True, [2, 3])):
        (batch,) = HistoryWindowBatches(given, np.ones(5, np.int64), hide_seen=hide_seen, **options).of_epoch(1)
        assert batch.sample.rows[batch.wanted].tolist() == wanted
    found = {(place, int(batch.sample.rows[column])) for place, column in zip(*batch.hidden, strict=True)}
    assert found == {(0, 1), (1, 1), (1, 2)}


def test_epochs_depend_on_seed_and_number() -> None:
    given = Histories.of([[number, number + 1, number + 2] for number in range(40)])

    def drawn(epoch: int, seed: int = 3) -> list[list[int]]:
        options: dict[str, Any] = {"size": 4, "negatives": 10, "unknown": 0.3, "hide_seen": True}
        batches = HistoryWindowBatches(given, np.ones(50, np.int64), seed=seed, **options)
        return [batch.windows.products.ravel().tolist() for batch in batches.of_epoch(epoch)]

    assert drawn(2) == drawn(2)
    assert drawn(2) != drawn(1)
    assert drawn(2) != drawn(2, seed=4)


def test_sample_has_the_probability_of_each_candidate() -> None:
    counts = np.zeros(400, np.int64)
    counts[:200] = 1 + np.arange(200)
    negatives, random = NegativeSampler(counts, 60), np.random.default_rng(0)
    times, result = np.zeros(400), np.zeros(400)
    for _ in range(400):
        sample = negatives.draw(random.choice(400, 10, p=counts / counts.sum()), random)
        times[sample.rows] += 1
        result[sample.rows] = sample.log_q
    assert not times[200:].any()
    assert np.abs(times[:200] / 400 - np.exp(result[:200])).max() < 0.12


def test_interaction_factors_describe_choices() -> None:
    given = Histories.of([[0, 1], [0, 1], [0, 1, 1], [2, 3], [2, 3], [2, 3], [4]])
    made = factorize(given, 6, 4, least_shoppers=2, most=100)
    assert made.rows.tolist() == [0, 1, 2, 3]
    alike = made.vectors @ made.vectors.T
    assert alike[0, 1] == pytest.approx(3 / (3 + 2) / (1 + 1))
    assert abs(alike[0, 2]) < 1e-6
    assert factorize(given, 6, 4, least_shoppers=2, most=2).rows.tolist() == [0, 1]
    assert factorize(Histories.of([[0]]), 6, 4, least_shoppers=1, most=9).vectors.tolist() == [[0.0] * 4]


def test_ties_count_against_the_target() -> None:
    scores = np.array([[3.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 5.0], [9.0, 1.0, 0.0, 0.0]])
    targets = np.array([1, 3, 0])
    visits = np.arange(3)
    assert ranks(scores, targets, visits).tolist() == [3, 1, 1]
    assert ranks(np.array([[np.nan] * 3]), np.array([0]), np.array([0])).tolist() == [3]
    assert ranks(hide(scores, [np.array([0])] * 3), targets, visits).tolist() == [2, 1, 4]
    assert ranks(scores, np.array([1, 0, 3, 3, 0]), np.array([0, 0, 1, 2, 2])).tolist() == [3, 1, 1, 4, 1]
    assert hit_rate(np.array([1, 10, 11])).tolist() == [1.0, 1.0, 0.0]
    assert ndcg(np.array([1, 3, 11])).tolist() == [1.0, 1 / 2, 0.0]


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


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def learned() -> UserTower:
    vectors, kinds = catalog()
    return fit(vectors, shoppers(), replace(TINY, epochs=12, refit=False), categories=kinds)


def test_untrained_tower_recommends_near_products() -> None:
    vectors, kinds = catalog()
    tower = fit(vectors, shoppers(), replace(TINY, epochs=1, learning_rate=1e-9, refit=False))
    best = np.argsort(-(tower.vectors(Histories.of([[0]])) @ vectors.T))[0]
    assert best[0] == 0
    assert {*kinds[best[: EACH // 2]]} == {0}


def test_product_takes_the_place_of_its_text_as_far_as_it_is_unknown() -> None:
    scores, texts = np.array([5, 4, 3, -9], np.float32), np.array([0.1, 0.3, 0.2, 0.9], np.float32)
    shares = certainty(np.array([6, 2, 2, 0], np.float32), 2.0)
    assert shares.tolist() == [0.75, 0.5, 0.5, 0.0]
    places = TextPlaces.of(scores, texts, shares)
    assert places.mixed(scores, texts, shares) == pytest.approx([0.75 * 5 + 0.25 * 3, 4.0, 3.0, 5.0])
    # A part of the products have the same places as among all products.
    assert places.mixed(scores[2:], texts[2:], shares[2:]) == pytest.approx([3.0, 5.0])
    assert TextPlaces.of(scores, texts, np.zeros(4, np.float32)).mixed(scores, texts, shares) is scores


def test_places_by_text_count_where_held_out_acts_are_on_new_products(learned: UserTower) -> None:
    new = np.arange(EACH - 1, KINDS * EACH, EACH)
    alone = UserTower(learned.encode, learned.catalog, replace(learned.learned, prior=0.0))
    near = HeldOutActs(Histories.of([[row - 1] for row in new.tolist()]), new, np.arange(len(new)), hide_seen=True)
    prior = choose_prior(alone, near)
    assert prior > 0
    mixing = UserTower(learned.encode, learned.catalog, replace(learned.learned, prior=prior))
    before, after = (hit_rate(ranks_of(each, near), 5).mean() for each in (alone, mixing))
    assert after > before
    # Products in the history keep their own scores.
    history = Histories.of([[1, 9]])
    assert np.array_equal(mixing.scores(history)[0, [1, 9]], alone.scores(history)[0, [1, 9]])


def test_large_catalogs_are_mixed_only_at_the_top(learned: UserTower, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = UserTower(learned.encode, learned.catalog, replace(learned.learned, prior=2.0))
    whole = tower.scores(Histories.of([[1, 9]]))[0]
    monkeypatch.setattr("shelfwise.rerank.user_tower.tower._DEEPEST", 24)
    found = tower.scores(Histories.of([[1, 9]]))[0]
    assert np.argsort(-found)[:5].tolist() == np.argsort(-whole)[:5].tolist()


def test_an_empty_history_is_answered_by_popularity(learned: UserTower) -> None:
    scores = learned.scores(Histories.of([[], [3]]))
    assert scores[0] == pytest.approx(learned.bias)
    assert not learned.vectors(Histories.of([[]])).any()
    assert learned.scores(Histories.of([])).shape == (0, KINDS * EACH)


def test_network_reads_the_newest_fifty_acts_and_neighbours_all_that_are_counted(learned: UserTower) -> None:
    acts = np.random.default_rng(2).integers(KINDS * EACH, size=10_000).tolist()
    alone = UserTower(learned.encode, learned.catalog, replace(learned.learned, neighbours=NO_NEIGHBOURS, prior=0.0))
    long, short = (alone.scores(Histories.of([each])) for each in (acts, acts[-50:]))
    assert long == pytest.approx(short)
    rows = learned.learned.rows
    steady = WeightedNeighbours(find_neighbours(shoppers(), rows, NeighbourOptions(6.0), least_shoppers=1), 1.0, 1.0)
    counted = [learned.neighbour_scores(steady, Histories.of([acts[-count:]]))[0] for count in (50, 1_000, 10_000)]
    assert counted[2] == pytest.approx(counted[1])
    places = np.array(
        [place if row in rows else -1 for row, place in zip(acts, np.searchsorted(rows, acts), strict=True)]
    )
    assert counted[1][rows] == pytest.approx(steady.neighbours.scores(places[-1_000:], 1.0), abs=1e-4)
    assert np.abs(counted[1] - counted[0]).max() > 1


def _given() -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], Histories]:
    torch.manual_seed(99)
    return catalog()[0], shoppers()


@pytest.mark.slow
def test_killed_run_gives_the_same_result(tmp_path: Path) -> None:
    vectors, histories = _given()
    whole = fit(vectors, histories, TINY, work=Run(tmp_path / "whole"))
    with pytest.raises(KilledError):
        fit(vectors, histories, TINY, work=Run(tmp_path / "killed", killed_at(22)))
    result: list[int] = []
    to = Run(tmp_path / "killed", judged=lambda epoch: result.append(epoch.number))
    again = fit(vectors, histories, TINY, work=to)
    asked = Histories.of([[1, 9], [4]])
    assert again.scores(asked).tolist() == whole.scores(asked).tolist()
    assert result[:2] == [0, 1]


def test_product_of_few_shoppers_has_no_own_parameters() -> None:
    vectors, histories = _given()
    alone = Histories.of(
        [*[histories.products[histories.of_shopper(each)].tolist() for each in range(60)], [EACH - 1, 0]]
    )
    tower = fit(vectors, alone, replace(TINY, epochs=1, least_shoppers=2))
    assert EACH - 1 not in tower.learned.rows
    assert EACH - 1 in fit(vectors, alone, replace(TINY, epochs=1)).learned.rows


def test_newest_product_is_known_without_an_improving_epoch(tmp_path: Path) -> None:
    vectors, histories = _given()
    newest = EACH - 1  # no other shopper chose it
    late = Histories.of(
        [*[histories.products[histories.of_shopper(each)].tolist() for each in range(60)], *([[0, newest]] * 3)],
        times=[*[[float(each)] * 6 for each in range(60)], *([[50.0, 100.0]] * 3)],
    )
    judged: list[Epoch] = []
    tower = fit(vectors, late, replace(TINY, epochs=1, learning_rate=3.0), work=Run(tmp_path, judged=judged.append))
    assert judged[1].validation < judged[0].validation
    assert newest in tower.learned.rows


def test_non_finite_loss_stops_training() -> None:
    vectors, histories = _given()
    with pytest.raises(TrainingError, match="epoch 1"):
        fit(vectors, histories, replace(TINY, learning_rate=1e30))


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        (Histories.of([[1]] * 100), "0 shoppers did two things"),
        (Histories.of([[1, 2]] * 19), "at least 20"),
        (Histories.of([]), "0 shoppers"),
        (Histories.of([[1, 10_000]] * 30), "row 10,000; there are 48 vectors"),
    ],
)
def test_too_little_data_is_refused(histories: Histories, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fit(catalog()[0], histories, TINY)
