"""The external sort of all feeds' products by id, against Python's sort."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shelfwise.indexer.external_sort
from shelfwise.indexer.external_sort import ExternalSorter


def spooled(folder: Path, ids: list[str], run_bytes: int) -> ExternalSorter:
    spool = ExternalSorter(folder, run_bytes=run_bytes)
    for number, product_id in enumerate(ids):
        spool.add(product_id.encode(), f"line {number}".encode(), number % 3, number + 5_000_000_000)
    return spool


@given(ids=st.lists(st.text("aé中-1", min_size=1, max_size=3), max_size=60), run_bytes=st.integers(1, 300))
def test_products_are_sorted_by_id_and_arrival(
    ids: list[str], run_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spool = spooled(tmp_path_factory.mktemp("spool"), ids, run_bytes)
    left = list(spool.sorted())
    numbered = sorted((product_id.encode(), number) for number, product_id in enumerate(ids))
    assert [(entry.id, entry.number) for entry in left] == numbered
    for entry in left:
        line = f"line {entry.number}".encode()
        assert (entry.line, entry.file, entry.row) == (line, entry.number % 3, entry.number + 5_000_000_000)
    assert len(spool) == len(ids)
    assert list(spool.sorted()) == left, "it can be read again"


def test_many_sorted_runs_are_merged_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfwise.indexer.external_sort, "MOST_RUNS", 4)
    ids = [f"{number * 37 % 101:03d}" for number in range(101)]
    spool = spooled(tmp_path, ids, run_bytes=1)
    assert len(list(tmp_path.iterdir())) <= 5
    assert [entry.id.decode() for entry in spool.sorted()] == sorted(ids)
