"""Requests at a fixed rate to a real service, and the report of the responses."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.benchmarks.commands import show_http
from shelfwise.benchmarks.load import measure_http, serve_index
from shelfwise.retrieval.errors import StoreError


@pytest.mark.slow
def test_every_request_of_a_load_is_counted(demo_index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with serve_index(demo_index) as server:
        report = measure_http(
            server.address, ["drill", "hammer", "laptop bag"], rate=20, seconds=1, advance=lines.append
        )
    assert report.products == 600
    assert report.capacity > 0
    assert len(lines) == 5
    for load in report.loads:
        assert sum(load.statuses.values()) == load.requests
        assert set(load.statuses) <= {"200", "503"}
        assert 0 < load.p50 <= load.p99
    assert report.loads[0].statuses == {"200": 20}
    show_http(report)
    assert "600 products" in capsys.readouterr().out


def test_service_that_does_not_start_raises(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="did not start"), serve_index(tmp_path):
        pass
