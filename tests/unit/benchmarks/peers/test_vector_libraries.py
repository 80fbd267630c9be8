"""`shelfwise bench vectors`: the serving library on a demo store, the figures of libraries, and wrong names."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.benchmarks.peers.vectors import (
    SERVED,
    LibraryFigures,
    Point,
    VectorsOptions,
    VectorsReport,
    choose_libraries,
    measure_vectors,
    milliseconds_at,
    show_vectors,
    write_vector_plots,
)
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.progress import NullProgress
from tests.unit.service.cli import commands


def figures(library: str, *points: tuple[float, float, float]) -> LibraryFigures:
    made = tuple(Point(share, 100, recall, p50, p50) for share, recall, p50 in points)
    return LibraryFigures(library, {}, 1.0, 1, 1, made)


def test_the_serving_library_is_measured_once_and_stored(demo_index: Path, tmp_path: Path) -> None:
    options = VectorsOptions(demo_index, tmp_path / "out", [SERVED], tmp_path / "cache", queries=20)
    report = measure_vectors(options, NullProgress())
    (served,) = report.libraries
    assert (report.products, report.queries, report.k) == (600, 20, 100)
    assert [point.share for point in served.points] == [1.0, 0.1, 0.01]
    assert all(point.recall == 1 and point.p50 > 0 for point in served.points), "600 vectors are scanned"
    assert served.bytes > 600 * report.dimension and served.resident > served.bytes
    assert measure_vectors(options, NullProgress()).libraries == report.libraries, "read, not measured again"
    assert all(path.stat().st_size for path in write_vector_plots(report, tmp_path))


def test_the_least_time_at_a_recall_counts() -> None:
    found = figures("a", (1.0, 0.9, 1.0), (1.0, 0.97, 3.0), (1.0, 0.96, 2.0), (0.1, 0.99, 0.5))
    assert milliseconds_at(found, 1.0, 0.95) == 2.0
    assert milliseconds_at(found, 1.0, 0.99) is None
    assert milliseconds_at(found, 0.01, 0.5) is None


def test_libraries_that_are_ahead_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    ours = figures(SERVED, (1.0, 0.97, 2.0), (0.1, 1.0, 1.0))
    other = figures("other", (1.0, 0.96, 0.5), (1.0, 0.995, 4.0), (0.1, 0.4, 9.0))
    show_vectors(VectorsReport(10, 2, 3, 100, {}, (ours, other)))
    shown = capsys.readouterr().out
    first, second, *_ = shown.splitlines()
    assert first == "other reaches a recall of 0.95, in 4.0 times less time"
    assert second == "other reaches a recall of 0.99, and what serves does not"
    assert "no filter" in shown and "at most 0.400" in shown


def test_an_unknown_library_is_refused(demo_index: Path, tmp_path: Path) -> None:
    assert choose_libraries("usearch, hnswlib") == [SERVED, "usearch", "hnswlib"]
    with pytest.raises(SettingError, match="--libraries: 'annoy' is not a library; it can be FAISS as served, "):
        commands.run("bench", "vectors", demo_index, "--out", tmp_path, "--libraries", "annoy")
