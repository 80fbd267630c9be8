"""Output of commands: reports as tables or JSON, progress, notices and errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import msgspec
from rich.console import Console, RenderableType
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

from retrieval.html_report import printable

if TYPE_CHECKING:
    from retrieval.records import Product
    from retrieval.store.manifest import VersionChanges
    from service.curation.document_store import DocumentChange
    from service.engine.editors import Preview

out = Console()
err = Console(stderr=True)
json_output: ContextVar[bool] = ContextVar("json_output", default=False)
"""Whether the command that runs was given --json."""


def emit(report: object, show: Callable[..., None], *context: object, document: object = None) -> None:
    """Prints a report: with --json as one document, which is `document` where that differs from the report; else by
    `show(report, *context)`."""
    if json_output.get():
        write_json(msgspec.json.encode(report if document is None else document))
    else:
        show(report, *context)


def write_json(encoded: bytes) -> None:
    """One JSON document to standard output, in UTF-8 whatever the terminal speaks."""
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded + b"\n")
    sys.stdout.buffer.flush()


def say(*parts: str | tuple[str, str], style: str = "", to: Console | None = None) -> None:
    """One paragraph, by default to standard output; a part may be a pair of text and style."""
    (to or out).print(Text.assemble(*parts, style=style), soft_wrap=True)


def show_table(*renderables: RenderableType) -> None:
    """Tables and the like."""
    out.print(*renderables)


def show_error(message: str) -> None:
    """One line to standard error."""
    say(("error: ", "bold red"), message, to=err)


def show_notices(notices: Iterable[str]) -> None:
    """Warnings to standard error: what is wrong although an answer was possible."""
    for notice in notices:
        say(("warning: ", "bold yellow"), notice, to=err)


class TerminalProgress:
    """A progress drawn on standard error: a bar while a phase runs, and one line when it is over."""

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

    def __enter__(self) -> Self:
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
        say(("✓", "green"), f" {self._phase:<13} {summary}", to=err)


def plain_table(*names: str, right: Collection[str] = (), title: str = "") -> Table:
    """A table without lines, its columns named; those in `right` hold numbers."""
    table = Table(
        box=None, header_style="bold", pad_edge=False, title=title or None, title_justify="left", title_style=""
    )
    for name in names:
        table.add_column(name, justify="right" if name in right else "left")
    return table


def show_pairs(pairs: Iterable[tuple[str, str | Text]]) -> None:
    """Names with their values, one pair a line; a pair without a value is left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for name, value in pairs:
        if value:
            table.add_row(Text(printable(name)), Text(printable(value)) if isinstance(value, str) else value)
    show_table(table)


def count_text(count: int, noun: str, verb: str = "") -> str:
    """A count of things: "1 rule", "2 rules"; with the verb "is" "1 rule is", "2 rules are"."""
    plural = "" if count == 1 else "s"
    return f"{count:,} {noun}{plural}" + ((" is" if count == 1 else " are") if verb else "")


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts by name: "clicks: 12, carts: 3"."""
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())


def changes_text(changes: VersionChanges | None) -> str:
    """The changes of a version as "+12 ~840 -3"."""
    return "" if changes is None else f"+{changes.added:,} ~{changes.changed:,} -{changes.removed:,}"


def size_text(count: int) -> str:
    """Bytes as people read them."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1_000:
            break
        size, unit = size / 1_000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"


def time_text(time: str) -> str:
    """An ISO time to the minute."""
    return printable(time.replace("T", " ")[:16])


def price_text(product: Product) -> str:
    """The price as a table shows it."""
    return "" if product.price is None else f"{product.price:,.2f} {product.currency}".strip()


def emit_revision(before: int, after: int, done: str, *, undo: str = "") -> None:
    """Prints what became of documents with a history; `undo` is a command that takes the number of a revision."""

    def print_revision(_: object) -> None:
        if before == after:
            say(f"Nothing is other than it was at revision {after}.")
        else:
            say(f"Revision {after}: {printable(done)}." + (f" To undo: {undo} {before}" if undo else ""))

    emit({"before": before, "revision": after}, print_revision)


def show_history(changes: Sequence[DocumentChange[Any]], one: str, difference: Callable[[Any], str]) -> None:
    """A line for each change of what is called `one`."""
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
    """A line for each product that a change brings onto a page, takes from it, or moves."""
    table = Table.grid(padding=(0, 2))
    for sign, style, moves in (("+", "green", preview.gained), ("-", "red", preview.lost), ("~", "", preview.moved)):
        for move in moves:
            places = f"{move.before or ''} → {move.after or ''}".strip()
            title = Text(printable(f"{move.title} ({move.product})"), style=style)
            notes = (Text(printable(note), style="dim") for note in (move.product_type, move.rule))
            table.add_row(Text(sign, style=style), places, title, *notes)
    show_table(table) if table.row_count else say("The page would be the same.")
