"""The window of the derived tables after a pause without events."""

from __future__ import annotations

import numpy as np
import pytest

from service.training.derived_tables import last_full_day


@pytest.mark.parametrize(
    ("active", "expected"),
    [
        ([], (None, 0)),
        ([700], (700, 0)),
        (list(range(100, 142)), (141, 0)),
        ([*range(100, 142), 700], (141, 1)),
        ([*range(100, 142), *range(700, 715)], (141, 15)),
        ([*range(100, 142), *range(700, 721)], (720, 0)),
        ([*range(100, 142), 150, 200], (200, 0)),
    ],
    ids=["no events", "one day", "six weeks", "one event after a pause", "two weeks", "half a window", "a short pause"],
)
def test_a_few_days_after_a_long_pause_do_not_replace_a_full_window(
    active: list[int], expected: tuple[int | None, int]
) -> None:
    assert last_full_day(np.array(active, np.int64), 180) == expected
