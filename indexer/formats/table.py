"""Text in columns: which delimiter and which escaping a file has, its header, and its rows with true line numbers.

A row with more or fewer cells than the header is set aside. Where a stray quote has swallowed the lines after it, only
its own line is: reading goes on at the next line that is a whole row.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from indexer.formats.jsonlines import TOO_LONG
from indexer.formats.records import Rejected, shortened
from indexer.lines import MAX_LINE, Source, numbered_lines

DELIMITERS = ",;\t|"
NOT_UTF_8 = "not UTF-8"
WRONG_CELLS = "wrong number of cells"
EXTRA = ""
"""The key under which a row of another number of cells keeps what no column holds; a repaired row has it no more."""

_SAMPLE_ROWS = 2_000
_MAX_NAME = 200
_MAX_COLUMNS = 2_000
_FREE = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """How a text is divided: its columns, the mark between cells, and what stands before a quote inside a cell."""

    names: tuple[str, ...]
    delimiter: str
    escape: str | None = None
    """None where a quote inside a cell is doubled, as the standard has it; else the backslash."""
    first: int = 2
    """The line after the header."""

    def renamed(self, names: Mapping[str, str]) -> Table:
        """The same table with some columns under other names."""
        return replace(self, names=_unique([names.get(name, name) for name in self.names]))


def recognised_table(head: str, is_whole: bool, fewest: int = 2) -> Table | None:
    """The table that a text begins with, if its first line is a header of at least `fewest` columns.

    The delimiter is the one that divides the header most; the escaping is the one under which fewer of the first rows
    have a wrong number of cells.
    """
    lines = [f"{line}\n" for line in head.split("\n")]
    if not is_whole and len(lines) > 1:
        del lines[-1]  # most likely a part
    start = next((number for number, line in enumerate(lines) if not line.isspace()), None)
    if start is None:
        return None
    asked = lines[start].strip().removeprefix("sep=")
    is_asked = len(asked) == 1 and lines[start].startswith("sep=")
    start += is_asked
    sample = lines[start : start + _SAMPLE_ROWS]
    tables = [_table(sample, start, mark) for mark in (asked if is_asked else DELIMITERS)]
    table = max((table for table in tables if table), key=lambda table: len(table.names), default=None)
    if table is None or len(table.names) < fewest:
        return None
    return _escaping(table, sample)


def _table(lines: list[str], start: int, delimiter: str) -> Table | None:
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = next(reader, [])
    except csv.Error:
        return None
    while header and not header[-1].strip():
        header.pop()
    is_sane = 0 < len(header) <= _MAX_COLUMNS and all(len(name) <= _MAX_NAME for name in header)
    if not is_sane or not all(name.strip().isprintable() for name in header):
        return None
    return Table(_unique([name.strip() for name in header]), delimiter, first=start + reader.line_num + 1)


def _unique(names: list[str]) -> tuple[str, ...]:
    """The names, each once: a column without one, or with one that was there, gets its number."""
    found: dict[str, None] = {}
    for place, name in enumerate(names, 1):
        unique = name or f"column {place}"
        number = place
        while unique in found:
            unique = f"{name or 'column'} {number}"
            number += 1
        found[unique] = None
    return tuple(found)


def _escaping(table: Table, lines: list[str]) -> Table:
    if not any('\\"' in line for line in lines):
        return table
    escaped = replace(table, escape="\\")
    return min(table, escaped, key=lambda one: _misfits(one, lines))


def _misfits(table: Table, lines: list[str]) -> int:
    try:
        return sum(len(row) != len(table.names) for row in _reader(table, iter(lines)) if row)
    except csv.Error:
        return len(lines)


def _reader(table: Table, lines: Iterator[str]) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=table.delimiter, escapechar=table.escape)


class _TooLongError(Exception):
    """A row has more than MAX_LINE characters."""


class _Lines:
    """The lines of a table, as csv takes them; those of the row at hand are kept, and can be given again."""

    def __init__(self, source: Source, first: int) -> None:
        self._lines = numbered_lines(source)
        self._first = first
        self._again: deque[tuple[int, str, bool]] = deque()
        self._budget = _FREE
        self._size = 0
        self.taken: list[tuple[int, str, bool]] = []
        """Number, text, and whether it could not be decoded."""
        self.is_broken = False
        """Whether one of the row's lines could not be decoded."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._decoded()
        self.taken.append(line)
        _, text, is_broken = line
        if is_broken:
            self.is_broken = True
        self._size += len(text)
        if self._size > MAX_LINE:
            raise _TooLongError
        return text

    def _decoded(self) -> tuple[int, str, bool]:
        for number, line in self._lines:
            if number < self._first:
                continue
            self._budget += len(line)
            try:
                return number, line.decode() + "\n", False
            except UnicodeDecodeError:
                return number, line.decode(errors="replace") + "\n", True
        raise StopIteration

    def begin(self) -> None:
        """A new row begins."""
        self.taken.clear()
        self._size = 0
        self.is_broken = False

    def give_back(self, count: int) -> None:
        """The last lines of the row come again. Lines that stray quotes swallow again and again are bounded."""
        self._budget -= sum(len(line[1]) for line in self.taken)
        self._again.extendleft(reversed(self.taken[-count:]))
        del self.taken[-count:]

    @property
    def can_give_back(self) -> bool:
        """Whether the row has lines that could come again."""
        return len(self.taken) > 1 and self._budget > 0


class TableReader:
    """The rows of a table: a list of cells for each good one, as many as there are columns."""

    def __init__(self, source: Source, table: Table, named: str) -> None:
        self._source = source
        self._table = table
        self._format = named
        self._lines = _Lines(source, table.first)

    def __iter__(self) -> Iterator[tuple[int, list[str]] | Rejected]:
        """The line of each row and its cells, or what was set aside. Raises FeedError where the feed breaks off."""
        lines, width = self._lines, len(self._table.names)
        reader = _reader(self._table, lines)
        while True:
            lines.begin()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (_TooLongError, csv.Error) as error:
                yield self._unreadable(error)
                continue
            if not any(cells):
                continue
            if len(cells) == width and not lines.is_broken:
                yield lines.taken[0][0], cells
            else:
                yield from self._odd(cells)

    def _odd(self, cells: list[str]) -> Iterator[tuple[int, list[str]] | Rejected]:
        names, lines = self._table.names, self._lines
        extra = cells[len(names) :]
        if lines.is_broken:
            detail = f"a byte of it is none in {self._source.encoding}"
            yield self._rejected(NOT_UTF_8, detail, dict(zip(names, cells, strict=False)))
        elif extra and not any(map(str.strip, extra)):
            yield lines.taken[0][0], cells[: len(names)]
        elif len(cells) > 1 or cells[0].strip():
            detail = f"{len(cells):,} cells where the header has {len(names):,}"
            if self._go_back():
                cells = next(_reader(self._table, iter([text for _, text, _ in lines.taken])), cells)
                extra = cells[len(names) :]
            row = {**dict(zip(names, cells, strict=False)), EXTRA: [shortened(cell) for cell in extra[:_MAX_COLUMNS]]}
            yield self._rejected(WRONG_CELLS, detail, row)

    def _unreadable(self, error: Exception) -> Rejected:
        """What csv gives up at: a row or a cell that is too long, or a carriage return in the middle of a line."""
        text = shortened(self._lines.taken[0][1])
        self._go_back()
        if isinstance(error, _TooLongError) or "limit" in str(error):
            limit = csv.field_size_limit()
            return self._rejected(TOO_LONG, f"a row may have {MAX_LINE:,} bytes, a cell {limit:,} characters", text)
        return self._rejected("not a row", str(error), text)

    def _rejected(self, reason: str, detail: str, row: object) -> Rejected:
        return Rejected(self._source.path, self._lines.taken[0][0], reason, detail, self._format, row)

    def _go_back(self) -> bool:
        """To the first line inside the row that is a whole row by itself, if a quote that never ends began it."""
        lines = self._lines
        if lines.can_give_back:
            for count in range(len(lines.taken) - 1, 0, -1):
                if self._is_row(lines.taken[-count][1]):
                    lines.give_back(count)
                    return True
        return False

    def _is_row(self, line: str) -> bool:
        try:
            return len(next(_reader(self._table, iter([line])), [])) == len(self._table.names)
        except csv.Error:
            return False
