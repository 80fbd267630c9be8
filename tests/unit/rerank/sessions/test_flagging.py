"""Which days' sessions are scored together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.sessions.partitions import Day, DayFacts, stretches


def day(number: int, sessions: int) -> Day:
    return Day(number, Path(str(number)), DayFacts(0, sessions, 0, {}, 0, "", 0))


def numbers(days: list[list[Day]]) -> list[list[int]]:
    return [[each.number for each in stretch] for stretch in days]


@pytest.mark.parametrize(
    ("together", "expected"),
    [
        (10, [[15], [16], [17], [18], [20]]),
        (15, [[15], [16, 17], [18], [20]]),
        (40, [[15], [16, 17, 18], [20]]),
        (41, [[15, 16, 17, 18, 20]]),
    ],
)
def test_stretches_are_powers_of_two_of_days_at_their_multiples(together: int, expected: list[list[int]]) -> None:
    # 60 sessions in 6 days: 10 a day.
    days = [day(number, 12) for number in (15, 16, 17, 18, 20)]
    assert numbers(stretches(days, together)) == expected


@given(st.dictionaries(st.integers(20_000, 20_200), st.integers(0, 50)), st.integers(1, 1_000))
def test_every_day_is_in_one_stretch_in_its_order(sessions: dict[int, int], together: int) -> None:
    days = [day(number, sessions[number]) for number in sorted(sessions)]
    assert [each for stretch in stretches(days, together) for each in stretch] == days


def test_a_day_more_leaves_the_stretches_before_it_as_they_are() -> None:
    days = [day(number, 10) for number in range(32, 60)]
    before, after = stretches(days[:-1], 40), stretches(days, 40)
    assert numbers(after)[: len(before) - 1] == numbers(before)[:-1]
