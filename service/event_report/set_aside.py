"""What cannot be learned from and was set aside, by reason, at imports and by cleaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from retrieval.errors import StoreDamagedError

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class RowExample:
    """A row of a log."""

    file: str
    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class EventExample:
    """An event of the store: one shopper's, so what it was about is not told."""

    time: datetime
    kind: str


@dataclass(frozen=True, slots=True)
class RowsAside:
    """Rows of one reason."""

    reason: str
    count: int
    examples: tuple[RowExample, ...]


@dataclass(frozen=True, slots=True)
class EventsAside:
    """Events of one reason."""

    reason: str
    count: int
    examples: tuple[EventExample, ...]


@dataclass(frozen=True, slots=True)
class SetAside:
    """By reason, the most frequent first, with the first examples."""

    rows: tuple[RowsAside, ...]
    """At imports."""
    events: tuple[EventsAside, ...]
    """By cleaning, of the events in the window."""


class _Row(msgspec.Struct):
    file: str
    line: int
    reason: str
    detail: str = ""


def rows_aside(paths: Iterable[Path]) -> tuple[RowsAside, ...]:
    """What imports have written to the files of rows that they set aside, the oldest first.

    Raises StoreDamagedError for a file that is something else.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, list[RowExample]] = {}
    for path in paths:
        for row in _rows(path):
            counts[row.reason] += 1
            if counts[row.reason] <= _EXAMPLES:
                examples.setdefault(row.reason, []).append(RowExample(row.file, row.line, row.detail))
    return tuple(RowsAside(reason, count, tuple(examples[reason])) for reason, count in _ordered(counts))


def _rows(path: Path) -> Iterator[_Row]:
    decoder = msgspec.json.Decoder(_Row)
    try:
        with path.open("rb") as file:
            yield from map(decoder.decode, file)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); remove it, an import makes it anew") from error


def events_aside(aside: pl.DataFrame) -> tuple[EventsAside, ...]:
    """What cleaning has set aside."""
    counts = dict(aside.group_by("reason").len().iter_rows())
    first = aside.sort("time", "key").group_by("reason", maintain_order=True).head(_EXAMPLES)
    examples: dict[str, list[EventExample]] = {}
    for reason, *told in first.select("reason", "time", "kind").iter_rows():
        examples.setdefault(reason, []).append(EventExample(*told))
    return tuple(EventsAside(reason, count, tuple(examples[reason])) for reason, count in _ordered(counts))


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
