"""The commands for the versions of an index: versions, compare, rollback, prune, verify."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.errors import UnknownVersionError
from service.options import IndexArgument, JsonOption


def versions(index: IndexArgument, as_json: JsonOption = False) -> None:
    """List the versions of an index: what each holds, what it changed, and which one serves."""
    import msgspec

    from retrieval.published import Store
    from service.terminal import write_json
    from service.version_list import list_versions
    from service.versions_view import show_versions

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

    from retrieval.published import Store
    from retrieval.version_diff import compare as compared
    from service.terminal import write_json
    from service.version_list import versions_before
    from service.versions_view import show_diff

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

    from retrieval.published import Store
    from service.connection import cluster_versions
    from service.rollback import roll_back
    from service.terminal import write_json
    from service.versions_view import show_rollback

    store = Store(index)
    store.check_ours()
    with store.locked("rollback"), cluster_versions(store) as cluster:
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

    from indexer.pending import forget_folded
    from retrieval.published import Store
    from service.connection import cluster_versions
    from service.terminal import write_json
    from service.versions_view import show_pruned

    store = Store(index)
    # Where the current version is damaged another one serves, and stays too.
    spare = (store.serving()[0].version,)
    if dry_run:
        surplus = store.surplus(keep, spare)
    else:
        with store.locked("prune"), cluster_versions(store) as cluster:
            surplus = store.surplus(keep, spare)
            places = cluster.places() if cluster else set()
            store.prune(keep, spare)
            if cluster:
                cluster.prune(places)
            forget_folded(store.root, store.folded())
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

    from retrieval.published import Store
    from service.connection import cluster_versions
    from service.terminal import ProgressLines, write_json
    from service.verify_store import store_problems
    from service.verifying import verify as verified
    from service.version_list import current_name
    from service.versions_view import show_verified

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
