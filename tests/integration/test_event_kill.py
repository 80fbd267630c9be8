"""Writers of events that are killed: nothing that was acknowledged is lost, and nothing is there twice."""

from __future__ import annotations

from pathlib import Path

from benchmarks.studies.events import measure_event_faults
from tests.forks import fork_context


def test_no_acknowledged_event_is_lost_and_none_is_doubled(tmp_path: Path) -> None:
    result = measure_event_faults(tmp_path, rounds=10, seed=11, context=fork_context())
    assert result.acknowledged > 10
    assert (result.lost, result.doubled, result.altered, result.broken_days) == (0, 0, 0, 0)
    assert result.acknowledged <= result.stored <= result.sent
