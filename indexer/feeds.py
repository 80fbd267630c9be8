"""Catalog feeds in JSON lines: every good row as a product, every bad one set aside with its line and its reason.

Set aside: what is not UTF-8, not JSON or not an object, a line over a megabyte, an id that was there before (the first
stays, across feeds too), and what `indexer.rows` says in its table. Blank lines are nothing. A file that breaks off
raises FeedError after the rows before the break: a broken file must never look like a small catalog.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from indexer.lines import MAX_LINE, Progress, feed_size, read_lines
from indexer.mapping import FeedMapping
from indexer.rows import RowReader
from retrieval.close_names import close_names
from retrieval.errors import RowError
from retrieval.records import Product

_EXCERPT = 120


@dataclass(frozen=True, slots=True)
class Row:
    """A product with the line of its feed, counted from 1."""

    line: int
    product: Product


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was set aside. `reason` is short and the same for every row with this fault, so that it counts."""

    file: str
    line: int
    reason: str
    detail: str
    excerpt: str
    """The beginning of the line, for people."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A value that was dropped while its row stayed, or a name of the mapping that no row of any feed had (line 0)."""

    file: str
    line: int
    field: str
    reason: str
    detail: str


def _ignore(*_: object) -> None:
    pass


def read_feed(
    path: str,
    mapping: FeedMapping,
    reject: Callable[[Rejected], None],
    *,
    note: Callable[[Noted], None] = _ignore,
    progress: Progress = _ignore,
) -> Iterator[Row]:
    """The rows of one feed; "-" is standard input. See `read_feeds`."""
    return read_feeds([path], mapping, reject, note=note, progress=progress)


def read_feeds(
    paths: Sequence[str],
    mapping: FeedMapping,
    reject: Callable[[Rejected], None],
    *,
    note: Callable[[Noted], None] = _ignore,
    progress: Progress = _ignore,
) -> Iterator[Row]:
    """The rows of several feeds, one after the other, as one catalog.

    `progress` counts over all of them; the total is None where one is standard input or a pipe. Raises FeedError for a
    feed that cannot be opened (before the first row, when it is missing) or breaks off (after its rows before that).
    """
    sizes = [feed_size(path) for path in paths]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    before = 0
    reader = _FeedReader(RowReader(mapping), reject, note)
    for path in paths:
        consumed = 0

        def report(count: int, before: int = before) -> None:
            nonlocal consumed
            consumed = count
            progress(before + count, total)

        yield from reader.rows(path, report)
        before += consumed
    reader.note_unseen(", ".join(paths))


class _FeedReader:
    """What stays the same from feed to feed: the mapping, the hooks and the ids that were there."""

    def __init__(self, rows: RowReader, reject: Callable[[Rejected], None], note: Callable[[Noted], None]) -> None:
        self._rows = rows
        self._reject = reject
        self._note = note
        self._ids: set[str] = set()
        self._file = ""
        self._line = 0

    def rows(self, path: str, consumed: Callable[[int], None]) -> Iterator[Row]:
        self._file = path
        for number, line in read_lines(path, consumed):
            if not line or line.isspace():
                continue
            self._line = number
            try:
                product = self._product(line)
            except RowError as error:
                self._reject(Rejected(path, number, error.reason, error.detail, _excerpt(line)))
            else:
                yield Row(number, product)

    def note_unseen(self, files: str) -> None:
        """Says which of the user's names no row had: most likely they are misspelled."""
        for name in sorted(self._rows.unseen):
            close = close_names(name, sorted(self._rows.names))
            advice = f"did you mean {' or '.join(close)}?" if close else "the mapping has no effect there"
            self._note(Noted(files, 0, name, "no row has this field", advice))

    def _product(self, line: bytes) -> Product:
        product = self._rows.read(_decoded(line), self._noted)
        if product.id in self._ids:
            raise RowError("duplicate id", repr(product.id))
        self._ids.add(product.id)
        return product

    def _noted(self, field: str, reason: str, detail: str) -> None:
        self._note(Noted(self._file, self._line, field, reason, detail))


_decoder = msgspec.json.Decoder()


def _decoded(line: bytes) -> dict[str, object]:
    if len(line) > MAX_LINE:
        raise RowError("over 1 MB", f"a line may have {MAX_LINE:,} bytes")
    try:
        row = _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise RowError("not UTF-8", str(error)) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        row = _lenient(line, error)
    if not isinstance(row, dict):
        raise RowError("not an object", "a row is a JSON object with the fields of one product")
    return row


def _lenient(line: bytes, error: Exception) -> object:
    """JSON with NaN and Infinity, or numbers past a float's range, as some writers make it; the field is judged later.

    Lone surrogates are refused here: they could never be written again.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as cause:
        raise RowError("not UTF-8", str(cause)) from cause
    try:
        row = json.loads(text)
        text = json.dumps(row, ensure_ascii=False)
        text.encode()
    except (ValueError, RecursionError):
        raise RowError("not JSON", str(error)) from error
    return row


def _excerpt(line: bytes) -> str:
    text = line[:_EXCERPT].decode(errors="replace").strip()
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
