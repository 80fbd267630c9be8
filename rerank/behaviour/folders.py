"""Folders of Parquet files that appear whole or not at all, and are never changed afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from retrieval.errors import StoreDamagedError, StoreError
from retrieval.manifest import sync

SUFFIX = ".parquet"
_UNFINISHED = ".making-"


def write_folder(
    folder: Path, frames: Mapping[str, pl.DataFrame], facts: Mapping[str, bytes], metadata: Mapping[str, str]
) -> None:
    """Makes a folder of one Parquet file a frame and one file a fact, all on the disk before the folder has its name.

    `metadata` goes into every Parquet file. A folder that has this name already is replaced. Raises StoreError where
    it cannot be written.
    """
    scratch = folder.with_name(f"{_UNFINISHED}{folder.name}")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for name, frame in frames.items():
            frame.write_parquet(scratch / f"{name}{SUFFIX}", metadata=dict(metadata))
        for name, content in facts.items():
            (scratch / name).write_bytes(content)
        for path in (*scratch.iterdir(), scratch):
            sync(path)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
        sync(folder.parent)
    except (OSError, PolarsError) as error:
        raise StoreError(f"{folder} cannot be written ({error}); see to the disk and to the rights to it") from error


def read_frame(path: Path) -> pl.DataFrame:
    """A Parquet file that `write_folder` wrote; raises StoreDamagedError where it cannot be read."""
    try:
        return pl.read_parquet(path)
    except (OSError, PolarsError) as error:
        message = f"{path} cannot be read ({error}); remove its folder and refresh: it is made again from the events"
        raise StoreDamagedError(message) from error


def remove_others(parent: Path, kept: frozenset[str]) -> None:
    """Removes all folders beside those that are kept, unfinished ones among them."""
    for folder in _folders(parent):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(parent: Path) -> Iterator[Path]:
    return (each for each in parent.iterdir() if each.is_dir()) if parent.is_dir() else iter(())
