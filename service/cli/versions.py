"""The commands for the versions of an index: versions, compare, rollback, prune, verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import UnknownVersionError
from service.cli.options import IndexArgument, JsonOption

if TYPE_CHECKING:
    from rich.text import Text

    from retrieval.store.diff import ProductList, VersionDiff
    from retrieval.store.versions import Surplus
    from service.cli.verify import Problem, Verified
    from service.engine.versions import Rollback, VersionInfo


def versions(index: IndexArgument, as_json: JsonOption = False) -> None:
    """List the versions of an index: what each holds, what it changed, and which one serves."""
    import msgspec

    from retrieval.store.versions import Store
    from service.cli.output import write_json
    from service.engine.versions import list_versions

    store = Store(index)
    listed = list_versions(store)
    write_json(msgspec.json.encode(listed)) if as_json else show_versions(listed, store.encoders_size())


def compare(
    index: IndexArgument,
    before: Annotated[
        str, typer.Argument(help="The earlier version; by default the one before the other.", metavar="BEFORE")
    ] = "",
    after: Annotated[
        str, typer.Argument(help="The later version; by default the one that serves.", metavar="AFTER")
    ] = "",
    examples: Annotated[int, typer.Option(help="Ids to name of each kind of change.", min=0)] = 5,
    as_json: JsonOption = False,
) -> None:
    """Show what changed between two versions: products, fields, settings, encoder, rows of the feed."""
    import msgspec

    from retrieval.store.diff import compare_versions as compared
    from retrieval.store.versions import Store
    from service.cli.output import write_json
    from service.engine.versions import versions_before

    store = Store(index)
    after = after or store.current()
    if not before:
        store.check_known(after)
        older = versions_before(store, after)
        if not older:
            raise UnknownVersionError(f"{index} has no version before {after} to compare it with; name two of its own")
        before = older[-1]
    diff = compared(store, before, after, examples=examples)
    write_json(msgspec.json.encode(diff)) if as_json else show_diff(diff)


def rollback(
    index: IndexArgument,
    version: Annotated[
        str, typer.Argument(help="By default the newest whole one before the one that serves.", metavar="VERSION")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Let an earlier version serve again; engines that have the index open take it up by themselves."""
    import msgspec

    from retrieval.store.versions import Store
    from service.cli.output import write_json
    from service.engine.snapshot import cluster_versions
    from service.engine.versions import roll_back

    store = Store(index)
    store.check_ours()
    with store.lock("rollback"), cluster_versions(store) as cluster:
        done = roll_back(store, version, cluster)
    write_json(msgspec.json.encode(done)) if as_json else show_rollback(done, index)


def prune(
    index: IndexArgument,
    keep: Annotated[int, typer.Option(help="How many of the newest versions stay.", min=1)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and let it stay.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove old versions, encoders that none uses and live changes that all have; the version that serves stays."""
    import msgspec

    from indexer.incremental import prune_journal
    from retrieval.store.versions import Store
    from service.cli.output import write_json
    from service.engine.snapshot import cluster_versions

    store = Store(index)
    # Where the current version is damaged another one serves, and stays too.
    spare = (store.serving()[0].version,)
    if dry_run:
        surplus = store.surplus(keep, spare)
    else:
        with store.lock("prune"), cluster_versions(store) as cluster:
            surplus = store.surplus(keep, spare)
            places = cluster.locations() if cluster else set()
            store.prune(keep, spare)
            if cluster:
                cluster.prune(places)
            prune_journal(store.root, store.last_merged_changes())
    document = {"dry_run": dry_run, "versions": surplus.versions, "encoders": surplus.encoders, "bytes": surplus.bytes}
    write_json(msgspec.json.encode(document)) if as_json else show_pruned(surplus, dry_run=dry_run)


def verify(
    index: IndexArgument,
    version: Annotated[str, typer.Option(help="By default the one that serves.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Verify every version.")] = False,
    encode: Annotated[
        bool, typer.Option("--encode", help="Also make a sample of the vectors again; loads the encoder.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every checksum, and that records, terms and vectors agree. Exit code 1 where something is wrong."""
    import msgspec

    from retrieval.store.versions import Store
    from service.cli.output import ProgressLines, write_json
    from service.cli.verify import store_problems
    from service.cli.verify import verify as verified
    from service.engine.snapshot import cluster_versions
    from service.engine.versions import current_name

    store = Store(index)
    store.check_ours()
    problems = store_problems(store)
    current = current_name(store)
    names = [version] if version else [current] if current in store.versions() else store.versions()[-1:]
    if every:
        names = store.versions()
    with ProgressLines() as progress, cluster_versions(store, must=False) as cluster:
        results = [verified(store, name, progress, encode=encode, cluster=cluster) for name in names]
    document = {"problems": problems, "versions": results}
    write_json(msgspec.json.encode(document)) if as_json else show_verified(results, problems)
    if problems or any(result.problems for result in results):
        raise typer.Exit(1)


EXAMPLES = (
    (versions, "Example: shelfwise versions store"),
    (compare, "Example: shelfwise compare store v000003 v000005"),
    (rollback, "Example: shelfwise rollback store v000003"),
    (prune, "Example: shelfwise prune store --keep 2 --dry-run"),
    (verify, "Example: shelfwise verify store --all"),
)
"""Each command, and what its help ends with."""


_MOST_FIELDS = 12


def show_versions(listed: Sequence[VersionInfo], encoder_bytes: int) -> None:
    """A table, newest first: the one that serves has a mark, a damaged one says what is wrong."""
    from rich.table import Table
    from rich.text import Text

    from service.cli.output import out, shown

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
    from rich.text import Text

    from service.cli.output import shown

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
    from rich.table import Table
    from rich.text import Text

    from service.cli.output import out, shown

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


def _changes(changes: ProductList) -> Text:
    from rich.text import Text

    from service.cli.output import shown

    more = ", ..." if changes.count > len(changes.examples) else ""
    named = f": {', '.join(changes.examples)}{more}" if changes.examples else ""
    return Text(shown(f"{changes.count:,}{named}"))


def _fields(fields: dict[str, int]) -> str:
    from service.cli.output import shown

    first = [f"{name} {count:,}" for name, count in list(fields.items())[:_MOST_FIELDS]]
    return shown("in " + ", ".join(first) + (", ..." if len(fields) > _MOST_FIELDS else ""))


def show_rollback(done: Rollback, index: Path) -> None:
    """What serves now, and how to undo it."""
    from rich.text import Text

    from service.cli.output import out, show_notices

    show_notices(done.passed_over)
    if done.version == done.previous_version:
        out.print(f"[bold]{done.version}[/] serves already.", highlight=False)
        return
    made = f"{done.products:,} products, made {done.created.replace('T', ' ')[:16]}"
    out.print(f"[bold]{done.version}[/] serves: {made}.", highlight=False)
    if done.previous_version:
        undo = f"{done.previous_version} is kept; to go back to it: shelfwise rollback {index} {done.previous_version}"
        out.print(Text(undo), soft_wrap=True)


def show_pruned(surplus: Surplus, *, dry_run: bool) -> None:
    """What went, or would go."""
    from rich.text import Text

    from service.cli.output import out

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
    from rich.text import Text

    from service.cli.output import err, out, shown

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
    from rich.text import Text

    from service.cli.output import out, shown

    out.print(Text(f"  {shown(problem.part)}: ", style="bold"), Text(shown(problem.what)), sep="", soft_wrap=True)
    out.print(Text(f"    {shown(problem.advice)}", style="dim"), soft_wrap=True)
