"""The report of a run of `shelfwise learn` in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shelfwise.rerank.ranker.spec import MERGED, NAIVE, NEW, SERVED, OrderResult
from shelfwise.retrieval.html_report import measure_text, printable, seconds_text
from shelfwise.service.reports.training import LearnReport, RunDecision, Stage, StageOutcome
from shelfwise.service.training.click_dataset import FirstHits

_ORDERS: Mapping[str, str] = {MERGED: "merged order", SERVED: "served before", NAIVE: "raw clicks", NEW: "new ranker"}
HEADLINES: Mapping[RunDecision, str] = {
    RunDecision.SERVES: "A better ranker serves",
    RunDecision.SWITCHED_OFF: "A better ranker is ready; rankers are switched off",
    RunDecision.REJECTED: "The new ranker is rejected",
    RunDecision.REFUSED: "No ranker was trained",
}


def order_name(order: str) -> str:
    """The display name of an order."""
    return _ORDERS.get(order, order)


def show_learned(report: LearnReport, file: Path, index: Path, console: Console) -> None:
    """Prints a short form of the report."""
    console.print(Text(HEADLINES[report.decision], style="bold"))
    for sentence in report.summary:
        console.print(Text(printable(sentence)))
    console.print()
    console.print(_steps(report))
    if report.findings and report.findings.orders:
        console.print()
        console.print(_order_rows(report.findings.orders))
    if report.findings and report.findings.examples:
        console.print()
        console.print(_example_rows(report.findings.examples))
    console.print()
    if report.removed:
        console.print(Text(f"Removed the oldest models: {', '.join(report.removed)}"), soft_wrap=True)
    if report.decision is RunDecision.SERVES and report.against.startswith("ranker-"):
        undo = f"{report.against} is kept; to go back to it: shelfwise models rollback {index}"
        console.print(Text(undo), soft_wrap=True)
    console.print(Text(f"Full report: {file}"), soft_wrap=True)


def show_waiting(new: int, needed: int, console: Console) -> None:
    """Prints that there are too few new events to train on."""
    console.print(Text(f"Nothing to learn yet: {new:,} new events since the last run, {needed:,} are needed."))


def _steps(report: LearnReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("step", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("summary")
    for stage in report.stages:
        table.add_row(stage.name, seconds_text(stage.seconds) if stage.steps else "", Text(_did(stage)))
    return table


def _did(stage: Stage) -> str:
    """Summaries of the stage's steps, one line each, or its outcome."""
    lines = [f"{'' if step.name == stage.name else f'{step.name}: '}{step.did}" for step in stage.steps if step.did]
    if not lines or stage.outcome is StageOutcome.STOPPED:
        lines.append(stage.outcome.value)
    return "\n".join(map(printable, lines))


def _example_rows(examples: Sequence[FirstHits]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("query", "first hits before", "with the new ranker"):
        table.add_column(name, overflow="fold")
    for each in examples:
        columns = (each.query,), each.before, each.after
        table.add_row(*(Text("\n".join(map(printable, column))) for column in columns), end_section=True)
    return table


def _order_rows(orders: Sequence[OrderResult]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("order", "nDCG@10", "95%"):
        table.add_column(name, justify="left" if name == "order" else "right", no_wrap=True)
    for each in orders:
        interval = f"{measure_text(each.low)} to {measure_text(each.high)}"
        table.add_row(order_name(each.order), measure_text(each.ndcg), interval)
    return table
