"""Candidate lists: taken and thinned without mixing queries up."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rerank.training.datasets import CandidateLists


def _lists(lengths: list[int]) -> CandidateLists:
    count = sum(lengths)
    return CandidateLists(
        tuple(f"query {number}" for number in range(len(lengths))),
        np.cumsum([0, *lengths]),
        np.arange(count, dtype=np.int64),
        np.arange(count, dtype=np.float32)[:, None],
    )


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 9), st.integers(0, 5))
def test_thinned_lists_keep_their_head_their_order_and_at_most_so_many(
    lengths: list[int], most: int, seed: int
) -> None:
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


def test_a_querys_draw_does_not_depend_on_the_others() -> None:
    lists = _lists([40, 30, 35])
    alone = CandidateLists(lists.queries[2:], np.array([0, 35]), lists.rows[70:], lists.features[70:])
    assert lists.sample(10, 3).rows[20:].tolist() == alone.sample(10, 3).rows.tolist()
    assert lists.sample(10, 3).rows.tolist() != lists.sample(10, 4).rows.tolist()


def test_each_candidate_knows_its_query() -> None:
    lists = _lists([2, 0, 3])
    assert lists.offsets.tolist() == [0, 2, 2, 5]
    assert lists.query_of.tolist() == [0, 0, 2, 2, 2]
