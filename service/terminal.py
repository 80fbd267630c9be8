"""What the commands show in a terminal: progress, tables of hits, facets and reports. The only place that prints."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from retrieval.layout import QUALITY_PAGE

if TYPE_CHECKING:
    from indexer.build import RebuildReport
    from indexer.moving import MoveReport
    from indexer.reencoding import ReencodeReport

out = Console()
err = Console(stderr=True)


class ProgressLines:
    """Draws a rebuild: a bar while a phase runs, one line of what it did when it is over. Writes to standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<13}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task: TaskID | None = None
        self._phase = ""

    def __enter__(self) -> ProgressLines:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """Starts a bar."""
        self._phase = phase
        self._task = self._progress.add_task(phase, total=total, unit=unit)

    def advance(self, amount: int) -> None:
        """Moves the bar."""
        if self._task is not None:
            self._progress.advance(self._task, amount)

    def end(self, summary: str) -> None:
        """Replaces the bar by a line."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        err.print(f"[green]✓[/] {self._phase:<13} ", Text(summary), sep="")


def show_error(message: str) -> None:
    """One line to standard error."""
    err.print(Text("error: ", style="bold red"), Text(message), sep="", soft_wrap=True)


def show_notices(notices: tuple[str, ...]) -> None:
    """What is wrong although an answer was possible."""
    for notice in notices:
        err.print(Text("warning: ", style="bold yellow"), Text(notice), sep="", soft_wrap=True)


def write_json(encoded: bytes) -> None:
    """One JSON document to standard output, in UTF-8 whatever the terminal speaks."""
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded + b"\n")
    sys.stdout.buffer.flush()


def show_report(report: RebuildReport, index: Path) -> None:
    """The summary of a rebuild."""
    table = Table.grid(padding=(0, 2))
    table.add_row("products", f"{report.products:,} of {report.read:,} rows read")
    if report.changes is not None:
        made = report.changes
        table.add_row("changes", f"+{made.added:,} ~{made.changed:,} -{made.removed:,} since {made.before}")
    if report.live:
        table.add_row("live changes", f"{report.live:,} stand over what the feed says")
    table.add_row("set aside", _counted(report.rejected) or "none")
    if report.noted:
        table.add_row("values dropped", _counted(report.noted))
    if report.cleaned:
        table.add_row("cleaned", _counted(report.cleaned))
    found = ", ".join(f"{count:,} {severity}{'s' if count != 1 else ''}" for severity, count in report.findings.items())
    table.add_row("quality", f"{found or 'no findings'}; see {index / QUALITY_PAGE}")
    table.add_row("encoder", report.encoder)
    table.add_row("vectors", f"{report.encoded:,} encoded, {report.reused:,} reused")
    table.add_row(
        "token states", f"{report.token_states:,}" if report.token_states else "none: this encoder gives none"
    )
    seconds = ", ".join(f"{phase} {spent:.1f}" for phase, spent in report.seconds.items())
    table.add_row("seconds", f"{sum(report.seconds.values()):.1f} ({seconds})")
    table.add_row("size", f"{report.bytes / 1e6:,.1f} MB")
    out.print(table)
    if report.published:
        out.print(f"[bold]{report.version}[/] is published and serves.")
    else:
        out.print(f"Nothing changed since [bold]{report.version}[/], which serves on.")


def show_move(report: MoveReport) -> None:
    """What a move did."""
    where = "in the index directory" if report.backend == "embedded" else "in Elasticsearch"
    if report.published:
        out.print(f"[bold]{report.version}[/] is published and serves: {report.products:,} products, {where}.")
    elif report.restored:
        out.print(f"[bold]{report.version}[/] serves on; what the cluster had lost of it is there again.")
    else:
        out.print(f"[bold]{report.version}[/] serves on: it is {where} already.")


def show_reencoded(report: ReencodeReport) -> None:
    """What encoding by another encoder did."""
    if not report.published:
        out.print(f"[bold]{report.version}[/] serves on: its vectors are by {escape(report.encoder)} already.")
        return
    out.print(
        f"[bold]{report.version}[/] is published and serves: {report.products:,} products by {escape(report.encoder)}, "
        f"{report.encoded:,} texts encoded in {report.seconds:,.0f} s."
    )


def plain_table(*names: str, right: Collection[str] = ()) -> Table:
    """A table without lines, its columns named; those in `right` hold numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left")
    return table


def shown(text: str) -> str:
    """Text from a feed as a terminal may see it: without control characters, which could do anything there."""
    return "".join("\ufffd" if unicodedata.category(character) == "Cc" else character for character in text)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())
