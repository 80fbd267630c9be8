"""Records and formats of feeds: how a feed is read, and how a record becomes a row for the mapping.

Reading (`read`) happens once, in the process that opens the feed, and does as little for a row as it can. The rest
(`rows`, `assemble`) happens wherever products are made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from indexer.feeds.io import FeedSource
from indexer.feeds.mapping import DropHandler, FeedMapping, MappingRule
from retrieval.errors import RowError
from retrieval.records import Variant

EXCERPT = 1_000
"""Characters that are kept of a row that is too long to keep."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One row as its feed has it, or the rows that make one product; a struct, because it travels between processes.

    `row` is the line's bytes for JSON, an object for a format of single rows, a list of objects (a product's own row
    first, then those of its variants) for one of several.
    """

    file: str
    line: int
    """Where it begins, counted from 1; in Parquet the number of the row."""
    format: str
    row: object


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that cannot be used. `reason` is short and the same for every row with this fault, so that it counts.

    As one JSON object a line, these are a feed themselves (the format "rejected"): the repaired `row` is read again.
    """

    file: str
    line: int
    reason: str
    detail: str
    format: str
    row: object
    """What JSON can hold: the decoded row, or the text of a line that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class FeedNote:
    """Something that was dropped while its row stayed, or that is true of a whole feed (line 0)."""

    file: str
    line: int
    field: str
    reason: str
    detail: str


NoteHandler = Callable[[FeedNote], None]


def ignore(*_: object) -> None:
    """A hook that does nothing."""


def shorten(text: str) -> str:
    """The beginning of a row that is too long to keep."""
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."


Row = Mapping[str, object]


ColumnCheck = Callable[[str, Sequence[str], FeedMapping], None]
"""Receives a feed's path, its columns under known names, and the mapping; raises FeedError where one is missing."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed about to be read: its bytes, the user's mapping, and the hook for what is dropped on the way."""

    source: FeedSource
    mapping: FeedMapping
    note: NoteHandler = ignore
    check_columns: ColumnCheck = ignore
    """Of a table whose columns have any names."""


def object_row(row: object) -> Sequence[Row]:
    """The rows of a record that holds one object, or a list of them.

    Raises RowError for anything else.
    """
    values = row if isinstance(row, list) and row else [row]
    rows = [one for one in values if isinstance(one, Mapping)]
    if len(rows) < len(values):
        raise RowError("not an object", "a row is a JSON object with the fields of one product or event")
    return rows


@dataclass(frozen=True, slots=True)
class FeedFormat:
    """One format of feeds."""

    name: str
    title: str
    """What people call it."""
    read: Callable[[Feed], Iterator[Record | RejectedRow]]
    rules: Mapping[str, MappingRule] = field(default_factory=dict)
    """What the columns of the format mean, over the names known by default; the user's mapping goes over both."""
    rows: Callable[[object], Sequence[Row]] = object_row
    """The decoded row or rows of a record. Raises RowError for what cannot be decoded."""
    assemble: Callable[[Sequence[Row], DropHandler, datetime], tuple[Row, tuple[Variant, ...]]] = (
        lambda rows, _note, _now: (rows[0], ())
    )
    """One row for the rules, and the product's variants, as of a time: it decides which sale prices hold."""
    has_columns: Callable[[Collection[str]], bool] = lambda _names: True
    """Whether the columns of a table are those of this format."""
