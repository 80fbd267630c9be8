"""Versions of an index: `index versions`, `compare`, `rollback`, `prune` and `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from indexer.incremental import prune_journal
from retrieval.errors import UnknownVersionError
from retrieval.store.diff import ProductList, VersionDiff, compare_versions
from retrieval.store.versions import Store, Surplus
from service.cli import output
from service.cli.options import Index, command
from service.cli.output import (
    TerminalProgress,
    changes_text,
    count_text,
    emit,
    plain_table,
    printable,
    say,
    show_notices,
    show_pairs,
    show_table,
    size_text,
    time_text,
)
from service.cli.verify import Problem, Verification, store_problems, verify_version
from service.engine.snapshot import cluster_versions
from service.engine.versions import Rollback, VersionInfo, current_name, list_versions, roll_back, versions_before

Before = Annotated[
    str, typer.Argument(help="The earlier version; by default the one before the other.", metavar="BEFORE")
]
After = Annotated[str, typer.Argument(help="The later version; by default the one that serves.", metavar="AFTER")]


@command("index versions store")
def versions(index: Index) -> None:
    """List the versions of an index: what each holds, what it changed, and which one serves."""
    store = Store(index)
    emit(list_versions(store), show_versions, store)


@command("index compare store v000003 v000005")
def compare(
    index: Index,
    before: Before = "",
    after: After = "",
    examples: Annotated[int, typer.Option(help="Ids to name of each kind of change.", min=0)] = 5,
) -> None:
    """Show what changed between two versions: products, fields, settings, encoder, rows of the feed."""
    store = Store(index)
    after = after or store.current()
    if not before:
        store.check_known(after)
        older = versions_before(store, after)
        if not older:
            raise UnknownVersionError(f"{index} has no version before {after} to compare it with; name two of its own")
        before = older[-1]
    emit(compare_versions(store, before, after, examples=examples), show_diff)


@command("index rollback store v000003")
def rollback(
    index: Index,
    version: Annotated[
        str, typer.Argument(help="By default the newest whole one before the one that serves.", metavar="VERSION")
    ] = "",
) -> None:
    """Let an earlier version serve again; engines that have the index open reload it by themselves."""
    store = Store(index)
    store.check_ours()
    with store.lock("rollback"), cluster_versions(store) as cluster:
        done = roll_back(store, version, cluster)
    emit(done, show_rollback, f"shelfwise index rollback {index}")


@command("index prune store --keep 2 --dry-run")
def prune(
    index: Index,
    keep: Annotated[int, typer.Option(help="How many of the newest versions stay.", min=1)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove old versions, encoders that none uses and live changes that all have; the version that serves stays."""
    store = Store(index)
    # Where the current version is damaged another one serves, and stays too.
    spare = (store.serving()[0].version,)
    if dry_run:
        surplus = store.surplus(keep, spare)
    else:
        with store.lock("prune"), cluster_versions(store) as cluster:
            surplus = store.surplus(keep, spare)
            locations = cluster.locations() if cluster else set()
            store.prune(keep, spare)
            if cluster:
                cluster.prune(locations)
            prune_journal(store.root, store.last_merged_changes())
    document = {"dry_run": dry_run, "versions": surplus.versions, "encoders": surplus.encoders, "bytes": surplus.bytes}
    emit(surplus, show_pruned, dry_run, document=document)


@command("index verify store --all")
def verify(
    index: Index,
    version: Annotated[str, typer.Option(help="By default the one that serves.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Verify every version.")] = False,
    encode: Annotated[
        bool, typer.Option("--encode", help="Also encode a sample of the products again; loads the encoder.")
    ] = False,
) -> None:
    """Check every checksum, and that records, terms and vectors agree. Exit code 1 where something is wrong."""
    store = Store(index)
    store.check_ours()
    problems = store_problems(store)
    current = current_name(store)
    names = [version] if version else [current] if current in store.versions() else store.versions()[-1:]
    if every:
        names = store.versions()
    with TerminalProgress() as progress, cluster_versions(store, must=False) as cluster:
        results = [verify_version(store, name, progress, encode=encode, cluster=cluster) for name in names]
    emit(results, show_verification, problems, document={"problems": problems, "versions": results})
    if problems or any(result.problems for result in results):
        raise typer.Exit(1)


_MOST_FIELDS = 12


def show_versions(listed: Sequence[VersionInfo], store: Store) -> None:
    """A table, newest first: the one that serves has a mark, a damaged one says what is wrong."""
    right = ("products", "size")
    table = plain_table("", "version", "created", "products", "changes", "encoder", "size", right=right)
    for column in table.columns:
        column.no_wrap = True
    for info in reversed(listed):
        table.add_row(*_version_row(info))
    show_table(table)
    for info in reversed(listed):
        if info.problem:
            say(f"{info.version} is damaged: {printable(info.problem)}", style="red")
    own = sum(info.bytes for info in listed)
    say(f"{count_text(len(listed), 'version')} of {size_text(own)}, encoders {size_text(store.encoders_size())}")


def _version_row(info: VersionInfo) -> tuple[str | Text, ...]:
    mark = Text("▶", style="bold green") if info.serves else ""
    if not info.created:
        return mark, info.version, Text("damaged", style="red"), "", "", "", size_text(info.bytes)
    encoder, size = Text(printable(info.encoder_name)), size_text(info.bytes)
    changes = changes_text(info.changes)
    return mark, info.version, time_text(info.created), f"{info.products:,}", changes, encoder, size


def show_diff(found: VersionDiff) -> None:
    """What changed, as a table with one kind of change a row."""
    one, other, products, fields = found.before, found.after, found.products, found.fields
    say((one.version, "bold"), " → ", (other.version, "bold"))
    if found.is_empty:
        say("The two answer every search alike.")
    by_field = [f"{name} {count:,}" for name, count in products.fields.items()]
    more = ", ..." if len(by_field) > _MOST_FIELDS else ""
    show_pairs(
        (
            ("products", _counts(one.products, other.products)),
            ("rows read", _counts(one.rows_read, other.rows_read)),
            ("rejected", _counts(one.rows_rejected, other.rows_rejected)),
            ("added", _changes(products.added)),
            ("removed", _changes(products.removed)),
            ("changed", _changes(products.changed)),
            ("", f"in {', '.join(by_field[:_MOST_FIELDS])}{more}" if by_field else ""),
            ("new fields", ", ".join(fields.added)),
            ("fields gone", ", ".join(fields.removed)),
            *(("field", f"{name}: {before} → {after}") for name, (before, after) in fields.retyped.items()),
            *((each.name, f"{each.before} → {each.after}") for each in found.settings),
        )
    )


def _counts(before: int, after: int) -> str:
    return f"{before:,} → {after:,} ({after - before:+,})" if before != after else f"{before:,}"


def _changes(changes: ProductList) -> str:
    more = ", ..." if changes.count > len(changes.examples) else ""
    return f"{changes.count:,}" + (f": {', '.join(changes.examples)}{more}" if changes.examples else "")


def show_rollback(done: Rollback, undo: str) -> None:
    """What serves now, and how to undo it."""
    show_notices(done.passed_over)
    if done.version == done.previous_version:
        say((done.version, "bold"), " serves already.")
        return
    say((done.version, "bold"), f" serves: {done.products:,} products, made {time_text(done.created)}.")
    if done.previous_version:
        say(f"{done.previous_version} is kept; to go back to it: {undo} {done.previous_version}")


def show_pruned(surplus: Surplus, dry_run: bool) -> None:
    """What was removed, or would be."""
    parts = [", ".join(surplus.versions)] if surplus.versions else []
    if surplus.encoders:
        parts.append(f"{count_text(len(surplus.encoders), 'encoder')} ({', '.join(surplus.encoders)})")
    if parts:
        say(f"{' and '.join(parts)} {'would be removed' if dry_run else 'removed'}: {size_text(surplus.bytes)}")
    else:
        say("Nothing to remove.")


def show_verification(results: Sequence[Verification], problems: Sequence[Problem]) -> None:
    """Each version with its problems, and what to do about each."""
    for problem in problems:
        _show_problem(problem)
    for result in results:
        state = count_text(len(result.problems), "problem") if result.problems else "whole"
        size = f" ({result.products:,} products, {result.files:,} files, {size_text(result.bytes)})"
        say((result.version, "bold"), " ", (state, "red" if result.problems else "green"), size)
        for problem in result.problems:
            _show_problem(problem)
        for skipped in result.skipped:
            say(("not checked: ", "yellow"), printable(skipped), to=output.err)


def _show_problem(problem: Problem) -> None:
    say((f"  {printable(problem.part)}: ", "bold"), printable(problem.what))
    say(f"    {printable(problem.advice)}", style="dim")
