"""Datasets of rankers, their losses and the scores of their lists."""

from __future__ import annotations

import dataclasses
import math
from math import log2
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import Qrel, ScoredDoc
from scipy.special import expit, logit
from torch import Tensor

from shelfwise.rerank.ranker.features import HAS_STATES, PADDING
from shelfwise.rerank.ranker.network import RankerNetwork
from shelfwise.rerank.ranker.onnx_export import example_inputs
from shelfwise.rerank.training.click_training import labelled_loss
from shelfwise.rerank.training.datasets import (
    CandidateLists,
    ListBatch,
    ListData,
    drop_states,
    full_batches,
    shuffled_batches,
)
from shelfwise.rerank.training.list_scores import fit_calibration, ndcg, scores_of
from shelfwise.rerank.training.losses import distillation, list_softmax, propensities, unbiased_gains
from tests.unit.rerank.training.teacher_lists import SHAPE, teacher_data


def _lists(lengths: list[int]) -> CandidateLists:
    count = sum(lengths)
    return CandidateLists(
        tuple(f"query {number}" for number in range(len(lengths))),
        np.cumsum([0, *lengths]),
        np.arange(count, dtype=np.int64),
        np.arange(count, dtype=np.float32)[:, None],
        np.zeros(count, np.float32),
    )


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 9), st.integers(0, 5))
def test_sampled_lists_keep_head_order_and_limit(lengths: list[int], most: int, seed: int) -> None:
    lists = _lists(lengths)
    thinned = lists.sample(most, seed)
    assert thinned.queries == lists.queries
    assert thinned.lengths.tolist() == [min(length, most) for length in lengths]
    for number, length in enumerate(lengths):
        rows = thinned.rows[thinned.place(number)].tolist()
        assert rows == sorted(set(rows))
        assert set(rows) <= set(lists.rows[lists.place(number)].tolist())
        head = length if length <= most else most // 2
        assert rows[:head] == lists.rows[lists.place(number)].tolist()[:head]
    assert thinned.features[:, 0].tolist() == thinned.rows.tolist()


LENGTHS = [3, 0, 12, 1, 5]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ListData:
    return teacher_data(tmp_path_factory.mktemp("states"), LENGTHS)


def test_each_candidate_has_its_features_its_tokens_and_its_target(data: ListData) -> None:
    batch = data.batch([2, 0], dropped=0.0, seed=1)
    assert batch.is_candidate.sum(dim=1).tolist() == [12, 3]
    for at, number in enumerate((2, 0)):
        place, count = data.lists.place(number), LENGTHS[number]
        assert batch.is_candidate[at, :count].all()
        np.testing.assert_array_equal(batch.targets[at, :count], data.targets[place])
        np.testing.assert_array_equal(batch.inputs.features[at, :count], data.lists.features[place])
        products = data.states.gather(data.lists.rows[place])
        tokens = products.ids.shape[1]
        np.testing.assert_array_equal(batch.inputs.product_ids[at, :count, :tokens], products.ids)
        np.testing.assert_array_equal(batch.inputs.product_states[at, :count, :tokens], products.states)
        np.testing.assert_array_equal(batch.inputs.query_ids[at], data.queries[number].ids)
        np.testing.assert_array_equal(batch.inputs.query_idf[at], data.states.idf[data.queries[number].ids])
    assert not batch.targets[1, 3:].any()


def test_epoch_has_every_list_once_in_its_own_order(data: ListData) -> None:
    numbers = np.array([0, 2, 3, 4])
    orders = []
    for seed in (1, 1, 2):
        batches = list(shuffled_batches(data, numbers, lists=3, dropped=0.0, seed=seed))
        assert [len(batch.targets) for batch in batches] == [3, 1]
        counts = [int(count) for batch in batches for count in batch.is_candidate.sum(dim=1)]
        assert sorted(counts) == [1, 3, 5, 12]
        orders.append(counts)
    assert orders[0] == orders[1] != orders[2]


def test_dropped_states_clear_tokens_and_the_flag(data: ListData) -> None:
    batch, kept = data.batch([2], dropped=0.5, seed=3), data.batch([2], dropped=0.0, seed=3)
    has_tokens = (batch.inputs.product_ids >= 0).any(dim=-1)[0]
    had_tokens = (kept.inputs.product_ids >= 0).any(dim=-1)[0]
    assert 0 < has_tokens.sum() < had_tokens.sum()
    assert torch.equal(batch.inputs.features[0, :, HAS_STATES] > 0, has_tokens)
    assert not batch.inputs.product_states[0][~has_tokens].any()
    others = [column for column in range(batch.inputs.features.shape[2]) if column != HAS_STATES]
    assert torch.equal(batch.inputs.features[..., others], kept.inputs.features[..., others])
    # The lists are unchanged for the next epoch.
    again = data.batch([2], dropped=0.0, seed=3)
    assert torch.equal(again.inputs.product_states, kept.inputs.product_states)
    assert torch.equal(again.inputs.features, kept.inputs.features)


def test_products_without_states_have_only_padding(data: ListData) -> None:
    products = data.states.gather(np.arange(4))
    found = drop_states(products, np.array([False, True, False, True]))
    assert found.has_any.tolist() == [True, False, True, False]
    assert (found.ids[1] == PADDING).all()
    assert not found.states[[1, 3]].any()
    np.testing.assert_array_equal(found.states[0], products.states[0])


def of(scores: list[float], gains: list[float]) -> float:
    found = ndcg(np.array(scores), np.array(gains, np.float32), np.array([len(gains)]))
    return float(found[0])


def test_equal_scores_keep_their_order() -> None:
    assert of([0, 0, 0], [0, 0, 1]) == pytest.approx(1 / log2(4))


def test_lists_without_gains_or_candidates_have_no_measure() -> None:
    found = ndcg(np.array([1.0, 2.0, 5.0]), np.array([0, 0, 2], np.float32), np.array([2, 0, 1]))
    assert found.tolist() == [0, 0, 1]


scored = st.tuples(st.integers(-1_000, 1_000), st.integers(0, 4))


@given(st.lists(scored, min_size=1, max_size=15, unique_by=lambda pair: pair[0]))
def test_measure_equals_the_reference_implementation(pairs: list[tuple[int, int]]) -> None:
    scores, gains = [float(score) for score, _ in pairs], [gain for _, gain in pairs]
    judged = [Qrel("q", str(place), gain) for place, gain in enumerate(gains)]
    run = [ScoredDoc("q", str(place), score) for place, score in enumerate(scores)]
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, run)[ir_measures.nDCG @ 10]
    assert of(scores, list(map(float, gains))) == pytest.approx(expected, abs=1e-6)


def test_scores_are_weighted_events_in_candidate_order(tmp_path: Path) -> None:
    data = teacher_data(tmp_path, [3, 9, 1, 0, 4])
    torch.manual_seed(2)
    network, numbers = RankerNetwork(SHAPE), np.array([1, 2, 4])
    network.train()
    found = scores_of(network, full_batches(data, numbers, lists=2), (0.5, 2.0, -1.0))
    assert not network.training
    alone = []
    for number in numbers.tolist():
        with torch.inference_mode():
            (scores,) = network(*data.batch([number], 0.0, 0).inputs).numpy()
        alone.append(scores @ np.array([0.5, 2.0, -1.0], np.float32))
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-4, atol=1e-5)
    clicks = scores_of(network, full_batches(data, numbers))
    np.testing.assert_allclose(clicks, scores_of(network, full_batches(data, numbers), (1.0, 0.0, 0.0)))
    assert not np.allclose(clicks, scores_of(network, full_batches(data, numbers), (0.0, 1.0, 0.0)))
    assert scores_of(network, full_batches(dataclasses.replace(data), np.empty(0, np.int64))).shape == (0,)


SCORES = np.random.default_rng(2).normal(3.0, 2.0, 2_000)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, -2.0), (2.5, -6.0)])
def test_calibration_curve_is_recovered(slope: float, intercept: float) -> None:
    found = fit_calibration(SCORES, expit(slope * SCORES + intercept))
    assert found == pytest.approx((slope, intercept), rel=0.01, abs=0.01)


def test_separable_labels_give_a_steep_finite_curve() -> None:
    slope, intercept = fit_calibration(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert expit(slope * np.array([2.0, 2.5, 3.0]) + intercept) == pytest.approx([0, 0.5, 1], abs=0.01)


@pytest.mark.parametrize(
    ("scores", "probabilities", "mean"),
    [
        ([], [], 0.5),
        ([3.0], [0.9], 0.9),
        ([2.0, 2.0, 2.0], [0.1, 0.2, 0.6], 0.3),
        ([1.0, 2.0, 3.0], [0.4, 0.4, 0.4], 0.4),
        ([1.0, 2.0], [1.0, 1.0], 1 - 1e-4),
        ([1.0, 2.0], [0.0, 0.0], 1e-4),
    ],
    ids=["none", "one", "one score", "one probability", "all fit", "none fits"],
)
def test_constant_labels_give_the_mean(scores: list[float], probabilities: list[float], mean: float) -> None:
    found = fit_calibration(np.array(scores), np.array(probabilities))
    assert found == pytest.approx((0, logit(mean)))


_ALL = torch.ones(1, 3, dtype=torch.bool)


def test_list_softmax_is_the_cross_entropy_of_the_gains() -> None:
    scores, gains = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[3.0, 1.0, 0.0]])
    total = math.exp(1) + math.exp(0) + math.exp(-1)
    expected = -(3 / 4) * math.log(math.exp(1) / total) - (1 / 4) * math.log(math.exp(0) / total)
    assert list_softmax(scores, gains, _ALL).item() == pytest.approx(expected, rel=1e-5)


def test_query_without_gains_does_not_change_the_mean() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0], [5.0, 0.0, 0.0]])
    gains = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    both = list_softmax(scores, gains, _ALL.expand(2, 3))
    assert both.item() == pytest.approx(list_softmax(scores[:1], gains[:1], _ALL).item())


def test_distillation_is_the_divergence_and_a_tenth_of_the_squared_margins() -> None:
    scores, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    first = math.exp(1) / (math.exp(1) + 1)
    divergence = first * math.log(first / 0.5) + (1 - first) * math.log((1 - first) / 0.5)
    squared = ((0 - 1) ** 2 + (0 + 1) ** 2) / 2
    expected = 2.0**2 * divergence + 0.1 * squared
    assert distillation(scores, teacher, _ALL[:, :2]).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [distillation, list_softmax])
def test_padding_changes_no_loss_and_gets_no_gradient(loss: object) -> None:
    scores = torch.tensor([[1.0, 0.5, 9.0]], requires_grad=True)
    targets = torch.tensor([[0.2, 0.9, 5.0]])
    is_candidate = torch.tensor([[True, True, False]])
    padded = loss(scores, targets * is_candidate, is_candidate)  # type: ignore[operator]
    alone = loss(scores[:, :2], targets[:, :2], is_candidate[:, :2])  # type: ignore[operator]
    assert padded.item() == pytest.approx(alone.item(), rel=1e-5)
    padded.backward()
    assert scores.grad is not None
    assert scores.grad[0, 2].item() == 0.0


CLICKS = (1.0, 0.0, 0.0)
STUDENT_SCORES = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.2, 9.0]])[..., None].expand(2, 3, 3)
"""Scores of two lists; the second has only two candidates."""


def three(values: list[list[float]]) -> Tensor:
    return torch.tensor(values)[..., None].expand(-1, -1, 3).clone()


BATCH = ListBatch(
    inputs=example_inputs(SHAPE),
    is_candidate=torch.tensor([[True, True, True], [True, True, False]]),
    targets=three([[0.6, 0.2, 0.0], [0.0, 0.5, 0.0]]),
    weights=torch.tensor([1.0, 0.5]),
)


def entropy(wanted: float, *others: float) -> float:
    return math.log(sum(math.exp(each) for each in (wanted, *others))) - wanted


def test_labelled_loss_is_the_cross_entropy_of_the_gains_by_the_weights_of_queries() -> None:
    first = 0.75 * entropy(1.0, 0.0, -1.0) + 0.25 * entropy(0.0, 1.0, -1.0)
    expected = (1.0 * first + 0.5 * entropy(0.2, 0.5)) / 1.5
    assert labelled_loss(STUDENT_SCORES, BATCH, CLICKS).item() == pytest.approx(expected, rel=1e-5)


def test_event_kinds_are_summed_by_weight() -> None:
    alone = labelled_loss(STUDENT_SCORES, BATCH, CLICKS)
    assert labelled_loss(STUDENT_SCORES, BATCH, (1.0, 0.5, 0.25)).item() == pytest.approx(1.75 * alone.item())


def test_no_acts_give_zero_loss_and_finite_gradient() -> None:
    scores = STUDENT_SCORES.clone().requires_grad_()
    nothing = dataclasses.replace(BATCH, targets=torch.zeros(2, 3, 3))
    loss = labelled_loss(scores, nothing, CLICKS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_propensity_is_bounded_below() -> None:
    assert propensities(np.array([1.0, 0.4, 0.01, np.nan]), 0.1).tolist() == [1.0, 0.4, 0.1, 0.1]


def test_acts_are_weighted_by_examination() -> None:
    pairs = np.array([[0, 1], [1, 0], [0, -1]], np.int32)
    acts = np.zeros((3, 2, 3), np.bool_)
    acts[0, 1, 0] = acts[1, 0, 0] = acts[1, 0, 1] = acts[2, 0, 0] = True
    gains = unbiased_gains(pairs, acts, np.array([1.0, 0.25]), np.array([1.0, 3.0, 5.0]), 3)
    # Pair 0 was shown three times and clicked once, first; pair 1 twice: clicked second, and clicked and carted first.
    mean = (1 + 1 + 1 + 3) / (3 + 2 * 0.25)
    expected = [(1 + 2 * mean) / (1 + 0.25 + 1 + 2), (1 + 1 + 3 + 2 * mean) / (0.25 + 1 + 2), math.nan]
    assert gains.tolist() == pytest.approx(expected, nan_ok=True)
