"""A batch of lists: padded, cut, and never without a place to reduce over."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rerank.ranker.features import MOST_QUERY_TOKENS, PADDING, RankerInputs, pad_batch
from rerank.ranker.network import Inputs
from tests.unit.rerank.ranker.random_candidates import STATE_DIMENSION, candidates
from tests.versions import DIMENSION


def test_the_network_takes_the_arrays_in_their_order() -> None:
    assert tuple(field.name for field in dataclasses.fields(RankerInputs)) == Inputs._fields
    assert tuple(pad_batch([candidates(1)], DIMENSION).arrays()) == Inputs._fields


def test_each_list_is_in_its_place_and_padding_behind_it() -> None:
    lists = [candidates(2, words=3, tokens=4, events=1), candidates(5, words=1, tokens=6, events=3)]
    batch = pad_batch(lists, DIMENSION)
    for place, each in enumerate(lists):
        count, words, events = len(each.features), len(each.query.ids), len(each.history.kinds)
        tokens = each.products.ids.shape[1]
        for found, given, inside in (
            (batch.query_ids, each.query.ids, (words,)),
            (batch.query_states, each.query.states, (words,)),
            (batch.query_idf, each.query_idf, (words,)),
            (batch.product_ids, each.products.ids, (count, tokens)),
            (batch.product_states, each.products.states, (count, tokens)),
            (batch.features, each.features, (count,)),
            (batch.candidate_vectors, each.vectors, (count,)),
            (batch.history_vectors, each.history.vectors, (events,)),
            (batch.history_kinds, each.history.kinds, (events,)),
            (batch.history_gaps, each.history.gaps, (events,)),
        ):
            filled = tuple(slice(length) for length in inside)
            np.testing.assert_array_equal(found[place][filled], given)
            outside = found[place].copy()
            padding = PADDING if np.issubdtype(found.dtype, np.int64) else 0
            outside[filled] = padding
            assert (outside == padding).all()


def test_a_query_of_ten_thousand_words_is_cut() -> None:
    whole = candidates(3, words=10_000)
    batch = pad_batch([whole], DIMENSION)
    assert batch.query_ids.shape == (1, MOST_QUERY_TOKENS)
    np.testing.assert_array_equal(batch.query_ids[0], whole.query.ids[:MOST_QUERY_TOKENS])
    np.testing.assert_array_equal(batch.query_states[0], whole.query.states[:MOST_QUERY_TOKENS])


@pytest.mark.parametrize("count", [0, 1])
def test_every_axis_has_a_place(count: int) -> None:
    batch = pad_batch([candidates(count, words=0, tokens=0)], DIMENSION)
    assert {length for array in batch.arrays().values() for length in array.shape} == {
        1,
        STATE_DIMENSION,
        DIMENSION,
        batch.features.shape[2],
    }
    assert {array.item() for array in (batch.query_ids, batch.product_ids, batch.history_kinds)} == {PADDING}


def test_where_nobody_looks_at_a_history_vectors_are_left_out() -> None:
    without = dataclasses.replace(candidates(3), vectors=np.empty((3, 0), np.float32))
    assert not pad_batch([without], DIMENSION).candidate_vectors.any()
