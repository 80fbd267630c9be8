"""Output of commands: reports as tables or JSON, progress, notices and errors."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

import msgspec
from rich.console import Console
from rich.measure import Measurement
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

from shelfwise.retrieval.value_texts import printable

if TYPE_CHECKING:
    from shelfwise.retrieval.records import Product
    from shelfwise.retrieval.store.manifest import VersionChanges
    from shelfwise.service.engine.editors import Preview

Cell = str | int | float | datetime | Text | None
"""A cell of a table: floats have four decimals, times minutes; None is an empty cell."""
_NUMBER = re.compile(r"[-+]?[\d.,]+%?")

out = Console()
err = Console(stderr=True)
json_output: ContextVar[bool] = ContextVar("json_output", default=False)
"""Whether the running command was given --json."""


def emit(report: object, show: Callable[..., None], *context: object, document: object = None) -> None:
    """Prints a report: with --json as one document (`document`, if given, instead of the report), otherwise by
    `show(report, *context)`."""
    if json_output.get():
        write_json(msgspec.json.encode(report if document is None else document))
    else:
        show(report, *context)


def write_json(encoded: bytes) -> None:
    """Prints one JSON document to standard output, in UTF-8 whatever the terminal's encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded + b"\n")
    sys.stdout.buffer.flush()


def say(*parts: str | tuple[str, str], style: str = "", to: Console | None = None) -> None:
    """Prints one paragraph, by default to standard output; a part may be a pair of text and style."""
    (to or out).print(Text.assemble(*parts, style=style), soft_wrap=True)


def show_rows(names: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str = "", title: str = "") -> None:
    """Prints a table with numbers to the right; without rows, the sentence `empty`. Rows of a table without `names` are
    of equal length, and their values are not aligned."""
    cells = [[_cell(each) for each in row] for row in rows]
    if not cells:
        say(empty) if empty else None
        return
    table = Table(
        box=None,
        header_style="bold",
        pad_edge=False,
        show_header=bool(names),
        title=title or None,
        title_justify="left",
        title_style="",
    )
    for name, values in zip(names, zip(*cells, strict=True), strict=False):
        is_number = all(_NUMBER.fullmatch(each.plain) for each in values if each.plain)
        table.add_column(name, justify="right" if is_number else "left")
    for row in cells:
        table.add_row(*row)
    unlimited, width = out.options.update(width=10_000), out.width
    is_wide = Measurement.get(out, unlimited, table).maximum > width
    for column in filter(lambda column: is_wide and column.justify == "right", table.columns):
        column.no_wrap = True
        column.header = str(column.header).replace(" ", "\n")
    # Never narrower than its longest words, so that every figure is whole; a terminal wraps longer lines.
    out.width = max(width, Measurement.get(out, unlimited, table).minimum)
    out.print(table)
    out.width = width


Column = str | Callable[[Any], Cell]
"""The cells of a column of objects: an attribute, or a function."""


def show_objects(objects: Iterable[object], columns: Mapping[str, Column], empty: str = "") -> None:
    """Prints a table with a row for each object; without objects, the sentence `empty`."""
    cells = [attrgetter(each) if isinstance(each, str) else each for each in columns.values()]
    show_rows(list(columns), [[cell(each) for cell in cells] for each in objects], empty=empty)


def _cell(value: Cell) -> Text:
    match value:
        case Text():
            return value
        case datetime():
            return Text(f"{value:%Y-%m-%d %H:%M}")
        case float():
            return Text(f"{value:.4f}")
        case int():
            return Text(f"{value:,}")
    return Text(printable(value or ""))


def show_error(message: str) -> None:
    """Prints one line to standard error."""
    say(("error: ", "bold red"), message, to=err)


def show_notices(notices: Iterable[str]) -> None:
    """Prints warnings to standard error: problems that did not prevent a result."""
    for notice in notices:
        say(("warning: ", "bold yellow"), notice, to=err)


_LINE_SECONDS = 5.0


class TerminalProgress:
    """Progress on standard error: a bar during a phase, and one line when it ends. If standard error is not a terminal,
    a line every five seconds replaces the bar."""

    def __init__(self) -> None:
        self._due = 0.0
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

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """Starts a bar."""
        self._phase = phase
        self._task = self._progress.add_task(phase, total=total, unit=unit)
        self._due = time.monotonic() + _LINE_SECONDS

    def advance(self, amount: int) -> None:
        """Moves the bar."""
        if self._task is None:
            return
        self._progress.advance(self._task, amount)
        if not err.is_terminal and time.monotonic() >= self._due:
            task = self._progress.tasks[-1]
            whole = "" if task.total is None else f" of {task.total:,.0f}"
            say(f"· {self._phase:<13} {task.completed:,.0f}{whole} {task.fields['unit']}", to=err)
            self._due = time.monotonic() + _LINE_SECONDS

    def end(self, summary: str) -> None:
        """Replaces the bar with a line."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        say(("✓", "green"), f" {self._phase:<13} {summary}", to=err)


def show_pairs(pairs: Iterable[tuple[str, str | Text]]) -> None:
    """Prints names with their values, one pair per line; pairs without a value are left out."""
    show_rows((), [pair for pair in pairs if pair[1]])


def count_text(count: int, noun: str, verb: str = "") -> str:
    """A count with its noun: "1 rule", "2 rules"; with the verb, "1 rule is", "2 rules are"."""
    plural = "" if count == 1 else "s"
    return f"{count:,} {noun}{plural}" + ((" is" if count == 1 else " are") if verb else "")


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts by name: "clicks: 12, carts: 3"."""
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())


def changes_text(changes: VersionChanges | None) -> str:
    """The changes of a version as "+12 ~840 -3"."""
    return "" if changes is None else f"+{changes.added:,} ~{changes.changed:,} -{changes.removed:,}"


def time_text(time: str) -> str:
    """An ISO time to the minute."""
    return printable(time.replace("T", " ")[:16])


def price_text(product: Product) -> str:
    """The price for a table."""
    return "" if product.price is None else f"{product.price:,.2f} {product.currency}".strip()


def emit_revision(before: int, after: int, done: str, *, undo: str = "") -> None:
    """Prints the result of a change of documents with a history; `undo` is a command that takes a revision number."""

    def print_revision(_: object) -> None:
        if before == after:
            say(f"Nothing changed since revision {after}.")
        else:
            say(f"Revision {after}: {printable(done)}." + (f" To undo: {undo} {before}" if undo else ""))

    emit({"before": before, "revision": after}, print_revision)


def show_moves(preview: Preview) -> None:
    """Prints a line for each product that a change adds to a page, removes from it, or moves."""
    rows: list[Sequence[Cell]] = []
    for sign, style, moves in (("+", "green", preview.gained), ("-", "red", preview.lost), ("~", "", preview.moved)):
        for move in moves:
            positions = f"{move.before or ''} → {move.after or ''}".strip()
            title = Text(printable(f"{move.title} ({move.product})"), style=style)
            notes = (Text(printable(note), style="dim") for note in (move.product_type, move.rule))
            rows.append((Text(sign, style=style), positions, title, *notes))
    show_rows((), rows, empty="The page would not change.")
