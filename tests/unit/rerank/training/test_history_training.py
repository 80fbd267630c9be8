"""Training on shoppers' histories: a taste is learned, chance is not, and no act counts before it was done."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from rerank.ranker.features import MOST_ACTS
from rerank.ranker.network import HistoryAttention, NetworkShape, RankerNetwork
from rerank.training.click_training import new_attention, replace_attention, single_displays_loss
from rerank.training.datasets import full_batches
from rerank.training.evaluation import scores_of
from rerank.training.history_training import (
    Acts,
    HistoryOptions,
    HistoryTraining,
    ShopperDisplays,
    split_by_shopper,
    train_history,
)
from rerank.training.trainer import LoopOptions
from tests.unit.rerank.training.taste_displays import DIMENSION, World, world
from tests.unit.rerank.training.teacher_lists import SHAPE, taught

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tastes() -> World:
    return world(1, tastes=True)


def of_epochs(training: HistoryTraining, epochs: int) -> HistoryTraining:
    return dataclasses.replace(training, options=HistoryOptions(loop=LoopOptions(epochs=epochs, learning_rate=3e-3)))


def start() -> HistoryAttention:
    return new_attention(DIMENSION, seed=0)


class TestLearning:
    def test_a_taste_is_learned(self, tastes: World, tmp_path: Path) -> None:
        training = tastes.training()
        attention, curve = train_history(start(), training, tmp_path)
        gain = training.judges.gain(attention)
        assert gain.low > 0.01
        assert max(epoch.validation for epoch in curve) > curve[0].validation + 0.03
        assert training.judges.validate(attention) == max(epoch.validation for epoch in curve)

    def test_where_clicks_are_chance_nothing_is_gained(self, tmp_path: Path) -> None:
        for seed in range(3):
            training = world(seed, tastes=False).training()
            attention, _ = train_history(start(), training, tmp_path / str(seed))
            assert training.judges.gain(attention).low <= 0

    def test_untrained_it_changes_no_score(self, tastes: World) -> None:
        judges = tastes.training().judges
        gain = judges.gain(start())
        assert (gain.mean, gain.low, gain.high) == (0, 0, 0)

    def test_a_killed_training_ends_as_one_that_was_not(self, tastes: World, tmp_path: Path) -> None:
        training = of_epochs(tastes.training(), 3)
        whole, curve = train_history(start(), training, tmp_path / "whole")
        done = 0

        def killed(steps: int) -> None:
            nonlocal done
            done += steps
            if done == training.steps + 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_history(start(), training, tmp_path / "killed", killed)
        other, again = train_history(start(), training, tmp_path / "killed")
        assert again == curve
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in whole.state_dict().items())


class TestHistories:
    def test_only_what_was_done_before_a_list_is_its_history(self) -> None:
        times = np.array([10, 20, 30, 5, 20])
        past = Acts(np.array([0, 0, 0, 2, 2]), np.arange(5), np.ones(5, np.int64), times)
        shopper = np.array([0, 0, 0, 0, 1, 2, 2])
        first, behind = past.before(shopper, np.array([5, 10, 11, 99, 50, 20, 21]))
        found = [list(range(*each)) for each in zip(first.tolist(), behind.tolist(), strict=True)]
        assert found == [[], [], [0], [0, 1, 2], [], [3], [3, 4]]

    def test_the_newest_acts_count(self) -> None:
        count = MOST_ACTS + 30
        past = Acts(np.zeros(count, np.int64), np.arange(count), np.ones(count, np.int64), np.arange(count))
        first, behind = past.before(np.array([0, 0]), np.array([count, 60]))
        assert (first.tolist(), behind.tolist()) == ([30, 10], [count, 60])

    def test_without_any_act_there_is_no_history(self) -> None:
        nothing = np.empty(0, np.int64)
        first, behind = Acts(nothing, nothing, nothing, nothing).before(np.array([0, 3]), np.array([0, 7]))
        assert (first.tolist(), behind.tolist()) == ([0, 0], [0, 0])

    def test_displays_without_a_history_an_act_or_a_choice_tell_nothing(self) -> None:
        past = Acts(np.array([0]), np.array([7]), np.array([1]), np.array([10]))
        places = np.array([[0, 1], [0, 1], [0, 1], [0, -1], [0, 1], [0, 1]])
        acts = np.zeros((6, 2, 3), np.bool_)
        acts[[0, 1, 3], 0, 0] = acts[4, 1, 1] = acts[5, 1, 2] = True
        zero, times = np.zeros(6, np.int64), np.array([9, 11, 12, 13, 14, 15])
        shown = ShopperDisplays(zero, times, places, acts, *past.before(zero, times))
        assert shown.informative().times.tolist() == [11, 14, 15]
        assert shown.informative(2).times.tolist() == [14, 15]
        assert shown.informative(outputs=1).times.tolist() == [11]

    def test_a_batch_holds_each_displays_own_past(self, tastes: World) -> None:
        data = tastes.training().data
        numbers = np.array([0, len(data.displays) - 1])
        batch = data.batch(numbers)
        for at, number in enumerate(numbers.tolist()):
            place = slice(int(data.displays.first[number]), int(data.displays.behind[number]))
            count = place.stop - place.start
            kinds = batch.history_kinds[at]
            assert (kinds >= 0).sum() == count
            assert torch.equal(kinds[len(kinds) - count :], torch.from_numpy(data.past.kinds[place]))
            gaps = batch.history_gaps[at][len(kinds) - count :].numpy()
            assert gaps.tolist() == pytest.approx((data.displays.times[number] - data.past.times[place]) / 86.4e6)
            assert gaps.min() > 0
            told = batch.history_vectors[at][len(kinds) - count :].numpy()
            assert np.array_equal(told, tastes.vectors[data.past.rows[place]])

    def test_no_shopper_both_chooses_and_judges(self, tastes: World) -> None:
        one, other = split_by_shopper(tastes.shown)
        assert len(one) + len(other) == len(tastes.shown)
        assert not set(one.shopper) & set(other.shopper)


def test_acts_count_by_the_inverse_of_how_often_their_place_is_looked_at() -> None:
    scores = torch.tensor([[[0.0], [1.0]], [[2.0], [0.0]]])
    acts = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]])
    chances = torch.tensor([1.0, 0.25])
    found = single_displays_loss(scores, torch.ones(2, 2, dtype=torch.bool), acts, chances, (1.0,))
    first, second = np.log(np.exp(0) + np.exp(1)) - 0, np.log(np.exp(2) + np.exp(0)) - 0
    assert found.item() == pytest.approx((1 * first + 4 * second) / (1 + 4))


def test_what_does_not_stand_on_a_display_is_no_choice() -> None:
    scores = torch.tensor([[[1.0], [9.0]]])
    is_candidate = torch.tensor([[True, False]])
    loss = single_displays_loss(scores, is_candidate, torch.tensor([[[1.0], [0.0]]]), torch.ones(2), (1.0,))
    assert loss.item() == pytest.approx(0, abs=1e-6)


class TestJoining:
    def test_a_network_takes_an_attention_and_leaves_it(self) -> None:
        torch.manual_seed(1)
        base = RankerNetwork(NetworkShape(8, 0, 16, layers=1, feed_forward=8, hidden=8, history=0)).eval()
        attention = start()
        joined = replace_attention(base, attention)
        assert (joined.shape.history, joined.shape.vector_dimension) == (32, DIMENSION)
        assert joined.history is not None
        weights = attention.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in joined.history.state_dict().items())
        apart = replace_attention(joined, None)
        assert apart.history is None
        assert apart.shape == base.shape
        assert all(torch.equal(value, apart.state_dict()[name]) for name, value in base.state_dict().items())

    def test_lists_that_have_no_shoppers_are_scored_as_without_it(self, tmp_path: Path) -> None:
        data = taught(tmp_path, [4, 3])
        torch.manual_seed(1)
        base, attention = RankerNetwork(SHAPE).eval(), start()
        with torch.no_grad():
            next(attention.score[-1].parameters()).add_(1.0)
        found = scores_of(replace_attention(base, attention), full_batches(data, np.arange(2)))
        assert np.array_equal(found, scores_of(base, full_batches(data, np.arange(2))))
