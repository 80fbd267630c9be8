"""The benchmarks of recording can fail: what is lost or altered is told, and a writer that dies ends them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.studies.commands import ClickModelName
from benchmarks.studies.events import counted, measure_event_faults, measure_event_writes, sent_event
from rerank.click_models.registry import MODELS
from retrieval.events.sqlite import SqliteEvents
from retrieval.events.stored import StoredEvent
from tests.forks import fork_context


def found(folder: Path, events: list[StoredEvent], acknowledged: set[bytes]) -> tuple[int, int, int, int, int]:
    with closing(SqliteEvents(folder)) as store:
        store.append(events)
    result = counted(folder, 1, len(events), acknowledged, 1.0)
    return result.stored, result.lost, result.doubled, result.altered, result.broken_days


def test_lost_and_altered_events_are_told(tmp_path: Path) -> None:
    keys = [bytes(15) + bytes([at]) for at in range(4)]
    events = [sent_event(key) for key in keys[:3]]
    assert found(tmp_path / "whole", events, set(keys[:3])) == (3, 0, 0, 0, 0)
    events[1] = events[1]._replace(product_id="p2")
    events[2] = events[2]._replace(position=None)
    assert found(tmp_path / "harmed", events, set(keys)) == (3, 1, 0, 2, 0)


def test_a_round_whose_writers_do_not_begin_is_no_round(tmp_path: Path) -> None:
    file = tmp_path / "no folder"
    file.touch()
    with pytest.raises(AssertionError, match="before it wrote anything"):
        measure_event_faults(file, rounds=1, context=fork_context())


def test_a_writer_that_dies_ends_the_measurement(tmp_path: Path) -> None:
    (tmp_path / "processes").touch()
    with pytest.raises(AssertionError, match="a writer has not started"):
        measure_event_writes(tmp_path, writers=2, events=1)


def test_labels_can_be_made_with_every_click_model() -> None:
    assert set(get_args(ClickModelName)) == set(MODELS)
