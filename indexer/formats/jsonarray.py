"""A JSON array of products, cut into its elements as it streams in.

Brackets are counted outside strings, so that one malformed element is one bad row and not the end of the feed. An
element's bytes go on undecoded, as a line of JSON lines would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from indexer.formats.format import Feed, Format
from indexer.formats.jsonlines import json_rows, too_long
from indexer.formats.objects import assemble_objects
from indexer.formats.records import Record, Rejected
from indexer.lines import MAX_LINE, Source
from retrieval.errors import FeedError

_LONGEST = 16 * MAX_LINE
_LONGEST_BEFORE = 1_000
"""Bytes that a pattern of what stands before an array may match."""
# A bracket or a comma, behind anything without: plain text and whole strings. JSON has no line end inside a string, but
# careless writers do: such a string ends at a quote with a mark of structure behind it; where there is none, its first
# quote is a stray one. Atomic, so that nothing is tried twice; and no choice depends on where a chunk ended.
_STRINGS = (
    rb'"(?>(?:[^"\\\n]++|\\[^\n])*)"|"(?>(?:[^"\\]++|\\.)*)"(?=\s*+[,:}\]])|"(?=(?>(?:[^"\\]++|\\.)*)"\s*+[^\s,:}\]])'
)
_MARK = re.compile(rb'(?>(?:[^"{}\[\],]++|' + _STRINGS + rb")*)([{}\[\],])", re.DOTALL)
_INNER = re.compile(rb'(?>(?:[^"{}\[\]]++|' + _STRINGS + rb")*)([{}\[\]])", re.DOTALL)


def read_array(feed: Feed, inside: re.Pattern[bytes] | None = None) -> Iterator[Record | Rejected]:
    """A record for each element, with the line on which it begins.

    Where the array stands inside something else, `inside` matches what is before it, up to its bracket; arrays that
    follow are read, too. Raises FeedError for what is no array, never ends, goes on behind its end, or has an element
    over 16 MB.
    """
    path = feed.source.path
    for line, element in _Elements(feed.source, inside):
        if len(element) > MAX_LINE:
            yield too_long(path, line, "json", element)
        else:
            yield Record(path, line, "json", element)


class _Elements:
    """The elements of the array in a source. The buffer never holds more than one element and one chunk."""

    def __init__(self, source: Source, inside: re.Pattern[bytes] | None) -> None:
        self._source = source
        self._inside = inside
        self._chunks = source.chunks()
        self._buffer = b""
        self._start = 0
        """Where the element begins, or the text between two."""
        self._place = 0
        """What lies before was looked at."""
        self._line = 1
        """The line of `_start`."""
        self._depth = 0
        self._needed = 0

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
        """An array begins before a place of the buffer."""
        self._line += self._buffer.count(b"\n", self._start, start)
        self._start = self._place = start

    def _find(self, inside: re.Pattern[bytes]) -> bool:
        """Goes to the next array; False where there is none."""
        while (match := inside.search(self._buffer, self._start)) is None:
            self._begin(max(self._start, len(self._buffer) - _LONGEST_BEFORE))
            if not self._more():
                return False
        self._begin(match.end())
        return True

    def _array(self) -> Iterator[tuple[int, bytes]]:
        self._depth = 1
        while self._depth:
            match = (_MARK if self._depth == 1 else _INNER).match(self._buffer, self._place)
            if match is None:
                if not self._more():
                    raise self._source.broken("the array is not closed")
                continue
            self._place = match.end()
            yield from self._mark(match[1])

    def _mark(self, mark: bytes) -> Iterator[tuple[int, bytes]]:
        if mark in b"{[":
            self._depth += 1
        elif mark in b"}]":
            self._depth -= 1
        if (self._depth == 1 and mark == b",") or not self._depth:
            yield from self._element(self._place - 1)

    def _element(self, end: int) -> Iterator[tuple[int, bytes]]:
        raw = self._buffer[self._start : end]
        element = raw.strip()
        if element:
            yield self._line + raw[: raw.index(element[:1])].count(b"\n"), element
        self._line += self._buffer.count(b"\n", self._start, self._place)
        self._source.line = self._line - 1
        self._start = self._place

    def _more(self) -> bool:
        """Takes chunks until there is enough to look again: as much as there was, so that nothing is looked at often.

        False at the end of the feed.
        """
        self._buffer = self._buffer[self._start :]
        self._place -= self._start
        self._start = 0
        if len(self._buffer) > _LONGEST:
            fault = f"an element has over {_LONGEST // MAX_LINE} MB; a row may have {MAX_LINE:,} bytes"
            raise FeedError(f"{self._source.path}: line {self._line:,}: {fault}")
        parts, size = [self._buffer], 0
        while size <= len(self._buffer) - self._place and (chunk := next(self._chunks, b"")):
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
                raise FeedError(f"{self._source.path}: line {self._line:,}: more behind the end of the JSON array")
            self._start = self._place = len(self._buffer)
            if not self._more():
                return


JSON_ARRAY = Format("json", "JSON array", read_array, rows=json_rows, assemble=assemble_objects)
