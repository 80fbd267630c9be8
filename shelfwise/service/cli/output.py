"""Output of commands: reports as tables or JSON, progress, notices and errors."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
from rich.console import Console, RenderableType
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
from rich.table import Column, Table
from rich.text import Text

from shelfwise.retrieval.html_report import printable

if TYPE_CHECKING:
    from shelfwise.retrieval.records import Product
    from shelfwise.retrieval.store.manifest import VersionChanges
    from shelfwise.service.curation.document_store import DocumentChange
    from shelfwise.service.engine.editors import Preview

_WHOLE = 24
"""Length up to which a word or a line of figures is never broken."""


class TableConsole(Console):
    """A console that shows all figures of a table; one that is too wide becomes several, each with the first column."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - as rich
        """Prints like any console, with tables split into parts that fit."""
        parts = (split_table(each, self) if isinstance(each, Table) else [each] for each in objects)
        super().print(*chain.from_iterable(parts), **options)


def split_table(table: Table, console: Console) -> list[Table]:
    """The table if it fits, otherwise tables of its first column and as many other columns as fit with whole figures.

    Columns justified to the right contain figures, others contain words. Longer text is wrapped; it is only cut in left
    columns declared as `no_wrap`.
    """
    _, right, _, left = table.padding
    gap = max(left, right) if table.collapse_padding else left + right
    width = console.width if table.pad_edge else console.width + gap
    first, *others = (_column_widths(column, console) for column in table.columns)
    if sum(each.natural + gap for each in (first, *others)) <= width:
        return [table]
    groups = [[first]]
    for each in others:
        if len(groups[-1]) > 1 and sum(one.least + gap for one in (*groups[-1], each)) > width:
            groups.append([first])
        groups[-1].append(each)
    return [_part(table, group, width - gap * len(group), has_title=group is groups[0]) for group in groups]


class _ColumnWidths(NamedTuple):
    column: Column
    least: int
    """Width with unbroken figures."""
    natural: int
    """Width with unbroken lines."""


def _column_widths(column: Column, console: Console) -> _ColumnWidths:
    options = console.options.update(width=10_000)
    head, *cells = (Measurement.get(console, options, each) for each in (column.header, *column.cells))
    line = max((each.maximum for each in cells), default=0)
    word = max((each.minimum for each in cells), default=0)
    least = line if column.justify == "right" and line <= _WHOLE else min(word, _WHOLE)
    natural = max(line, head.maximum, column.min_width or 0)
    return _ColumnWidths(column, max(least, min(head.minimum, _WHOLE)), natural)


def _part(table: Table, columns: Sequence[_ColumnWidths], room: int, *, has_title: bool) -> Table:
    """Some columns of a table, each at its natural width or at its share of the available width."""
    names = (
        "box",
        "padding",
        "collapse_padding",
        "show_header",
        "pad_edge",
        "header_style",
        "title_justify",
        "title_style",
    )
    part = Table(title=table.title if has_title else None, **{name: getattr(table, name) for name in names})
    slack = room - sum(each.least for each in columns)
    widths = {}
    for place, each in enumerate(sorted(columns, key=lambda each: each.natural - each.least)):
        extra = max(0, min(each.natural - each.least, slack // (len(columns) - place)))
        widths[id(each.column)] = each.least + extra
        slack -= extra
    for column, _, _ in columns:
        is_cut = column.no_wrap and column.justify != "right"
        part.add_column(
            column.header,
            justify=column.justify,
            no_wrap=is_cut,
            overflow="ellipsis" if is_cut else "fold",
            width=widths[id(column)],
        )
    for row in zip(*(each.column.cells for each in columns), strict=True):
        part.add_row(*row)
    return part


out = TableConsole()
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


def show_table(*renderables: RenderableType) -> None:
    """Prints tables and other renderables."""
    out.print(*renderables)


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


def plain_table(*names: str, right: Collection[str] = (), title: str = "") -> Table:
    """A table without rules, with these column names; those in `right` contain numbers."""
    table = Table(
        box=None, header_style="bold", pad_edge=False, title=title or None, title_justify="left", title_style=""
    )
    for name in names:
        table.add_column(name, justify="right" if name in right else "left")
    return table


def show_pairs(pairs: Iterable[tuple[str, str | Text]]) -> None:
    """Prints names with their values, one pair per line; pairs without a value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for name, value in pairs:
        if value:
            table.add_row(Text(printable(name)), Text(printable(value)) if isinstance(value, str) else value)
    show_table(table)


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


def show_history(changes: Sequence[DocumentChange[Any]], one: str, difference: Callable[[Any], str]) -> None:
    """Prints a line for each change of a document; `one` names its kind."""
    if not changes:
        say("No changes.")
        return
    table = plain_table("revision", "time", "by", one, "change", right=("revision",))
    for change in changes:
        values = (change.who, change.id, difference(change))
        table.add_row(
            str(change.revision), f"{change.time:%Y-%m-%d %H:%M:%S}", *(Text(printable(each)) for each in values)
        )
    show_table(table)


def show_moves(preview: Preview) -> None:
    """Prints a line for each product that a change adds to a page, removes from it, or moves."""
    table = Table.grid(padding=(0, 2))
    for sign, style, moves in (("+", "green", preview.gained), ("-", "red", preview.lost), ("~", "", preview.moved)):
        for move in moves:
            places = f"{move.before or ''} → {move.after or ''}".strip()
            title = Text(printable(f"{move.title} ({move.product})"), style=style)
            notes = (Text(printable(note), style="dim") for note in (move.product_type, move.rule))
            table.add_row(Text(sign, style=style), places, title, *notes)
    show_table(table) if table.row_count else say("The page would not change.")
