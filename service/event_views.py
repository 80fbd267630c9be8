"""What the commands for events show in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import polars as pl
from rich.table import Table
from rich.text import Text

from retrieval.events.stored import DAY_MS, moment
from service.terminal import ProgressLines, out, shown

if TYPE_CHECKING:
    from indexer.events.report import ImportReport
    from rerank.behaviour.refresh import Refreshed
    from retrieval.events.export import Exported
    from retrieval.events.pseudonyms import Pseudonyms
    from service.event_move import EventsMoved
    from service.forgetting import Forgotten
    from service.retention import Expired

_STEPS = {"days": "clean days", "robots": "find robots", "parts": "count days", "tables": "make tables"}


class BytesRead:
    """Draws how much of the logs is read."""

    def __init__(self, lines: ProgressLines) -> None:
        self._lines = lines
        self._done = 0
        self._is_drawn = False

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: int, total: int | None) -> None:
        """So many bytes of so many are read."""
        if not self._is_drawn:
            self._lines.begin("import", total, "bytes")
            self._is_drawn = True
        self._lines.advance(done - self._done)
        self._done = done

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_drawn and kind is None:
            self._lines.end(f"{self._done / 1e6:,.1f} MB read")


class StepsDone:
    """Draws the steps of a refresh, one after the other."""

    def __init__(self, lines: ProgressLines) -> None:
        self._lines = lines
        self._step = ""
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        """So much of a step is done, of so much."""
        if step != self._step:
            self._end()
            self._lines.begin(_STEPS.get(step, step), total, "")
            self._step, self._done = step, 0
        self._lines.advance(done - self._done)
        self._done = done

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end()

    def _end(self) -> None:
        if self._step:
            self._lines.end(f"{self._done:,} done")
            self._step = ""


def show_import(report: ImportReport, aside: Path) -> None:
    """What became of the rows of logs."""
    table = _grid()
    table.add_row("rows", f"{report.rows:,} in {report.seconds:.1f} s, {report.rows_per_second:,.0f} a second")
    table.add_row("events", f"{report.taken:,} new, {report.repeated:,} that were there already")
    if report.events:
        table.add_row("kinds", _counted(report.events))
    if report.first and report.last:
        table.add_row("time", f"{report.first:%Y-%m-%d %H:%M} to {report.last:%Y-%m-%d %H:%M} UTC")
    different = {"products": report.products, "shoppers": report.shoppers, "sessions": report.sessions}
    table.add_row("different", ", ".join(f"{name}: {_many(count)}" for name, count in different.items()))
    if report.skipped:
        table.add_row("left out", _counted(report.skipped))
    table.add_row("set aside", f"{report.set_aside:,}{f', see {aside}' if report.set_aside else ''}")
    for reason, each in report.aside.items():
        table.add_row("", shown(f"{each.count:,} x {reason}"))
        for example in each.examples[:2]:
            place = f"{Path(example.file).name} line {example.line:,}"
            table.add_row("", Text(shown(f"  {place}: {example.detail}"), style="dim", overflow="ellipsis"))
    for note in report.notes:
        table.add_row("note", shown(note))
    out.print(table)


def show_refresh(done: Refreshed, weights: pl.DataFrame) -> None:
    """What a refresh did, and what the acts of shoppers count for in the labels."""
    table = _grid()
    window = done.window
    table.add_row("window", f"{window.first:%Y-%m-%d} to {window.last:%Y-%m-%d %H:%M} UTC")
    table.add_row("days", f"{done.days_made:,} cleaned, {done.days_kept:,} as they were")
    table.add_row("events", f"{done.events:,} in {done.visits:,} visits")
    table.add_row("robots", f"{done.flagged_visits:,} visits with {done.flagged_clicks:,} clicks are left out")
    table.add_row("set aside", _counted(done.aside) or "none")
    if done.corrected:
        table.add_row("clocks", f"{done.corrected:,} events had their times put right")
    table.add_row("tables", _counted(done.tables))
    table.add_row("labels", _weighed(weights))
    table.add_row("seconds", f"{done.seconds:.1f}")
    out.print(table)


def _weighed(weights: pl.DataFrame) -> str:
    """The weights, as shares of their sum."""
    values = weights["weight"].to_list()
    whole = sum(values) or 1.0
    told = ", ".join(f"{name} {value / whole:.0%}" for name, value in zip(weights["signal"], values, strict=True))
    if weights["fitted"].all():
        return f"{told}: fitted to {weights['purchases'][0]:,} later purchases"
    return f"{told}: a convention, since {weights['purchases'][0]:,} later purchases are too few to fit to"


def show_export(exported: Exported, folder: Path) -> None:
    """The files that were written."""
    table = _grid()
    for name, count in exported.files.items():
        table.add_row(str(folder / name), f"{count:,} events")
    out.print(table if exported.files else "There are no events to export.")


def show_forgotten(done: Forgotten) -> None:
    """What was removed of a shopper, and whether anything is left."""
    table = _grid()
    table.add_row("removed", f"{done.events:,} events, {done.set_aside:,} rows that were set aside")
    table.add_row("left", f"{done.left_events:,} events, {done.left_rows:,} values in tables")
    found = ", ".join(done.found_in) if done.found_in else "in none of them"
    table.add_row("searched", f"{done.files:,} files; the shopper is {found}")
    out.print(table)
    if not done.events:
        out.print("No events of this shopper were found; is the name spelled as in the log?")
    out.print(
        Text("Nothing of this shopper is left.", style="green")
        if done.is_complete
        else Text("Something is left: end what still reads or writes these events, and do it again.", style="bold red")
    )


def show_expired(done: Expired) -> None:
    """What went for its age."""
    table = _grid()
    table.add_row("removed", f"{done.events:,} events from before {moment(done.before_day * DAY_MS):%Y-%m-%d}")
    if done.set_aside:
        table.add_row("", f"{done.set_aside:,} files of rows that imports set aside")
    if done.keys:
        table.add_row("keys", f"{', '.join(done.keys)}: no pseudonym is under them any more")
    out.print(table)


def show_rotation(name: str, pseudonyms: Pseudonyms) -> None:
    """The key that is used from now on."""
    *old, _ = pseudonyms.names
    kept = f"; {', '.join(old)} stay{'s' if len(old) == 1 else ''} until events under them are gone"
    out.print(f"Pseudonyms are made with {name} from now on{kept}. Back up {pseudonyms.path}.", soft_wrap=True)


def show_move(moved: EventsMoved, target: str) -> None:
    """How many events were moved."""
    already = f", {moved.repeated:,} were there already" if moved.repeated else ""
    out.print(f"{moved.moved:,} events were moved to {target}{already}.")


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    return table


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{shown(name)}: {count:,}" for name, count in counts.items())


def _many(count: int | None) -> str:
    return "very many" if count is None else f"{count:,}"
