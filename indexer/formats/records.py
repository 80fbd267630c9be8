"""What passes between a feed's reader and whoever makes products of it: raw records, and rows that were set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

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
class Rejected:
    """A row that was set aside. `reason` is short and the same for every row with this fault, so that it counts.

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
class Noted:
    """Something that was dropped while its row stayed, or that is true of a whole feed (line 0)."""

    file: str
    line: int
    field: str
    reason: str
    detail: str


Noting = Callable[[Noted], None]


def ignore(*_: object) -> None:
    """A hook that does not listen."""


def shortened(text: str) -> str:
    """The beginning of a row that is too long to keep."""
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."
