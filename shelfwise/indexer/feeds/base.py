"""Records and formats of feeds: how a feed is read, and how a record becomes a row for the mapping.

Reading (`read`) happens once, in the process that opens the feed, and does as little per row as possible. The rest
(`rows`, `assemble`) happens wherever products are made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from shelfwise.indexer.feeds.io import FeedSource
from shelfwise.indexer.feeds.mapping import DropHandler, FeedMapping, MappingRule
from shelfwise.retrieval.errors import RowError
from shelfwise.retrieval.records import Variant

EXCERPT = 1_000
"""The number of characters that are kept of a row that is too long."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One row as in its feed, or the rows that make one product; a struct, because it is passed between processes.

    `row` is the line's bytes for JSON, an object for a format of single rows, a list of objects (a product's own row,
    then those of its variants) for a format of several rows.
    """

    file: str
    line: int
    """The line where it begins, from 1; in Parquet the number of the row."""
    format: str
    row: object


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that cannot be used. `reason` is short and the same for all rows with this fault, for counting.

    Written as JSON lines, these are a feed themselves (the format "rejected"): a repaired `row` is read again.
    """

    file: str
    line: int
    reason: str
    detail: str
    format: str
    row: object
    """A JSON value: the decoded row, or the text of a line that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class FeedNote:
    """A value that was dropped from a row, or a remark on a whole feed (line 0)."""

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
"""Receives a feed's path, its columns under known names, and the mapping; raises FeedError if one is missing."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed to be read: its bytes, the user's mapping, and the hook for dropped values."""

    source: FeedSource
    mapping: FeedMapping
    note: NoteHandler = ignore
    check_columns: ColumnCheck = ignore
    """The check of a table whose columns may have any names."""


def object_row(row: object) -> Sequence[Row]:
    """The rows of a record that contains an object or a list of objects.

    Raises RowError for other values.
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
    """The name to display."""
    read: Callable[[Feed], Iterator[Record | RejectedRow]]
    rules: Mapping[str, MappingRule] = field(default_factory=dict)
    """The meaning of the format's columns, which replaces the default names; the user's mapping replaces both."""
    rows: Callable[[object], Sequence[Row]] = object_row
    """The decoded row or rows of a record. Raises RowError if it cannot be decoded."""
    assemble: Callable[[Sequence[Row], DropHandler, datetime], tuple[Row, tuple[Variant, ...]]] = (
        lambda rows, _note, _now: (rows[0], ())
    )
    """One row for the rules, and the product's variants, as of a time, which decides the valid sale prices."""
    has_columns: Callable[[Collection[str]], bool] = lambda _names: False
    """Whether the columns of a table are those of this format."""
    begins: Callable[[bytes], bool] = lambda _head: False
    """Whether the beginning of a feed, without blanks before it, is that of this format."""
