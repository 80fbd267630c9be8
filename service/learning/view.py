"""The report in a terminal: what was decided, the steps, what each order reaches, where the page is."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.learning.report import Decision, LearnReport
from service.learning.steps import Outcome, Stage
from service.learning.words import headline, measure, order_name, seconds
from service.terminal import out, show_notices, shown


def show_learned(report: LearnReport, page: Path, index: Path, console: Console = out) -> None:
    """Prints a report in short."""
    console.print(Text(headline(report), style="bold"))
    for sentence in report.summary:
        console.print(Text(shown(sentence)))
    console.print()
    console.print(_steps(report))
    if report.findings and report.findings.orders:
        console.print()
        console.print(_orders(report))
    console.print()
    show_notices(tuple(map(shown, report.notices)))
    if report.removed:
        console.print(Text(f"Removed, being the oldest: {', '.join(report.removed)}"), soft_wrap=True)
    if report.decision is Decision.SERVES and report.against.startswith("ranker-"):
        undo = f"{report.against} is kept; to go back to it: shelfwise models rollback --index {index}"
        console.print(Text(undo), soft_wrap=True)
    console.print(Text(f"The whole report: {page}"), soft_wrap=True)


def show_waiting(new: int, needed: int, console: Console = out) -> None:
    """Why nothing was done."""
    console.print(Text(f"Nothing to learn yet: {new:,} events are new since the last time, {needed:,} are needed."))


def _steps(report: LearnReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("step", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("what it did")
    for stage in report.stages:
        time = seconds(stage.seconds) if stage.steps else ""
        table.add_row(stage.name, time, Text(_did(stage)))
    return table


def _did(stage: Stage) -> str:
    """What each of its steps did, a line for each."""
    told = [f"{'' if step.name == stage.name else f'{step.name}: '}{step.did}" for step in stage.steps if step.did]
    if not told or stage.outcome is Outcome.STOPPED:
        told.append(stage.outcome.value)
    return "\n".join(map(shown, told))


def _orders(report: LearnReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("order", "nDCG@10", "95%"):
        table.add_column(name, justify="left" if name == "order" else "right", no_wrap=True)
    for each in report.findings.orders if report.findings else ():
        table.add_row(order_name(each.order), measure(each.ndcg), f"{measure(each.low)} to {measure(each.high)}")
    return table
