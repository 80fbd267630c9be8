"""JSON feeds: an array split into its elements as it is read, JSON lines, rejected rows, and variants in objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from shelfwise.indexer.feeds import values
from shelfwise.indexer.feeds.base import Feed, FeedFormat, Record, RejectedRow, Row, shorten
from shelfwise.indexer.feeds.io import MAX_LINE, FeedSource, iterate_lines
from shelfwise.indexer.feeds.mapping import DropHandler
from shelfwise.indexer.feeds.values import UnusableValueError
from shelfwise.indexer.feeds.variants import amount, check_count
from shelfwise.retrieval.errors import FeedError, RowError
from shelfwise.retrieval.records import Availability, Variant

_CODES = ("sku", "gtin", "ean", "upc", "mpn")


def assemble_objects(rows: Sequence[Row], note: DropHandler, _now: datetime) -> tuple[Row, tuple[Variant, ...]]:
    """The row without its variants, and the variants: a list of objects with id, options, price, availability,
    identifiers (or sku, gtin, ean, upc, mpn) and image. Any other value under that name is an attribute.

    Raises RowError for a variant with a broken price or a value of the wrong type.
    """
    row = rows[0]
    listed = row.get("variants")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, Mapping) for one in listed):
        return row, ()
    check_count(listed)
    rest = {name: value for name, value in row.items() if name != "variants"}
    return rest, tuple(_variant(one, position, note) for position, one in enumerate(listed, 1))


def _variant(row: Row, position: int, note: DropHandler) -> Variant:
    codes = {kind: row[kind] for kind in _CODES if row.get(kind) is not None}
    identifiers = {**codes, **_object("variants.identifiers", row.get("identifiers"))}
    options = _object("variants.options", row.get("options"))
    return Variant(
        id=_text("variants.id", row.get("id") or row.get("sku")) or str(position),
        options={name: spelled for name, value in options.items() if (spelled := _text("variants.options", value))},
        price=amount("variants.price", row.get("price")),
        availability=_availability(row.get("availability"), note),
        identifiers={
            kind: texts for kind, value in identifiers.items() if (texts := values.texts("variants.identifiers", value))
        },
        image=_text("variants.image", row.get("image")),
    )


def _object(field: str, value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise values.wrong_type(field, value)
    return value


def _text(field: str, value: object) -> str:
    return "" if value is None else values.text(field, value)


def _availability(value: object, note: DropHandler) -> Availability | None:
    if value is None or value == "":
        return None
    try:
        return values.availability("variants.availability", value)
    except UnusableValueError as error:
        note("variants.availability", error.reason, error.detail)
        return None


TOO_LONG = "over 1 MB"
_decoder = msgspec.json.Decoder()
_rejected_decoder = msgspec.json.Decoder(RejectedRow)


def read_json_lines(feed: Feed, named: str = "jsonl") -> Iterator[Record | RejectedRow]:
    """A record for each line that is not blank, with its bytes not yet decoded."""
    path = feed.source.path
    for number, line in iterate_lines(feed.source):
        if len(line) > MAX_LINE:
            yield reject_too_long(path, number, named, line)
        elif line and not line.isspace():
            yield Record(path, number, named, line)


def reject_too_long(path: str, line: int, named: str, row: bytes) -> RejectedRow:
    """A row that has more than MAX_LINE bytes."""
    text = shorten(row[:MAX_LINE].decode(errors="replace"))
    return RejectedRow(path, line, TOO_LONG, f"a row may have {MAX_LINE:,} bytes", named, text)


def json_rows(row: object) -> Sequence[Row]:
    """The object of a line: from its bytes, its text, or already decoded.

    Raises RowError if it is not UTF-8, not JSON or not an object.
    """
    line = row.encode(errors="surrogatepass") if isinstance(row, str) else row
    value = decode_line(line) if isinstance(line, bytes) else line
    if not isinstance(value, dict):
        raise RowError("not an object", "a row is a JSON object with the fields of one product or event")
    return (value,)


def decode_line(line: bytes) -> object:
    """The value of a line of JSON. Raises RowError if it has none."""
    try:
        return _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise RowError("not UTF-8", str(error)) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        return _lenient(line, error)


def _lenient(line: bytes, error: Exception) -> object:
    """JSON with NaN and Infinity, or numbers beyond a float's range, as some writers make it; fields are checked later.

    Lone surrogates are refused here, since they could never be written again.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as cause:
        raise RowError("not UTF-8", str(cause)) from cause
    try:
        row = json.loads(text)
        json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise RowError("not JSON", str(error)) from error
    return row


def _is_rejected(line: bytes) -> bool:
    """Whether a line is from a file of rejected rows."""
    try:
        value = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() == set(RejectedRow.__dataclass_fields__)


def unwrap_rejected(record: Record) -> Record:
    """The record inside a line of rejected rows, with the place of that line. Raises RowError if there is none."""
    line = record.row if isinstance(record.row, bytes) else b""
    try:
        inner = _rejected_decoder.decode(line)
    except UnicodeDecodeError as error:
        raise RowError("not UTF-8", str(error)) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RowError("not a rejected row", str(error)) from error
    return Record(record.file, record.line, inner.format, inner.row)


JSON_LINES = FeedFormat(
    "jsonl",
    "JSON lines",
    read_json_lines,
    rows=json_rows,
    assemble=assemble_objects,
    begins=lambda head: not head or head.startswith(b"{"),
)
REJECTED = FeedFormat(
    "rejected",
    "rejected rows",
    lambda feed: read_json_lines(feed, "rejected"),
    begins=lambda head: _is_rejected(head.split(b"\n", 1)[0]),
)


_LONGEST = 16 * MAX_LINE
_LONGEST_BEFORE = 1_000
"""Maximum bytes that may precede an array."""
# A bracket or a comma, after any text without one: plain text and whole strings. JSON has no line ends inside strings,
# but careless writers do: such a string ends at a quote followed by a structural character; if there is none, its first
# quote is a stray one. Atomic, so that nothing is tried twice; and no choice depends on where a chunk ended.
_STRINGS = (
    rb'"(?>(?:[^"\\\n]++|\\[^\n])*)"|"(?>(?:[^"\\]++|\\.)*)"(?=\s*+[,:}\]])|"(?=(?>(?:[^"\\]++|\\.)*)"\s*+[^\s,:}\]])'
)
_MARK = re.compile(rb'(?>(?:[^"{}\[\],]++|' + _STRINGS + rb")*)([{}\[\],])", re.DOTALL)
_INNER = re.compile(rb'(?>(?:[^"{}\[\]]++|' + _STRINGS + rb")*)([{}\[\]])", re.DOTALL)


def read_json_array(feed: Feed, inside: re.Pattern[bytes] | None = None) -> Iterator[Record | RejectedRow]:
    """A record for each element, with the line on which it begins.

    If the array is inside something else, `inside` matches what is before it, up to its bracket; further arrays are
    read, too. Raises FeedError for input that is not an array, never ends, continues after its end, or has an element
    over 16 MB.
    """
    path = feed.source.path
    for line, element in _ArrayElements(feed.source, inside):
        if len(element) > MAX_LINE:
            yield reject_too_long(path, line, "json", element)
        else:
            yield Record(path, line, "json", element)


class _ArrayElements:
    """The elements of the array in a source, undecoded.

    Brackets are counted outside strings, so that a malformed element is one bad row and not the end of the feed. The
    buffer never holds more than one element and one chunk.
    """

    def __init__(self, source: FeedSource, inside: re.Pattern[bytes] | None) -> None:
        self._source = source
        self._inside = inside
        self._chunks = source.read_utf8()
        self._buffer = b""
        self._start = 0
        """The start of the element, or of the text between two elements."""
        self._position = 0
        """The position up to which the buffer was searched."""
        self._line = 1
        """The line of `_start`."""
        self._depth = 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        if self._inside is not None:
            while self._find(self._inside):
                yield from self._array()
            return
        while not self._buffer.strip():
            if not self._more():
                return
        if self._buffer.lstrip()[:1] != b"[":
            raise FeedError(f"{self._source.path}: line {self._line:,}: a JSON array begins with '['")
        self._begin(self._buffer.index(b"[") + 1)
        yield from self._array()
        self._check_end()

    def _begin(self, start: int) -> None:
        self._line += self._buffer.count(b"\n", self._start, start)
        self._start = self._position = start

    def _find(self, inside: re.Pattern[bytes]) -> bool:
        while (match := inside.search(self._buffer, self._start)) is None:
            self._begin(max(self._start, len(self._buffer) - _LONGEST_BEFORE))
            if not self._more():
                return False
        self._begin(match.end())
        return True

    def _array(self) -> Iterator[tuple[int, bytes]]:
        self._depth = 1
        while self._depth:
            match = (_MARK if self._depth == 1 else _INNER).match(self._buffer, self._position)
            if match is None:
                if not self._more():
                    raise self._source.truncation_error("the array is not closed")
                continue
            self._position = match.end()
            mark = match[1]
            self._depth += (mark in b"{[") - (mark in b"}]")
            if (self._depth == 1 and mark == b",") or not self._depth:
                yield from self._element()

    def _element(self) -> Iterator[tuple[int, bytes]]:
        """The element that ends before the last mark."""
        raw = self._buffer[self._start : self._position - 1]
        element = raw.strip()
        if element:
            yield self._line + raw[: raw.index(element[:1])].count(b"\n"), element
        self._line += self._buffer.count(b"\n", self._start, self._position)
        self._source.line = self._line - 1
        self._start = self._position

    def _more(self) -> bool:
        """Reads chunks until the buffer has doubled, so that nothing is searched often.

        Returns False at the end of the feed.
        """
        self._buffer = self._buffer[self._start :]
        self._position -= self._start
        self._start = 0
        if len(self._buffer) > _LONGEST:
            fault = f"an element has over {_LONGEST // MAX_LINE} MB; a row may have {MAX_LINE:,} bytes"
            raise FeedError(f"{self._source.path}: line {self._line:,}: {fault}")
        parts = [self._buffer]
        size = 0
        while size <= len(self._buffer) - self._position and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            size += len(chunk)
        self._buffer = b"".join(parts)
        return size > 0

    def _check_end(self) -> None:
        while True:
            rest = self._buffer[self._start :]
            behind = rest.lstrip()
            self._line += rest[: len(rest) - len(behind)].count(b"\n")
            if behind:
                raise FeedError(f"{self._source.path}: line {self._line:,}: text after the end of the JSON array")
            self._start = self._position = len(self._buffer)
            if not self._more():
                return


JSON_ARRAY = FeedFormat(
    "json",
    "JSON array",
    read_json_array,
    rows=json_rows,
    assemble=assemble_objects,
    begins=lambda head: head.startswith(b"["),
)
