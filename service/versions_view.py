"""What the commands for versions show in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from retrieval.published import Surplus
from retrieval.version_diff import Changes, VersionDiff
from service.problems import Problem, Verified
from service.rollback import RolledBack
from service.terminal import err, out, show_notices, shown
from service.version_list import VersionInfo

_MOST_FIELDS = 12


def show_versions(listed: Sequence[VersionInfo], encoder_bytes: int) -> None:
    """A table, newest first: the one that serves has a mark, a damaged one says what is wrong."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "version", "created", "products", "changes", "encoder", "size"):
        table.add_column(name, justify="right" if name in {"products", "size"} else "left", no_wrap=True)
    for info in reversed(listed):
        table.add_row(*_version_row(info))
    out.print(table)
    for info in reversed(listed):
        if info.problem:
            out.print(Text(f"{info.version} is damaged: {shown(info.problem)}", style="red"), soft_wrap=True)
    own = sum(info.bytes for info in listed)
    out.print(
        f"{_counted(len(listed), 'version')} of {size_text(own)}, encoders {size_text(encoder_bytes)}", highlight=False
    )


def _version_row(info: VersionInfo) -> tuple[str | Text, ...]:
    mark = Text("▶", style="bold green") if info.serves else ""
    if not info.created:
        return mark, info.version, Text("damaged", style="red"), "", "", "", size_text(info.bytes)
    created = info.created.replace("T", " ")[:16]
    encoder = Text(shown(info.encoder_name))
    return mark, info.version, created, f"{info.products:,}", changes_text(info), encoder, size_text(info.bytes)


def changes_text(info: VersionInfo) -> str:
    """The changes of a version as "+12 ~840 -3", or nothing where none were counted."""
    made = info.changes
    return "" if made is None else f"+{made.added:,} ~{made.changed:,} -{made.removed:,}"


def size_text(count: int) -> str:
    """Bytes as people read them."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1_000:
            break
        size, unit = size / 1_000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def show_diff(diff: VersionDiff) -> None:
    """What changed, as a table with one kind of change a row."""
    one, other = diff.before, diff.after
    out.print(f"[bold]{one.version}[/] → [bold]{other.version}[/]", highlight=False)
    if diff.is_empty:
        out.print("The two answer every search alike.")
    table = Table.grid(padding=(0, 2))
    table.add_row("products", _moved(one.products, other.products))
    table.add_row("rows read", _moved(one.rows_read, other.rows_read))
    table.add_row("set aside", _moved(one.rows_rejected, other.rows_rejected))
    made = diff.products
    for name, changes in (("added", made.added), ("removed", made.removed), ("changed", made.changed)):
        table.add_row(name, _changes(changes))
    if made.fields:
        table.add_row("", Text(_fields(made.fields)))
    for name, fields in (("new fields", diff.fields.added), ("fields gone", diff.fields.removed)):
        if fields:
            table.add_row(name, Text(shown(", ".join(fields))))
    for field, (before, after) in diff.fields.retyped.items():
        table.add_row("field", Text(shown(f"{field}: {before} → {after}")))
    for setting in diff.settings:
        table.add_row(setting.name, Text(shown(f"{setting.before} → {setting.after}")))
    out.print(table)


def _moved(before: int, after: int) -> str:
    return f"{before:,} → {after:,} ({after - before:+,})" if before != after else f"{before:,}"


def _changes(changes: Changes) -> Text:
    more = ", ..." if changes.count > len(changes.examples) else ""
    named = f": {', '.join(changes.examples)}{more}" if changes.examples else ""
    return Text(shown(f"{changes.count:,}{named}"))


def _fields(fields: dict[str, int]) -> str:
    first = [f"{name} {count:,}" for name, count in list(fields.items())[:_MOST_FIELDS]]
    return shown("in " + ", ".join(first) + (", ..." if len(fields) > _MOST_FIELDS else ""))


def show_rollback(done: RolledBack, index: Path) -> None:
    """What serves now, and how to undo it."""
    show_notices(done.passed_over)
    if done.version == done.before:
        out.print(f"[bold]{done.version}[/] serves already.", highlight=False)
        return
    made = f"{done.products:,} products, made {done.created.replace('T', ' ')[:16]}"
    out.print(f"[bold]{done.version}[/] serves: {made}.", highlight=False)
    if done.before:
        undo = f"{done.before} is kept; to go back to it: shelfwise rollback {index} {done.before}"
        out.print(Text(undo), soft_wrap=True)


def show_pruned(surplus: Surplus, *, dry_run: bool) -> None:
    """What went, or would go."""
    if not surplus.versions and not surplus.encoders:
        out.print("Nothing to remove.")
        return
    parts = [", ".join(surplus.versions)] if surplus.versions else []
    if surplus.encoders:
        parts.append(f"{_counted(len(surplus.encoders), 'encoder')} ({', '.join(surplus.encoders)})")
    told = "would be removed:" if dry_run else "removed:"
    out.print(Text(f"{' and '.join(parts)} {told} {size_text(surplus.bytes)}"), soft_wrap=True)


def show_verified(results: Sequence[Verified], problems: Sequence[Problem]) -> None:
    """Each version with its problems, and what to do about each."""
    for problem in problems:
        _show_problem(problem)
    for result in results:
        held = f"{result.products:,} products, {result.files:,} files, {size_text(result.bytes)}"
        state = f"{_counted(len(result.problems), 'problem')}" if result.problems else "whole"
        style = "red" if result.problems else "green"
        out.print(Text(result.version, style="bold"), Text(state, style=style), Text(f"({held})"))
        for problem in result.problems:
            _show_problem(problem)
        for skipped in result.skipped:
            err.print(Text("not looked at: ", style="yellow"), Text(shown(skipped)), sep="", soft_wrap=True)


def _show_problem(problem: Problem) -> None:
    out.print(Text(f"  {shown(problem.part)}: ", style="bold"), Text(shown(problem.what)), sep="", soft_wrap=True)
    out.print(Text(f"    {shown(problem.advice)}", style="dim"), soft_wrap=True)
