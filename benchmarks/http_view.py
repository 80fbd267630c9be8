"""What `shelfwise bench http` and `shelfwise bench soak` show."""

from __future__ import annotations

from benchmarks.http_load import HttpReport
from benchmarks.soak import SoakReport
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


def show_soak(report: SoakReport) -> None:
    """A line for each slice of the time, then what was lost, which should be nothing."""
    title = f"{report.products:,} products, {report.minutes:g} minutes"
    table = plain_table(["minute", "answers", "p50 ms", "p99 ms", "version", "MB", "of its own"], title)
    for each in report.slices:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in each.statuses.items())
        own = "" if each.own_megabytes is None else f"{each.own_megabytes:,.0f}"
        spent = f"{each.p50:.1f}", f"{each.p99:.1f}"
        table.add_row(f"{each.until:g}", statuses, *spent, each.version, f"{each.megabytes:,.0f}", own)
    out.print(table)
    out.print(
        f"{report.swaps} rebuilds were swapped in; {report.changes:,} changes and {report.events:,} events were "
        f"acknowledged; memory of its own grew by {report.growth:+.1f} MB an hour after the first quarter"
    )
    wrong = {
        "requests failed": report.failures,
        "pages were of two versions": report.mixed_pages,
        "reads did not show a change": report.stale_reads,
        "changes were lost": report.lost_changes,
        "events were lost": report.lost_events,
    }
    out.print("; ".join(f"{count:,} {what}" for what, count in wrong.items()))
