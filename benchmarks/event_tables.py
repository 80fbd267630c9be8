"""The tables of the commands that measure what becomes of shoppers' events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.tables import plain_table
from service.terminal import out

if TYPE_CHECKING:
    from benchmarks.event_faults import EventFaults
    from benchmarks.event_writes import EventWrites


def show_event_writes(measured: Sequence[EventWrites]) -> None:
    """Ways of writing by speed."""
    table = plain_table(["way", "writers", "events", "events a second", "p50 ms", "p99 ms"], "")
    for each in measured:
        speed = (f"{each.per_second:,.0f}", f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}")
        table.add_row(each.way, str(each.writers), f"{each.events:,}", *speed)
    out.print(table)


def show_event_faults(measured: EventFaults) -> None:
    """What became of the events."""
    table = plain_table(
        ["kills", "sent", "acknowledged", "stored", "lost", "doubled", "altered", "miscounted", "seconds"], ""
    )
    counts = (measured.rounds, measured.sent, measured.acknowledged, measured.stored)
    faults = (measured.lost, measured.doubled, measured.altered, measured.broken_days)
    table.add_row(*(f"{count:,}" for count in (*counts, *faults)), f"{measured.seconds:.1f}")
    out.print(table)
