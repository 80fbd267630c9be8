"""JSON lines, one product a line; and the file of rejected rows, which is JSON lines of rows in their own formats."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import msgspec

from indexer.formats.format import Feed, Format, Row
from indexer.formats.objects import assemble_objects
from indexer.formats.records import Record, Rejected, shortened
from indexer.lines import MAX_LINE, numbered_lines
from retrieval.errors import RowError

TOO_LONG = "over 1 MB"
_decoder = msgspec.json.Decoder()
_rejected_decoder = msgspec.json.Decoder(Rejected)


def read_lines(feed: Feed, named: str = "jsonl") -> Iterator[Record | Rejected]:
    """A record for each line that is not blank, its bytes not yet decoded."""
    path = feed.source.path
    for number, line in numbered_lines(feed.source):
        if len(line) > MAX_LINE:
            yield too_long(path, number, named, line)
        elif line and not line.isspace():
            yield Record(path, number, named, line)


def too_long(path: str, line: int, named: str, row: bytes) -> Rejected:
    """A row that has more than MAX_LINE bytes."""
    text = shortened(row[:MAX_LINE].decode(errors="replace"))
    return Rejected(path, line, TOO_LONG, f"a row may have {MAX_LINE:,} bytes", named, text)


def json_rows(row: object) -> Sequence[Row]:
    """The object of a line: from its bytes, its text, or decoded already.

    Raises RowError for what is not UTF-8, not JSON or not an object.
    """
    value: object = row.encode(errors="surrogatepass") if isinstance(row, str) else row
    if isinstance(value, bytes):
        value = decoded(value)
    if not isinstance(value, dict):
        raise RowError("not an object", "a row is a JSON object with the fields of one product")
    return (value,)


def decoded(line: bytes) -> object:
    """The value of a line of JSON. Raises RowError where it has none."""
    try:
        return _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise RowError("not UTF-8", str(error)) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        return _lenient(line, error)


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


def read_rejected(feed: Feed) -> Iterator[Record | Rejected]:
    """A record for each line of a file of rejected rows."""
    return read_lines(feed, "rejected")


def is_rejected(line: bytes) -> bool:
    """Whether a line is one of a file of rejected rows."""
    try:
        value = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() == set(Rejected.__dataclass_fields__)


def unwrapped(record: Record) -> Record:
    """The record inside a line of rejected rows, with the place of that line. Raises RowError where there is none."""
    line = record.row if isinstance(record.row, bytes) else b""
    try:
        inner = _rejected_decoder.decode(line)
    except UnicodeDecodeError as error:
        raise RowError("not UTF-8", str(error)) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RowError("not a rejected row", str(error)) from error
    return Record(record.file, record.line, inner.format, inner.row)


JSON_LINES = Format("jsonl", "JSON lines", read_lines, rows=json_rows, assemble=assemble_objects)
REJECTED = Format("rejected", "rejected rows", read_rejected)
