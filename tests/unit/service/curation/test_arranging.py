"""Pinned rows woven into an order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.search import PinnedRow, weave

PINS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 15)), max_size=6, unique_by=lambda pin: pin[0])


def woven(rows: list[int], pins: list[tuple[int, int]], leading: int = 0) -> list[int]:
    asked = [PinnedRow(row, position, "r") for row, position in pins]
    return [int(row) for row in weave(np.array(rows, dtype=np.int64), asked, leading)]


def test_a_pinned_row_stands_at_its_place() -> None:
    assert woven([1, 2, 3, 4], [(4, 2)]) == [1, 4, 2, 3]
    assert woven([1, 2, 3, 4], [(1, 4), (4, 1)]) == [4, 2, 3, 1]


def test_of_two_that_want_one_place_the_later_takes_the_next() -> None:
    assert woven([1, 2, 3, 8, 9], [(9, 1), (8, 1), (3, 2)]) == [9, 8, 3, 1, 2]


def test_what_leads_is_not_moved() -> None:
    assert woven([1, 2, 3, 4], [(4, 1)], leading=1) == [1, 4, 2, 3]
    assert woven([1, 2, 3, 4], [(4, 3)], leading=1) == [1, 2, 4, 3]


def test_a_place_behind_the_last_row_is_the_last() -> None:
    assert woven([1, 2, 3], [(1, 50), (2, 40)]) == [3, 2, 1]
    assert woven([], [(7, 3)]) == [7]


@given(st.integers(0, 12), PINS, st.integers(0, 3))
def test_weaving_is_filling_free_places(count: int, pins: list[tuple[int, int]], leading: int) -> None:
    rows = [row for row in range(count) if row >= leading]
    pins = [(row, position) for row, position in pins if row >= leading]
    first = list(range(100, 100 + leading))
    slots: dict[int, int] = dict(enumerate(first, 1))
    for row, position in pins:
        slots[next(place for place in range(position, 99) if place not in slots)] = row
    others = [row for row in rows if row not in dict(pins)]
    expected: list[int] = []
    while others or slots:
        place = len(expected) + 1
        if place in slots:
            expected.append(slots.pop(place))
        elif others:
            expected.append(others.pop(0))
        else:
            expected.append(slots.pop(min(slots)))
    assert woven(first + rows, pins, leading) == expected
