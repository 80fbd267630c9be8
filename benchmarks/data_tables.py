"""The tables of the commands that measure how data comes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.tables import plain_table
from service.terminal import out

if TYPE_CHECKING:
    from benchmarks.defects import DefectScore
    from benchmarks.faults import FaultReport
    from benchmarks.freshness import Freshness
    from benchmarks.incremental import Build
    from benchmarks.reading import Reading


def show_reading(measured: Sequence[Reading]) -> None:
    """Sizes by speed and memory."""
    table = plain_table(
        ["rows", "MB", "seconds", "rows a second", "processor us a row", "peak MB", "a worker's MB"], ""
    )
    for each in measured:
        spent = f"{each.processor_seconds / each.rows * 1e6:.0f}"
        memory = (f"{each.peak_megabytes:.0f}", f"{each.worker_megabytes:.0f}")
        speed = (f"{each.seconds:.1f}", f"{each.rows_per_second:,.0f}")
        table.add_row(f"{each.rows:,}", f"{each.bytes / 1e6:,.0f}", *speed, spent, *memory)
    out.print(table)


def show_rebuilds(measured: Sequence[Build]) -> None:
    """Builds by time, as shares of the first."""
    table = plain_table(["rebuild", "products", "encoded", "seconds", "of the first", "seconds by phase"], "")
    for each in measured:
        phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in each.phases.items())
        share = f"{each.seconds / measured[0].seconds:.2%}"
        table.add_row(each.label, f"{each.products:,}", f"{each.encoded:,}", f"{each.seconds:.1f}", share, phases)
    out.print(table)


def show_freshness(measured: Freshness) -> None:
    """Where a change is found, by how long it took."""
    title = (
        f"{measured.changes:,} prices changed beside {measured.searches_per_second:.0f} searches a second "
        f"(p99 {measured.search_p99:.1f} ms)"
    )
    table = plain_table(["found by", "p50 ms", "p99 ms", "longest ms"], title)
    table.add_row("the engine that took it", *(f"{each:.1f}" for each in measured.here))
    table.add_row("an engine of another process", *(f"{each:.1f}" for each in measured.elsewhere))
    out.print(table)


def show_defects(score: DefectScore) -> None:
    """How many kinds were told, which were not, and what was said of clean rows."""
    out.print(f"{score.found} of {score.kinds} planted kinds of defect are told, in a feed of {score.rows:,} rows")
    out.print(f"missed: {', '.join(score.missed) or 'none'}")
    out.print(f"said of the clean half: {', '.join(score.false_findings) or 'nothing'}")


def show_faults(report: FaultReport) -> None:
    """Rounds by work and fault, and each failure with how to repeat it."""
    names = sorted({fault for counted in report.counts.values() for fault in counted})
    table = plain_table(["rounds", *names], "")
    for work, counted in sorted(report.counts.items()):
        table.add_row(work, *(f"{counted.get(fault, 0):,}" for fault in names))
    out.print(table)
    harmed = ", ".join(f"{target} {count:,}" for target, count in sorted(report.harmed.items()))
    out.print(f"harmed at rest: {harmed or 'nothing'}")
    out.print(
        f"{report.rounds:,} rounds in {report.seconds:,.0f} s: {report.killed:,} processes killed at work, "
        f"{report.refused:,} refusals, {report.changes:,} acknowledged changes, {len(report.failures):,} failures"
    )
    for failure in report.failures:
        out.print(f"round {failure.round:,}: {failure.work}, {failure.fault}, {failure.detail}: {failure.wrong}")
        out.print(f"  on a new index: shelfwise bench faults --rounds 1 --seed {failure.seed}")
