"""The rounds: one index lives through all of them, is hurt in each, and must be what it has to be afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.encoders import write_encoder
from benchmarks.faults.life import Life
from benchmarks.faults.processes import Processes
from benchmarks.faults.report import FaultReport, Tally


def run_faults(folder: Path, rounds: int, seed: int, advance: Callable[[], None]) -> FaultReport:
    """Runs rounds on an index in `folder`, which is empty; `advance` hears of each that is over.

    Round n, from 0, is drawn by the seed `seed + n`. After a failure the rounds go on with a new index; the one that
    failed stays where it is.
    """
    started, tally, life = time.monotonic(), Tally(), None
    encoders = [write_encoder(folder / "encoders" / name, name, size) for name, size in (("one", 16), ("two", 24))]
    with Processes() as processes:
        for number in range(rounds):
            if life is None:
                life = Life(folder / f"life-{number:05d}", encoders, processes, tally)
                life.begin(random.Random(seed + number))  # noqa: S311 - a benchmark, not a secret
            if not life.survives(seed + number, number + 1):
                life = None
            advance()
    return tally.report(rounds, time.monotonic() - started)
