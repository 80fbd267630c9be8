"""Versions and live changes of an index: `index versions`, `rollback`, `prune`, `verify`, `upsert`..."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.text import Text
from typer import Argument, Option

from shelfwise.retrieval.errors import ChangeError, FeedError, UnknownProductError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.versions import Store, Surplus
from shelfwise.retrieval.updates.changes import Change, Patch, Upsert
from shelfwise.retrieval.updates.validation import decode_json
from shelfwise.retrieval.value_texts import printable, size_text
from shelfwise.service.cli import output
from shelfwise.service.cli.options import FeedFormat, Feeds, Index, PublishedIndex, command
from shelfwise.service.cli.output import (
    TerminalProgress,
    changes_text,
    count_text,
    emit,
    say,
    show_notices,
    show_rows,
    time_text,
)
from shelfwise.service.cli.query import open_engine
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import cluster_versions, row_of
from shelfwise.service.engine.versions import Rollback, VersionInfo, current_name, list_versions, roll_back

if TYPE_CHECKING:
    from shelfwise.indexer.feeds.base import RejectedRow
    from shelfwise.indexer.feeds.mapping import FeedMapping
    from shelfwise.service.cli.verify import Problem, Verification


@command("index versions store")
def versions(index: Index) -> None:
    """List the versions of an index with their content and changes, and mark the serving one."""
    store = Store(index)
    emit(list_versions(store), _show_versions, store)


@command("index rollback store v000003")
def rollback(
    index: PublishedIndex,
    version: Annotated[
        str, Argument(help="By default the newest complete one before the serving one.", metavar="VERSION")
    ] = "",
) -> None:
    """Make an earlier version serve again. Open engines reload it by themselves."""
    store = Store(index)
    with store.lock("rollback"), cluster_versions(store) as cluster:
        done = roll_back(store, version, cluster)
    emit(done, _show_rollback, f"shelfwise index rollback {index}")


@command("index prune store --keep 2 --dry-run")
def prune(
    index: Index,
    keep: Annotated[int, Option(help="Number of the newest versions to keep.", min=1)],
    dry_run: Annotated[bool, Option("--dry-run", help="Print what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove old versions, unused encoders and live changes that all versions contain. The serving version is kept."""
    from shelfwise.indexer.incremental import prune_journal

    store = Store(index)
    # If the current version is damaged, another one serves and is kept, too.
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
    emit(surplus, _show_pruned, dry_run, document=document)


@command("index verify store --all")
def verify(
    index: PublishedIndex,
    version: Annotated[str, Option(help="By default the serving one.")] = "",
    every: Annotated[bool, Option("--all", help="Verify every version.")] = False,
) -> None:
    """Verify all checksums, and that records, terms and vectors agree. Exit code 1 if there is a problem."""
    from shelfwise.service.cli.verify import store_problems, verify_version

    store = Store(index)
    problems = store_problems(store)
    current = current_name(store)
    names = [version] if version else [current] if current in store.versions() else store.versions()[-1:]
    if every:
        names = store.versions()
    with TerminalProgress() as progress, cluster_versions(store, must=False) as cluster:
        results = [verify_version(store, name, progress, cluster=cluster) for name in names]
    emit(results, _show_verification, problems, document={"problems": problems, "versions": results})
    if problems or any(result.problems for result in results):
        raise typer.Exit(1)


def _show_versions(versions: Sequence[VersionInfo], store: Store) -> None:
    names = "", "version", "created", "products", "changes", "encoder", "size"
    show_rows(names, map(_version_row, reversed(versions)))
    for info in reversed(versions):
        if info.problem:
            say(f"{info.version} is damaged: {printable(info.problem)}", style="red")
    own = sum(info.bytes for info in versions)
    say(f"{count_text(len(versions), 'version')} of {size_text(own)}, encoders {size_text(store.encoders_size())}")


def _version_row(info: VersionInfo) -> tuple[str | int | Text | None, ...]:
    mark = Text("▶" if info.serves else "", style="bold green")
    size = size_text(info.bytes)
    if not info.created:
        return mark, info.version, Text("damaged", style="red"), None, "", "", size
    changes = changes_text(info.changes)
    return mark, info.version, time_text(info.created), info.products, changes, info.encoder_name, size


def _show_rollback(rollback: Rollback, undo: str) -> None:
    show_notices(rollback.passed_over)
    if rollback.version == rollback.previous_version:
        say((rollback.version, "bold"), " already serves.")
        return
    say((rollback.version, "bold"), f" serves: {rollback.products:,} products, made {time_text(rollback.created)}.")
    if rollback.previous_version:
        say(f"{rollback.previous_version} is kept; to go back to it: {undo} {rollback.previous_version}")


def _show_pruned(surplus: Surplus, dry_run: bool) -> None:
    parts = [", ".join(surplus.versions)] if surplus.versions else []
    if surplus.encoders:
        parts.append(f"{count_text(len(surplus.encoders), 'encoder')} ({', '.join(surplus.encoders)})")
    if parts:
        say(f"{' and '.join(parts)} {'would be removed' if dry_run else 'removed'}: {size_text(surplus.bytes)}")
    else:
        say("Nothing to remove.")


def _show_verification(results: Sequence[Verification], problems: Sequence[Problem]) -> None:
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


# Live changes, which need no rebuild.

_BATCH = 1_000
_MAX_SHOWN = 10
_PATCHED = tuple(each.name for each in fields(Product) if each.name not in ("id", "attributes", "identifiers"))
_EMPTY = (None, "", ())


class ChangeReport(msgspec.Struct, frozen=True):
    """Result of live changes: the number of the last change, and the number of added or changed products."""

    sequence: int = 0
    products: int = 0


class UpsertReport(ChangeReport, frozen=True):
    """A `ChangeReport` of a feed, with its rejected rows by reason."""

    rejected: dict[str, int] = {}


@command("index upsert store new-products.jsonl")
def upsert(index: Index, feeds: Feeds, feed: FeedFormat) -> None:
    """Add or replace the products of a feed at once, without a rebuild."""
    with open_engine(index, models=False) as engine:
        report = _change(engine, feeds, feed.fields(), feed.format, _upserts)
    emit(report, _show_change, "added or replaced")


@command("index update store prices.csv --map price=Preis")
def update(index: Index, feeds: Feeds, feed: FeedFormat) -> None:
    """Change the fields that a feed has, such as prices, by id. Empty fields and unknown ids are skipped."""
    mapping = feed.fields()
    untitled = replace(mapping, rules={**mapping.rules, "title": replace(mapping.rules["title"], value="")})
    with open_engine(index, models=False) as engine:
        report = _change(engine, feeds, untitled, feed.format, partial(_patches, engine))
    emit(report, _show_change, "changed")


@command("index delete store 3920564 3920565")
def delete(index: Index, ids: Annotated[list[str], Argument(help="Ids of products.", metavar="ID")]) -> None:
    """Remove products at once. Unknown ids are ignored."""
    with open_engine(index, models=False) as engine:
        changed = engine.delete(ids)
    emit(ChangeReport(changed.sequence, changed.products), _show_change, "deleted")


@command("index patch store 3920564 price=9.99 availability=in_stock attributes.colour=red expires=")
def patch(
    index: Index,
    product: Annotated[str, Argument(help="Id of the product.", metavar="ID")],
    values: Annotated[list[str], Argument(help="New values; an empty value clears the field.", metavar="FIELD=VALUE")],
) -> None:
    """Change fields of a product at once, such as its price, its availability or an attribute."""
    parsed = parse_values(product, values)
    with open_engine(index, models=False) as engine:
        changed = engine.patch(product, **parsed)
    emit(ChangeReport(changed.sequence, changed.products), _show_change, "changed")


def _change(
    engine: SearchEngine,
    feeds: Sequence[str],
    mapping: FeedMapping,
    feed_format: str,
    changes: Callable[[list[Product], Callable[[str, str], None]], list[Change]],
) -> UpsertReport:
    """Applies the changes of the products of feeds in batches, each of which is atomic, and warns of rejected rows."""
    from shelfwise.indexer.feeds.reader import read_products

    rejected: Counter[str] = Counter()
    examples: list[str] = []

    def reject(reason: str, example: str) -> None:
        rejected[reason] += 1
        if len(examples) < _MAX_SHOWN:
            examples.append(example)

    def reject_row(row: RejectedRow) -> None:
        reject(row.reason, f"{row.file} line {row.line}: {row.reason}{f': {row.detail}' if row.detail else ''}")

    valid, sequence, products = 0, 0, 0
    rows = read_products(feeds, mapping, reject_row, format=feed_format)
    read = (row.product for row in rows)
    while batch := list(islice(read, _BATCH)):
        batch_changes = changes(batch, reject)
        result = engine.change(batch_changes)
        valid += len(batch_changes)
        products += result.products
        sequence = max(sequence, result.sequence)
    if rejected and not valid:
        raise FeedError(f"no row is valid; nothing was changed; {'; '.join(examples)}")
    more = rejected.total() - len(examples)
    show_notices((*examples, f"and {more:,} more rows") if more else examples)
    return UpsertReport(sequence, products, dict(rejected))


def _upserts(products: list[Product], _: Callable[[str, str], None]) -> list[Change]:
    """Upserts of products, cleaned as in a rebuild, so that the next one finds the feed's products equal to them."""
    from shelfwise.indexer.cleaning.cleaner import clean_products

    return [Upsert(product) for product in clean_products(products).products]


def _patches(engine: SearchEngine, products: list[Product], reject: Callable[[str, str], None]) -> list[Change]:
    """Patches of known products with the fields that are not empty."""
    patches: list[Change] = []
    for product in products:
        try:
            row_of(engine.snapshot, product.id)
        except UnknownProductError as error:
            reject("unknown id", str(error))
            continue
        values = {name: value for name in _PATCHED if (value := getattr(product, name)) not in _EMPTY}
        for name in ("attributes", "identifiers"):
            values |= {f"{name}.{key}": value for key, value in getattr(product, name).items()}
        patches.append(Patch(product.id, values))
    return patches


def _show_change(report: ChangeReport, done: str) -> None:
    say(f"{count_text(report.products, 'product')} {done}.")


# The values of a patch as typed in a terminal: FIELD=VALUE, parsed by the field's type.

_NUMBERS = ("price", "rating", "rating_count")
_REPEATABLE = ("images", "identifiers.", "attributes.")
_STRUCTURED = ("identifiers", "attributes", "variants", "places")


def parse_values(product_id: str, typed: Sequence[str]) -> dict[str, object]:
    """The value of each field, for `shelfwise.retrieval.updates.validation.validate_patch` to check.

    An empty value clears the field. A category's levels are separated by `>`. Several images, values of one kind of
    identifier or of one attribute are given by repeating the field. Whole mappings, variants and places are JSON.

    Raises ChangeError for arguments that are not FIELD=VALUE, and for a second value of a field that has one.
    """
    by_name: dict[str, list[str]] = {}
    for each in typed:
        name, equals, value = each.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ChangeError(f"product {product_id!r}: {each!r} is not FIELD=VALUE, such as price=9.99", product_id)
        by_name.setdefault(name, []).append(value)
    return {name: _parse_value(product_id, name, values) for name, values in by_name.items()}


def _parse_value(product_id: str, name: str, values: list[str]) -> object:
    value = values[0]
    if len(values) > 1:
        if not name.startswith(_REPEATABLE):
            raise ChangeError(
                f"product {product_id!r}: {name} can have one value, {len(values)} were given", product_id, name
            )
        return values
    if not value:
        return None
    if name in _NUMBERS:
        try:
            return float(value)
        except ValueError:
            return value  # validation then rejects it as the field's value
    if name == "category":
        return [level.strip() for level in value.split(">")]
    if name == "images" or name.startswith("identifiers."):
        return [value]
    try:
        # 18 is a number, true a boolean, "18" in quotes a text; anything that is not JSON is text, too.
        return decode_json(value) if name in _STRUCTURED or name.startswith("attributes.") else value
    except ValueError:
        return value
