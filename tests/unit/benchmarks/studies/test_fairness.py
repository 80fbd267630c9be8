"""`python -m benchmarks.studies.fairness`: a key that floods a real service does not reduce another key's searches."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.load import serve_index
from benchmarks.studies.fairness import batch_requests, measure_contention
from service.http.auth import KEYS_FILE, KeyFile, Scope, new_key


@pytest.mark.slow
def test_search_is_not_refused_during_the_largest_batches(demo_index: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(demo_index, tmp_path / "index"))
    heavy, light = (new_key(name, (Scope.ADMIN,), now=datetime.now(UTC)) for name in ("heavy", "light"))
    for _, stored in (heavy, light):
        KeyFile(index / KEYS_FILE).add(stored)
    with serve_index(index) as server:
        for kind in batch_requests():
            found = asyncio.run(measure_contention(server.address, kind, (heavy[0], light[0]), 8, 4))
            assert found.batches
            assert "503" not in found.searches
            assert found.searches["200"]
