"""Kills, full disks, unreadable files and flipped bits in one index: it serves a whole version with every change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.index_faults import run_faults

SEED = 11


@pytest.mark.parametrize("rounds", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_whatever_happens_to_it_the_index_serves_a_whole_version_with_every_acknowledged_change(
    tmp_path: Path, rounds: int
) -> None:
    over: list[None] = []
    report = run_faults(tmp_path, rounds, SEED, lambda: over.append(None))
    assert report.failures == []
    assert report.rounds == len(over) == sum(sum(counted.values()) for counted in report.counts.values()) == rounds
    faults = {fault for counted in report.counts.values() for fault in counted}
    kinds = {"killed by the clock", "killed at a step", "full disk", "unreadable file", "flipped byte"}
    assert faults == kinds if rounds == 50 else faults <= kinds
    assert report.killed >= rounds // 5
    assert report.refused >= rounds // 50
    assert report.changes > rounds
