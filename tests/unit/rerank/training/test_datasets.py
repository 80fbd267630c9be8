"""Candidate lists and batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.ranker.features import HAS_STATES, PADDING
from shelfwise.rerank.training.datasets import CandidateLists, ListData, drop_states, shuffled_batches
from tests.unit.rerank.training.teacher_lists import teacher_data


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
