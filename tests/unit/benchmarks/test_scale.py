"""Figures of catalogs by size: measured, stored, plotted, with a fitted line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from shelfwise.benchmarks.latency import measure_recall
from shelfwise.benchmarks.scale import RESULTS_FILE, SHARES, ScaleOptions, ScalePoint, fit, measure_scale, write_plots
from shelfwise.benchmarks.tables import show_scale
from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.index.vectors import NearestRows, Rows, StoredVectors, Vectors, create_vectors
from shelfwise.retrieval.progress import NullProgress
from tests.encoders import word_table


def point(count: int, resident: int) -> ScalePoint:
    recall = {"1": 1.0, "0.01": 0.5}
    seconds, sizes = {"read": 1.0, "encode": 2.0}, {"vectors": 3 * count, "words": count}
    return ScalePoint(
        "products", count, "exact", seconds, 2.5, sizes, resident, resident, recall, 1.0, 2.0, 100.0, 5.0, 0.5, {}
    )


def test_a_line_is_checked_against_the_size_that_it_is_not_fitted_to(capsys: pytest.CaptureFixture[str]) -> None:
    points = [point(4_000, 1_000), point(1_000, 300), point(2_000, 400)]
    line = fit(points, lambda each: each.resident)
    assert line is not None
    assert (line.base, line.slope, line.measured) == pytest.approx((200, 0.1, 1_000))
    assert line.predicted == pytest.approx(200 + 0.1 * 4_000)
    assert line.at(10_000) == pytest.approx(1_200)
    assert fit(points[:2], lambda each: each.resident) is None
    show_scale(points, (), hour_price=0.1)
    assert "100,000,000" in capsys.readouterr().out


class WorseHalf(StoredVectors):
    """A search that misses every second row."""

    def search(self, query: Vectors, limit: int, allowed: Rows | None = None) -> NearestRows:
        rows = np.arange(self.size) if allowed is None else allowed
        return super().search(query, limit, rows[rows % 2 == 0])


def test_recall_is_relative_to_a_scan(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors, queries = (random.normal(size=(count, 8)).astype(np.float32) for count in (4_000, 20))
    create_vectors(tmp_path, *vectors.shape)[:] = vectors
    exact = list(measure_recall(StoredVectors(tmp_path), vectors, queries, SHARES))
    assert [(each.share, each.allowed, each.recall) for each in exact] == [
        (1.0, 4_000, 1.0),
        (0.5, 2_000, 1.0),
        (0.1, 400, 1.0),
        (0.01, 40, 1.0),
    ]
    assert all(0.3 < each.recall < 0.7 for each in measure_recall(WorseHalf(tmp_path), vectors, queries, SHARES))


@pytest.mark.slow
def test_a_size_is_measured_once(cache: Path, tmp_path: Path) -> None:
    table = word_table(tmp_path / "table", cache)
    options = ScaleOptions(tmp_path / "scale", [300], [1_500], [2_000], str(table), cache, searches=100, workers=1)
    first = measure_scale(options, NullProgress())
    assert [(each.kind, each.count, each.index) for each in first] == [
        ("products", 300, "exact"),
        ("records", 1_500, "exact"),
        ("vectors", 2_000, "exact"),
    ]
    assert all(min(each.recall.values()) > 0.99 for each in first)
    assert all(0 < each.p50 <= each.p99 and 0 < each.opened < each.resident for each in first)
    assert first[0].bytes["products.jsonl"] > 100_000
    assert measure_scale(options, NullProgress()) == first
    plots = write_plots(first, options.folder)
    assert len(plots) == 18
    assert all(path.read_text("utf-8").startswith("<svg") for path in plots)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / RESULTS_FILE).write_bytes(msgspec.json.encode({"figures": 1}))
    with pytest.raises(StoreError, match=RESULTS_FILE):
        measure_scale(ScaleOptions(tmp_path, [], [], [], "", tmp_path), NullProgress())
