"""The quality report in the terminal: the scores, and the findings by severity and count with an example of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from indexer.quality.findings import Example
from indexer.quality.report import Finding, QualityReport, ReasonCount
from indexer.quality.rules import Severity
from retrieval.html_report import share_text
from service.cli.output import out, shown

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_MOST_COUNTS = 8


def show_quality(report: QualityReport, console: Console = out) -> None:
    """Prints a report in as many columns as the terminal has, 80 at least."""
    console.print(_scores(report))
    console.print()
    if report.findings:
        console.print(_findings(report.findings, console.width))
    else:
        console.print("No rule found anything." if report.products else "There is no product to judge.")
    counted = {"set aside": _numbers(report.rejected), "dropped": _numbers(report.noted), "cleaned": report.cleaned}
    for line in filter(None, (_line(label, counts) for label, counts in counted.items())):
        console.print(Text(line))


def _scores(report: QualityReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left", title_style="")
    table.title = Text(f"{report.products:,} products of {report.read:,} rows read")
    table.add_column("measure")
    table.add_column("score", justify="right")
    table.add_column("errors", justify="right")
    table.add_column("warnings", justify="right")
    table.add_column("infos", justify="right")
    for score in report.scores:
        found = [finding for finding in report.findings if finding.measure is score.measure]
        counts = (sum(one.count for one in found if one.severity is severity) for severity in Severity)
        table.add_row(
            score.measure.value, share_text(score.score), *(f"{count:,}" if count else "" for count in counts)
        )
    return table


def _findings(findings: tuple[Finding, ...], width: int) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("finding", no_wrap=True)
    table.add_column("products", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    room = max(40, width - 20)
    for finding in findings:
        name = Text(finding.severity.value.ljust(9), style=_COLOURS[finding.severity])
        name.append(shown(finding.says), style="default")
        name.truncate(room, overflow="ellipsis")
        if finding.examples:
            example = Text(f"{' ' * 9}{_example(finding.examples[0])}", style="dim")
            example.truncate(room, overflow="ellipsis")
            name.append("\n").append_text(example)
        table.add_row(name, f"{finding.count:,}", share_text(finding.share))
    return table


def _example(example: Example) -> str:
    return shown(f"{Path(example.file).name}:{example.line} {example.id}: {example.value or example.title}")


def _numbers(counted: Mapping[str, ReasonCount]) -> dict[str, int]:
    return {name: each.count for name, each in counted.items()}


def _line(label: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    parts = [f"{shown(name)} {count:,}" for name, count in list(counts.items())[:_MOST_COUNTS]]
    more = f", {len(counts) - _MOST_COUNTS} more" if len(counts) > _MOST_COUNTS else ""
    return f"{label}: {', '.join(parts)}{more}"
