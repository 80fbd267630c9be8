"""Killed writers of events: no acknowledged event is lost, and none is stored twice."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.stored import StoredEvent
from tests.faults.event_writers import counted, measure_event_faults, sent_event
from tests.machine import fork_context


@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_no_acknowledged_event_is_lost_and_none_is_doubled(tmp_path: Path, rounds: int) -> None:
    result = measure_event_faults(tmp_path, rounds, 11, fork_context())
    assert result.acknowledged > rounds
    assert (result.lost, result.doubled, result.altered, result.broken_days) == (0, 0, 0, 0)
    assert result.acknowledged <= result.stored <= result.sent


def found(folder: Path, events: list[StoredEvent], acknowledged: set[bytes]) -> tuple[int, int, int, int, int]:
    with closing(SqliteEvents(folder)) as store:
        store.append(events)
    result = counted(folder, len(events), acknowledged)
    return result.stored, result.lost, result.doubled, result.altered, result.broken_days


def test_the_harness_reports_lost_and_altered_events(tmp_path: Path) -> None:
    keys = [bytes(15) + bytes([at]) for at in range(4)]
    events = [sent_event(key) for key in keys[:3]]
    assert found(tmp_path / "whole", events, set(keys[:3])) == (3, 0, 0, 0, 0)
    events[1] = events[1]._replace(product_id="p2")
    events[2] = events[2]._replace(position=None)
    assert found(tmp_path / "harmed", events, set(keys)) == (3, 1, 0, 2, 0)


def test_round_without_started_writers_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "no folder"
    file.touch()
    with pytest.raises(AssertionError, match="before it wrote anything"):
        measure_event_faults(file, 1, 11, fork_context())
