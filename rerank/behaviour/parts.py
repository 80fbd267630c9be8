"""Parts: what each day gives to the tables, kept as files, so that a refresh reads these and not all events again.

A part is made of one day's events, those of robots left out. A table is made of its parts over all days of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl
import xxhash

from rerank.behaviour.cleaning import CLEAN_SCHEMA
from rerank.behaviour.days import Day
from rerank.behaviour.folders import SUFFIX, read_frame, write_folder
from rerank.behaviour.options import DeriveOptions, Window

WHO = "who"
"""The column that tells shoppers apart: the visit's shopper, else its session, else its query id. Where none of its
events names a shopper, a visit counts as somebody of its own."""
EMPTY = pl.DataFrame(schema={**CLEAN_SCHEMA, WHO: pl.String()})


@dataclass(frozen=True, slots=True)
class Part:
    """What one day gives: `make` takes events of `CLEAN_SCHEMA` with `who`, of one day, ordered by visit and time."""

    name: str
    make: Callable[[pl.DataFrame], pl.DataFrame]
    version: int = 1
    """Counts up when `make` changes."""


class PartReader(Protocol):
    """Gives a part over all days of the window."""

    def __call__(self, part: Part) -> pl.DataFrame:
        """All rows that the days have given, in their order, with `day` (Int32, days since 1970)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What tables are made with, besides their parts."""

    window: Window
    options: DeriveOptions
    products: pl.DataFrame | None
    """product_id, category (path, as in "Tools > Drills"), created; None where the catalog is not known."""


@dataclass(frozen=True, slots=True)
class TableMaker:
    """One derived table, or several that are made together: the parts they are made of, and how."""

    name: str
    parts: tuple[Part, ...]
    make: Callable[[PartReader, Context], pl.DataFrame | Mapping[str, pl.DataFrame]]
    """Gives the table, or several by their names."""


class DayParts:
    """The parts of all days of a window, those that are missing made; counts both."""

    def __init__(self, folder: Path, parts: Iterable[Part]) -> None:
        self._folder = folder
        self._parts: Mapping[str, Part] = {part.name: part for part in parts}
        self._versions = " ".join(f"{name}:{part.version}" for name, part in sorted(self._parts.items()))
        self.folders: dict[int, Path] = {}
        self.made = 0

    def add(self, day: Day, flagged: Sequence[int]) -> None:
        """Takes the next day; the visits that are flagged (its own numbers, ascending) are left out."""
        left_out = xxhash.xxh3_64_hexdigest(" ".join(map(str, (self._versions, *flagged))).encode())
        folder = self._folder / f"{day.folder.name}-parts-{left_out}"
        if not folder.exists():
            self.made += 1
            events = with_who(day.events().filter(~pl.col("visit").is_in(flagged)))
            write_folder(folder, {part.name: part.make(events) for part in self._parts.values()}, {}, {})
        self.folders[day.number] = folder

    def read(self, part: Part) -> pl.DataFrame:
        """All rows of a part, in the order of days, with `day`."""
        return read_part(part, self.folders)


def read_part(part: Part, folders: Mapping[int, Path]) -> pl.DataFrame:
    """All rows of a part from the folders of days, in their order, with `day`."""
    empty = part.make(EMPTY).with_columns(day=pl.lit(0, pl.Int32))
    tables = [
        read_frame(folder / f"{part.name}{SUFFIX}").with_columns(day=pl.lit(day, pl.Int32))
        for day, folder in folders.items()
    ]
    return pl.concat([empty, *tables])


def with_who(events: pl.DataFrame) -> pl.DataFrame:
    """The events with `who`, and with their visit's shopper where they do not name it."""
    shopper = pl.col("shopper").max().over("visit")
    session = pl.col("session").max().over("visit")
    named = events.with_columns(shopper=shopper, _session=session, _asked=pl.col("query_id").max().over("visit"))
    who = (
        pl.when(shopper_is_known()).then("shopper").when(pl.col("_session") != "").then("_session").otherwise("_asked")
    )
    return named.with_columns(who.alias(WHO)).drop("_session", "_asked")


def shopper_is_known() -> pl.Expr:
    """Whether a shopper's pseudonym is there."""
    return pl.col("shopper") != ""
