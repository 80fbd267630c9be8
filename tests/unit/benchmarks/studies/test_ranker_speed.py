"""The time of the last stage is told of every system, on the same candidates."""

from __future__ import annotations

import pytest

from benchmarks.latency import title_queries
from benchmarks.studies.ranker_speed import ATTENTION, HEAD, HISTORY, measure_ranker_speed, show_ranker_speed
from retrieval.errors import TrainingError
from service.engine.engine import SearchEngine


def test_every_system_is_timed_on_the_same_candidates(engine: SearchEngine, capsys: pytest.CaptureFixture[str]) -> None:
    counted: list[int] = []
    report = measure_ranker_speed(engine.snapshot, title_queries(engine, 30), None, counted.append)
    assert sum(counted) == report.queries > 10
    assert set(report.systems) == {HEAD, ATTENTION, HISTORY}
    assert all(each.graph_p50 > 0 and 0 < each.p50 <= each.p99 for each in report.systems.values())
    assert report.systems[HEAD].megabytes < report.systems[ATTENTION].megabytes < 8
    show_ranker_speed(report)
    assert f"{report.systems[HISTORY].p50:.2f}" in capsys.readouterr().out


def test_without_a_query_there_is_nothing_to_time(engine: SearchEngine) -> None:
    with pytest.raises(TrainingError, match="no query has 100 candidates"):
        measure_ranker_speed(engine.snapshot, [], None)
