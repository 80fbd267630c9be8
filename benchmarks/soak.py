"""An hour, or as long as one likes, of everything at once: searches, suggestions, live changes, events and rebuilds.

The service is killed at the end, and started anew to see whether what it had acknowledged is there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.http_server import served
from benchmarks.soak_ledger import Row, write_edition
from benchmarks.soak_load import Load, Rates, Slice
from indexer.build import RebuildOptions, rebuild

_SETTLED = 0.25
"""The share of the time after which memory should grow no more: caches are full by then."""


@dataclass(frozen=True, slots=True)
class SoakReport:
    """What a service did under a mixed load; the last five must be 0."""

    products: int
    minutes: float
    slices: tuple[Slice, ...]
    swaps: int
    changes: int
    """Acknowledged, as are the events."""
    events: int
    growth: float
    """Megabytes of memory of its own an hour, by least squares over the time after the first quarter."""
    failures: int
    """Requests that were answered with 500, or not at all."""
    mixed_pages: int
    stale_reads: int
    lost_changes: int
    lost_events: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing was lost, mixed or left unanswered."""
        return not any((self.failures, self.mixed_pages, self.stale_reads, self.lost_changes, self.lost_events))


def soak(
    rows: Sequence[Row],
    folder: Path,
    options: Callable[[Path], RebuildOptions],
    queries: Sequence[str],
    *,
    minutes: float,
    swap_minutes: float,
    rates: Rates,
    advance: Callable[[int], None],
) -> SoakReport:
    """Builds a feed in `folder`, and serves it for so long; `advance` is told of each second."""
    index = folder / "index"
    rebuild(index, options(write_edition(folder, rows, 0)))
    settings = {"SHELFWISE_SERVICE__FEEDS": str(folder)}
    with served(index, settings) as server:
        load = Load(server, folder, rows, queries, rates)
        asyncio.run(load.run(minutes * 60, swap_minutes * 60, advance))
        server.kill()
    with served(index, settings) as server:
        lost_changes, lost_events = load.ledger.lost_changes(server.address), load.ledger.lost_events(server.address)
    statuses = sum((Counter(each.statuses) for each in load.slices), Counter[str]())
    return SoakReport(
        len(rows),
        minutes,
        tuple(load.slices),
        load.swaps,
        load.ledger.changes,
        len(load.ledger.events),
        _growth(load.memory, _SETTLED * minutes * 60),
        sum(count for status, count in statuses.items() if status == "500" or not status.isdecimal()),
        load.ledger.mixed,
        load.ledger.stale,
        lost_changes,
        lost_events,
    )


def _growth(memory: Sequence[tuple[float, float]], start: float) -> float:
    """Megabytes an hour, of samples (seconds, megabytes) from `start` on."""
    settled = np.array([each for each in memory if each[0] >= start])
    return float(np.polyfit(settled[:, 0] / 3600, settled[:, 1], 1)[0]) if len(settled) > 1 else float("nan")
