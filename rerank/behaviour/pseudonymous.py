"""The proof that a shopper is gone from the derived tables: every file is read, of all days and all generations."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl

from rerank.behaviour.folders import SUFFIX, read_frame
from rerank.behaviour.parts import WHO


def shoppers_in(folder: Path) -> set[str]:
    """All pseudonyms of shoppers, and of visits whose shopper is not known, that any file holds."""
    found: set[str] = set()
    for frame in _frames(folder):
        for column in {"shopper", WHO} & set(frame.columns):
            found.update(frame[column].drop_nulls().unique())
    return found - {""}


def count_of(folder: Path, pseudonyms: Collection[str]) -> int:
    """In how many values of all files any of these pseudonyms stands, wherever in a text it does."""
    wanted = sorted(set(pseudonyms) - {""})
    if not wanted:
        return 0
    in_tables = sum(_in_frame(frame, wanted) for frame in _frames(folder))
    others = (path.read_bytes() for path in _files(folder) if path.suffix != SUFFIX)
    return in_tables + sum(content.count(name.encode()) for content in others for name in wanted)


def _in_frame(frame: pl.DataFrame, wanted: list[str]) -> int:
    texts = [column for column in frame.iter_columns() if column.dtype == pl.String]
    texts += [column.explode() for column in frame.iter_columns() if column.dtype == pl.List(pl.String)]
    return sum(int(text.str.contains_any(wanted).sum()) for text in texts)


def _frames(folder: Path) -> Iterator[pl.DataFrame]:
    return (read_frame(path) for path in _files(folder) if path.suffix == SUFFIX)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
