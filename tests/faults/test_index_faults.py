"""Kills, full disks, unreadable files and flipped bits in one index: it serves a whole version with every change."""

from __future__ import annotations

from pathlib import Path

from tests.faults.index_faults import run_faults

ROUNDS = 50
SEED = 11


def test_whatever_happens_to_it_the_index_serves_a_whole_version_with_every_acknowledged_change(tmp_path: Path) -> None:
    over: list[None] = []
    report = run_faults(tmp_path, ROUNDS, SEED, lambda: over.append(None))
    assert report.failures == ()
    assert report.rounds == len(over) == sum(sum(counted.values()) for counted in report.counts.values()) == ROUNDS
    assert {fault for counted in report.counts.values() for fault in counted} == {
        "killed by the clock",
        "killed at a step",
        "full disk",
        "unreadable file",
        "flipped byte",
    }
    assert report.killed >= 10
    assert report.refused >= 1
    assert report.changes > ROUNDS
