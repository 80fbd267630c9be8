"""Training of a small tower: learned preferences, resuming, scores of new products, refused inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shelfwise.rerank.training.trainer import Epoch, Run
from shelfwise.rerank.user_tower.held_out_acts import HeldOutActs, hit_rate, ranks_of
from shelfwise.rerank.user_tower.histories import Histories, TextPlaces, certainty
from shelfwise.rerank.user_tower.item_neighbours import (
    NO_NEIGHBOURS,
    NeighbourOptions,
    WeightedNeighbours,
    find_neighbours,
)
from shelfwise.rerank.user_tower.tower import UserTower
from shelfwise.rerank.user_tower.user_tower_training import UserTowerOptions, choose_prior, fit
from shelfwise.retrieval.errors import TrainingError
from tests.progress import KilledError, killed_at
from tests.unit.rerank.user_tower.small_stores import EACH, KINDS, TINY, catalog, shoppers

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
    near = HeldOutActs(Histories.of([[row - 1] for row in new.tolist()]), new, np.arange(len(new)))
    prior = choose_prior(alone, near, hide_seen=True)
    assert prior > 0
    mixing = UserTower(learned.encode, learned.catalog, replace(learned.learned, prior=prior))
    before, after = (hit_rate(ranks_of(each, near, hide_seen=True), 5).mean() for each in (alone, mixing))
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


def test_non_finite_vectors_and_mismatched_sizes_are_refused() -> None:
    vectors, histories = _given()
    with pytest.raises(ValueError, match="width of 15"):
        fit(vectors, histories, UserTowerOptions(width=15))
    vectors[3, 3] = np.nan
    with pytest.raises(TrainingError, match="not finite"):
        fit(vectors, histories, TINY)


def _given() -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], Histories]:
    torch.manual_seed(99)
    return catalog()[0], shoppers()
