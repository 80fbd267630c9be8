"""Training on shoppers' histories: preferences are learned, noise is not, and only earlier acts count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import ACT_KINDS
from shelfwise.rerank.ranker.network import HistoryAttention, NetworkShape, RankerNetwork
from shelfwise.rerank.training.click_training import new_attention, replace_attention, single_displays_loss
from shelfwise.rerank.training.datasets import full_batches
from shelfwise.rerank.training.history_training import (
    Acts,
    HistoryData,
    HistoryEvaluation,
    HistoryTraining,
    ShopperDisplays,
    split_by_shopper,
    train_history,
)
from shelfwise.rerank.training.list_scores import scores_of
from shelfwise.rerank.training.trainer import Epoch, Run
from shelfwise.retrieval.encoders.base import unit_rows
from tests.unit.rerank.training.teacher_lists import SHAPE, teacher_data

DEPTH, DIMENSION, PRODUCTS, BRANDS = 10, 32, 300, 6
CHANCES = 1 / np.arange(1, DEPTH + 1) ** 0.7
HOUR_MS = 3_600_000
_CLICK = ACT_KINDS.index("click")


@dataclass(frozen=True, slots=True, eq=False)
class Preferences:
    shown: ShopperDisplays
    past: Acts
    vectors: NDArray[np.float32]
    base: NDArray[np.float32]

    def data(self, displays: ShopperDisplays) -> HistoryData:
        return HistoryData(displays, self.past, np.arange(PRODUCTS), self.base, lambda rows: self.vectors[rows])

    def training(self) -> HistoryTraining:
        cut = len(self.shown) * 3 // 4
        before, after = self.shown.select(np.arange(cut)), self.shown.select(np.arange(cut, len(self.shown)))
        choosing, judging = (self.data(half) for half in split_by_shopper(after.informative(outputs=1)))
        judges = HistoryEvaluation(choosing, judging, np.clip(CHANCES, 0.1, 1), (1.0, 0.0, 0.0))
        return HistoryTraining(self.data(before.informative()), judges, (1.0, 0.5, 0.5))


def simulate_preferences(seed: int, *, preferences: bool, shoppers: int = 250, searches: int = 12) -> Preferences:
    rng = np.random.default_rng(seed)
    brands, likes = rng.integers(0, BRANDS, PRODUCTS), rng.integers(0, BRANDS, shoppers)
    named = unit_rows(rng.standard_normal((BRANDS, DIMENSION)).astype(np.float32))
    own = unit_rows(rng.standard_normal((PRODUCTS, DIMENSION)).astype(np.float32))
    base = (0.5 * rng.standard_normal((PRODUCTS, 3))).astype(np.float32)
    asks = rng.permutation(np.repeat(np.arange(shoppers), searches))
    places = np.stack([rng.choice(PRODUCTS, DEPTH, replace=False) for _ in asks])
    places = np.take_along_axis(places, np.argsort(-base[places, 0], axis=1), axis=1)
    wanted = np.where(brands[places] == likes[asks][:, None], 0.6, 0.1) if preferences else np.full(places.shape, 0.25)
    clicks = rng.random(places.shape) < CHANCES * wanted
    times = HOUR_MS * (1 + np.arange(len(asks)))
    past = _acts(asks, times, places, clicks)
    acts = np.repeat(clicks[:, :, None], 3, axis=2)
    shown = ShopperDisplays(asks, times, places, acts, *past.before(asks, times))
    return Preferences(shown, past, unit_rows(named[brands] + own), base)


def _acts(
    asks: NDArray[np.int64], times: NDArray[np.int64], places: NDArray[np.int64], clicks: NDArray[np.bool_]
) -> Acts:
    lists, positions = np.nonzero(clicks)
    shopper, when = asks[lists], times[lists] + 1_000 * positions
    order = np.lexsort((when, shopper))
    return Acts(shopper[order], places[lists, positions][order], np.full(len(order), _CLICK), when[order])


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def preferences() -> Preferences:
    return simulate_preferences(1, preferences=True)


def start() -> HistoryAttention:
    return new_attention(DIMENSION, seed=0)


class TestLearning:
    def test_preference_is_learned(self, preferences: Preferences, tmp_path: Path) -> None:
        training = preferences.training()
        curve: list[Epoch] = []
        attention = train_history(start(), training, Run(tmp_path, judged=curve.append))
        gain = training.judges.gain(attention)
        assert gain.low > 0.01
        assert max(epoch.validation for epoch in curve) > curve[0].validation + 0.03
        assert training.judges.validate(attention) == max(epoch.validation for epoch in curve)


class TestHistories:
    def test_history_contains_only_earlier_acts(self) -> None:
        times = np.array([10, 20, 30, 5, 20])
        past = Acts(np.array([0, 0, 0, 2, 2]), np.arange(5), np.ones(5, np.int64), times)
        shopper = np.array([0, 0, 0, 0, 1, 2, 2])
        first, behind = past.before(shopper, np.array([5, 10, 11, 99, 50, 20, 21]))
        found = [list(range(*each)) for each in zip(first.tolist(), behind.tolist(), strict=True)]
        assert found == [[], [], [0], [0, 1, 2], [], [3], [3, 4]]

    def test_displays_without_history_act_or_choice_are_skipped(self) -> None:
        past = Acts(np.array([0]), np.array([7]), np.array([1]), np.array([10]))
        places = np.array([[0, 1], [0, 1], [0, 1], [0, -1], [0, 1], [0, 1]])
        acts = np.zeros((6, 2, 3), np.bool_)
        acts[[0, 1, 3], 0, 0] = acts[4, 1, 1] = acts[5, 1, 2] = True
        zero, times = np.zeros(6, np.int64), np.array([9, 11, 12, 13, 14, 15])
        shown = ShopperDisplays(zero, times, places, acts, *past.before(zero, times))
        assert shown.informative().times.tolist() == [11, 14, 15]
        assert shown.informative(2).times.tolist() == [14, 15]
        assert shown.informative(outputs=1).times.tolist() == [11]

    def test_batch_has_the_history_of_each_display(self, preferences: Preferences) -> None:
        data = preferences.training().data
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
            result = batch.history_vectors[at][len(kinds) - count :].numpy()
            assert np.array_equal(result, preferences.vectors[data.past.rows[place]])

    def test_validation_and_test_shoppers_are_disjoint(self, preferences: Preferences) -> None:
        one, other = split_by_shopper(preferences.shown)
        assert len(one) + len(other) == len(preferences.shown)
        assert not set(one.shopper) & set(other.shopper)


def test_acts_are_weighted_by_inverse_examination() -> None:
    scores = torch.tensor([[[0.0], [1.0]], [[2.0], [0.0]]])
    acts = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]])
    chances = torch.tensor([1.0, 0.25])
    found = single_displays_loss(scores, torch.ones(2, 2, dtype=torch.bool), acts, chances, (1.0,))
    first, second = np.log(np.exp(0) + np.exp(1)) - 0, np.log(np.exp(2) + np.exp(0)) - 0
    assert found.item() == pytest.approx((1 * first + 4 * second) / (1 + 4))


def test_products_outside_the_display_are_no_choices() -> None:
    scores = torch.tensor([[[1.0], [9.0]]])
    is_candidate = torch.tensor([[True, False]])
    loss = single_displays_loss(scores, is_candidate, torch.tensor([[[1.0], [0.0]]]), torch.ones(2), (1.0,))
    assert loss.item() == pytest.approx(0, abs=1e-6)


class TestAttachedHistory:
    def test_history_attention_can_be_attached_and_detached(self) -> None:
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

    def test_lists_without_shoppers_are_scored_without_history(self, tmp_path: Path) -> None:
        data = teacher_data(tmp_path, [4, 3])
        torch.manual_seed(1)
        base, attention = RankerNetwork(SHAPE).eval(), start()
        with torch.no_grad():
            next(attention.score[-1].parameters()).add_(1.0)
        found = scores_of(replace_attention(base, attention), full_batches(data, np.arange(2)))
        assert np.array_equal(found, scores_of(base, full_batches(data, np.arange(2))))
