"""Generations of derived tables: each a folder written whole, and one manifest, replaced at once, that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from rerank.behaviour.folders import SUFFIX, remove_others, write_folder
from rerank.behaviour.options import DeriveOptions, Window
from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError, StoreMissingError
from retrieval.manifest import FileEntry, checksum, write_durably

DERIVED = "derived.json"
SCHEMA = 1
"""Counts up when the tables change so that an older program could not read them."""
FIRST, LAST = "shelfwise.window.first", "shelfwise.window.last"
"""Where a Parquet file's metadata has its window, ISO 8601."""
CACHES = ("days", "robots", "parts")
"""The folders beside the generations, of what was made on the way."""
_GENERATION = re.compile(r"tables-(\d{6,})")


class TableEntry(msgspec.Struct, frozen=True):
    """One table of a generation."""

    rows: int
    file: FileEntry


class DerivedManifest(msgspec.Struct, frozen=True):
    """What a generation of tables is made of."""

    schema: int
    folder: str
    first: datetime
    last: datetime
    made: datetime
    options: dict[str, Any]
    days: dict[str, str]
    """Day to the folder of its parts, whose name tells what it was made from."""
    tables: dict[str, TableEntry]


def read_manifest(folder: Path) -> DerivedManifest:
    """The manifest of the tables that are there.

    Raises StoreMissingError where there are none yet, StoreForeignError for those of another program's schema,
    StoreDamagedError for a manifest that cannot be read.
    """
    path = folder / DERIVED
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=DerivedManifest)
    except FileNotFoundError as error:
        raise StoreMissingError(f"{folder} has no derived tables yet; refresh them from the events") from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); refresh the tables: they are made anew") from error
    if manifest.schema != SCHEMA:
        message = f"{path} is in schema {manifest.schema}, this program reads {SCHEMA}; refresh the tables"
        raise StoreForeignError(message)
    return manifest


def publish(
    folder: Path,
    tables: Mapping[str, pl.DataFrame],
    days: Mapping[str, str],
    window: Window,
    options: DeriveOptions,
    made: datetime,
) -> DerivedManifest:
    """Writes a new generation and lets it be the one that is read. Raises StoreError where it cannot be written."""
    name = f"tables-{1 + max(_generations(folder), default=0):06d}"
    metadata = {FIRST: window.first.isoformat(), LAST: window.last.isoformat()}
    write_folder(folder / name, tables, {}, metadata)
    entries = {
        table: TableEntry(frame.height, _entry(folder / name / f"{table}{SUFFIX}")) for table, frame in tables.items()
    }
    told = msgspec.to_builtins(options)
    manifest = DerivedManifest(SCHEMA, name, window.first, window.last, made, told, dict(days), entries)
    try:
        write_durably(folder / DERIVED, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    except OSError as error:
        raise StoreError(f"{folder / DERIVED} cannot be written ({error}); see to the disk") from error
    return manifest


def remove_generations(folder: Path, current: str, before: int) -> None:
    """Removes all generations but the current one and so many before it, and what a killed refresh left."""
    earlier = sorted(number for number in _generations(folder) if number < int(current.removeprefix("tables-")))
    kept = {current, *(f"tables-{number:06d}" for number in earlier[len(earlier) - before :])}
    remove_others(folder, frozenset({*CACHES, *kept}))


def _generations(folder: Path) -> list[int]:
    names = (_GENERATION.fullmatch(each.name) for each in folder.iterdir()) if folder.is_dir() else ()
    return [int(name[1]) for name in names if name]


def _entry(path: Path) -> FileEntry:
    return FileEntry(path.stat().st_size, checksum(path))
