"""An index under killed processes, full disks and damaged files; and the harness, which reports a lost change."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from tests.faults.index_faults import FAULTS, Life, Tally, UnexpectedStateError, check_index, check_verified, run_faults
from tests.faults.processes import write_encoder

ROUNDS, SEED = 50, 11


def test_lost_acknowledged_change_is_reported(tmp_path: Path) -> None:
    encoders = [write_encoder(tmp_path / name, name, size) for name, size in (("one", 16), ("two", 24))]
    life = Life(tmp_path / "life", encoders, Tally())
    life.begin(random.Random(1))
    check_verified(life.root)
    for name in (JOURNAL, COPY):
        (life.root / name).unlink()
    with pytest.raises(UnexpectedStateError, match=r"products are wrong: p\d+ is "):
        check_index(life.root, [life.truth], random.Random(1))


@pytest.mark.slow
def test_index_serves_a_whole_version_with_all_acknowledged_changes_after_faults(tmp_path: Path) -> None:
    report = run_faults(tmp_path, ROUNDS, SEED)
    assert report.faults.total() == ROUNDS
    assert report.faults.keys() == set(FAULTS)
    assert report.killed >= ROUNDS // 5
    assert report.refused >= ROUNDS // 50
    assert report.changes > ROUNDS
