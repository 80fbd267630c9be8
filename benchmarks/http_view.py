"""What `shelfwise bench http` shows."""

from __future__ import annotations

from benchmarks.http_load import HttpReport
from benchmarks.tables import plain_table
from service.terminal import out


def show_http(report: HttpReport) -> None:
    """A line for each load."""
    title = f"{report.products:,} products; {report.capacity:.0f} searches a second at most"
    table = plain_table(["", "a second", "requests", "answers", "p50 ms", "p99 ms", "refused within, p99 ms"], title)
    for load in report.loads:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in load.statuses.items())
        refused = "" if load.refused_p99 is None else f"{load.refused_p99:.1f}"
        table.add_row(
            load.kind, f"{load.rate:.0f}", f"{load.requests:,}", statuses, f"{load.p50:.1f}", f"{load.p99:.1f}", refused
        )
    out.print(table)
