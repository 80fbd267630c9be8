"""Timed writes of events end with an error if a writer dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.benchmarks.studies.events import measure_event_writes


def test_killed_writer_ends_the_measurement(tmp_path: Path) -> None:
    (tmp_path / "processes").touch()
    with pytest.raises(AssertionError, match="a writer did not start"):
        measure_event_writes(tmp_path, writers=2, events=1)
