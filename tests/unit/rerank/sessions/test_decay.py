"""Decay by age."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.sessions.decay import day_decay, exact_sum
from rerank.sessions.options import Window

WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 31, 12, tzinfo=UTC))


def test_a_day_counts_half_after_a_half_life_and_today_in_full() -> None:
    days = pl.DataFrame({"day": [WINDOW.last_day, WINDOW.last_day - 14, WINDOW.last_day - 28]})
    decayed = days.select(decay=day_decay(WINDOW, 14))
    assert decayed["decay"].to_list() == pytest.approx([1, 0.5, 0.25])


@given(st.lists(st.floats(0, 1e6), max_size=50), st.randoms())
def test_a_sum_is_the_same_in_any_order_and_near_that_of_the_amounts(amounts: list[float], random: object) -> None:
    shuffled = list(amounts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    frames = (pl.DataFrame({"amount": values}, schema={"amount": pl.Float64}) for values in (amounts, shuffled))
    one, other = (frame.select(exact_sum(pl.col("amount"))).item() for frame in frames)
    assert one == other
    assert one == pytest.approx(sum(amounts), abs=1e-6 * (1 + len(amounts)))
