"""Generations of derived tables: published as a whole, listed in one manifest, and read with checksums."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from shelfwise.rerank.sessions.decay import ACT_PARTIAL
from shelfwise.rerank.sessions.options import DeriveOptions, Window
from shelfwise.rerank.sessions.partitions import (
    SUFFIX,
    Context,
    DailyPartial,
    read_frame,
    read_partial,
    remove_others,
    shopper_is_known,
    write_folder,
)
from shelfwise.rerank.sessions.product_tables import scores_before
from shelfwise.rerank.sessions.query_memory import memory_before
from shelfwise.rerank.sessions.query_tables import LIST_PARTIAL, add_own_ids
from shelfwise.retrieval.errors import StoreMissingError
from shelfwise.retrieval.store.files import Generations, SealedFile


class _TableField:
    """Attribute of `DerivedTables` for the table of its name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, tables: DerivedTables, owner: type) -> pl.DataFrame:
        return tables.table(self._name)


class DerivedTables:
    """One generation of derived tables; docs/event-report.md describes their columns.

    It stays readable while the next one is published. Each access reads a table and verifies its checksum; this raises
    StoreDamagedError for a damaged file, and StoreMissingError for a generation that was removed.
    """

    popularity = _TableField()
    neighbours = _TableField()
    relations = _TableField()
    relation_types = _TableField()
    queries = _TableField()
    reformulations = _TableField()
    query_categories = _TableField()
    page_questions = _TableField()
    labels = _TableField()
    label_weights = _TableField()
    query_memory = _TableField()
    sessions = _TableField()
    rejected = _TableField()
    daily_searches = _TableField()
    daily_sales = _TableField()
    daily_products = _TableField()

    def __init__(self, folder: Path, manifest: DerivedManifest) -> None:
        self._folder = folder
        self.manifest = manifest

    @property
    def window(self) -> Window:
        """The time that all tables cover."""
        return Window(self.manifest.first, self.manifest.last)

    @property
    def made(self) -> datetime:
        return self.manifest.made

    def table(self, name: str) -> pl.DataFrame:
        """A table by name, such as one of an additional maker."""
        if name not in self.manifest.tables:
            there = ", ".join(sorted(self.manifest.tables))
            raise StoreMissingError(f"{self._folder} has no table {name!r}, only {there}; refresh the tables")
        path = self._folder / self.manifest.folder / f"{name}{SUFFIX}"
        if not path.parent.is_dir():
            raise StoreMissingError(f"{path.parent} no longer exists: newer tables have replaced it; open them again")
        return read_frame(path)

    def lists(self) -> pl.DataFrame:
        """Impressions and acts of each search without bots, by time: shopper, and the columns of
        `shelfwise.rerank.click_models.click_log.click_log`. Raises StoreMissingError if newer tables have replaced
        these."""
        return add_own_ids(self._part(LIST_PARTIAL))

    def acts(self) -> pl.DataFrame:
        """Acts of known shoppers in the window: shopper (pseudonym), product_id, kind, time. Raises like `lists`."""
        return self._part(ACT_PARTIAL).filter(shopper_is_known()).select("shopper", "product_id", "kind", "time")

    def popularity_before(self, end: datetime) -> pl.DataFrame:
        """product_id and score of `popularity` as of a time within the window. Raises like `lists`."""
        return scores_before(self._part(ACT_PARTIAL), end, self._context())

    def memory_of(self, lists: pl.DataFrame, end: datetime, products: pl.DataFrame | None = None) -> pl.DataFrame:
        """`query_memory` as of a time, made of some of the rows of `lists`."""
        return memory_before(lists, end, replace(self._context(), products=products))

    def _context(self) -> Context:
        """The context with which the tables were made, except for the catalog."""
        return Context(self.window, msgspec.convert(self.manifest.options, DeriveOptions), None)

    def _part(self, part: DailyPartial) -> pl.DataFrame:
        found = {int(day): self._folder / "parts" / name for day, name in self.manifest.days.items()}
        if missing := [each for each in found.values() if not each.is_dir()]:
            raise StoreMissingError(f"{missing[0]} no longer exists: newer tables have replaced it; open them again")
        return read_partial(part, found)


def open_derived(folder: Path) -> DerivedTables:
    """Opens the newest tables of a folder that `refresh` has written.

    Raises StoreMissingError if there are none, StoreForeignError for another schema, StoreDamagedError if they cannot
    be read.
    """
    return DerivedTables(folder, read_manifest(folder))


DERIVED = "derived.json"
SCHEMA = 3
"""Increased when the tables change in a way that older programs cannot read."""
FIRST, LAST = "shelfwise.window.first", "shelfwise.window.last"
"""Keys of a Parquet file's metadata for its window, as ISO 8601."""
CACHES = ("days", "bots", "parts")
"""The folders of cached files."""


class DerivedManifest(msgspec.Struct, frozen=True):
    """The contents of a generation of tables."""

    folder: str
    first: datetime
    last: datetime
    made: datetime
    options: dict[str, Any]
    days: dict[str, str]
    """Day to the folder of its partials, whose name has a fingerprint of their inputs."""
    tables: dict[str, int]
    """Table to its number of rows."""


_MANIFESTS = SealedFile(SCHEMA, "refresh the tables", "tables", msgspec.json.Decoder(DerivedManifest))
_MAX_MANIFEST_BYTES = 1 << 26


def read_manifest(folder: Path) -> DerivedManifest:
    """The manifest of the current tables.

    Raises StoreMissingError if there are none yet, StoreForeignError for tables of another schema, StoreDamagedError
    for a manifest that cannot be read.
    """
    manifest = _MANIFESTS.read(folder / DERIVED, _MAX_MANIFEST_BYTES)
    if manifest is None:
        raise StoreMissingError(f"{folder} has no derived tables yet; refresh them from the events")
    return manifest


def publish(
    folder: Path,
    tables: Mapping[str, pl.DataFrame],
    days: Mapping[str, str],
    window: Window,
    options: DeriveOptions,
    made: datetime,
) -> DerivedManifest:
    """Writes a new generation and makes it the current one. Raises StoreError if it cannot be written."""
    name = _generations(folder).next_name()
    metadata = {FIRST: window.first.isoformat(), LAST: window.last.isoformat()}
    write_folder(folder / name, tables, {}, metadata)
    rows = {table: frame.height for table, frame in tables.items()}
    rules = msgspec.to_builtins(options)
    manifest = DerivedManifest(name, window.first, window.last, made, rules, dict(days), rows)
    _MANIFESTS.write(folder / DERIVED, manifest, made)
    return manifest


def remove_generations(folder: Path, current: str, before: int) -> None:
    """Removes all generations except the current one and `before` earlier ones, and the remains of a killed refresh."""
    names = _generations(folder).names()
    current_index = names.index(current)
    kept = names[max(0, current_index - before) : current_index + 1]
    remove_others(folder, frozenset({*CACHES, *kept}))


def _generations(folder: Path) -> Generations:
    return Generations(folder, "tables-", 6)


def count_of(folder: Path, pseudonyms: Collection[str]) -> int:
    """The number of values in all files that contain any of these pseudonyms."""
    wanted = sorted(set(pseudonyms) - {""})
    if not wanted:
        return 0
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    in_tables = sum(_in_frame(read_frame(path), wanted) for path in files if path.suffix == SUFFIX)
    others = (path.read_bytes() for path in files if path.suffix != SUFFIX)
    return in_tables + sum(content.count(name.encode()) for content in others for name in wanted)


def _in_frame(frame: pl.DataFrame, wanted: list[str]) -> int:
    texts = [column for column in frame.iter_columns() if column.dtype == pl.String]
    texts += [column.explode() for column in frame.iter_columns() if column.dtype == pl.List(pl.String)]
    return sum(int(text.str.contains_any(wanted).sum()) for text in texts)
