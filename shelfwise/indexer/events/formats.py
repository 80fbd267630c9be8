"""Formats of event logs: how each is recognised, read into raw rows, and decoded.

Messages about a log of an unknown format show no personal data: the first line of a table may be a row, not a header.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from shelfwise.indexer.events.event_mapping import EventMapping, number
from shelfwise.indexer.feeds.base import ColumnCheck, Feed, FeedFormat, Record, RejectedRow
from shelfwise.indexer.feeds.csv import CSV_FORMAT, open_table, read_csv
from shelfwise.indexer.feeds.json import JSON_ARRAY, JSON_LINES, json_rows, read_json_array
from shelfwise.indexer.feeds.mapping import FeedMapping
from shelfwise.indexer.feeds.parquet import PARQUET
from shelfwise.indexer.rejects import mask_text
from shelfwise.retrieval.errors import FeedError, close_names, suggest_names
from shelfwise.retrieval.events.privacy import Masker
from shelfwise.retrieval.records import EventKind

_RESPONSE = re.compile(rb'\{\s*"(?:took|timed_out|_scroll_id|pit_id|_shards|hits)"\s*:')
_HITS = re.compile(rb'"hits"\s*:\s*\[')
_OWNERS = ("shopper", "session", "query_id")
_VALUE = re.compile(r"[\W\d_]*\d[\W\d_]*|.*(?:\d[-/.]\d+[-/.]\d|\d:\d\d).*|\d{8}T\d+.*")
"""Not a column name: digits without a letter (a number, an IP address), or a date or a time of day."""
_SHOWN = 60
"""The number of characters of a first line that a message shows."""
_SHOWN_NAMES = 20


def _read_table(feed: Feed) -> Iterator[Record | RejectedRow]:
    if open_table(feed) is None and feed.source.head.strip():
        raise FeedError(f"{feed.source.path}: line 1: is not a table header; add a line with column names")
    return read_csv(feed)


EVENT_FORMATS: Mapping[str, FeedFormat] = {
    one.name: one
    for one in (
        JSON_LINES,
        JSON_ARRAY,
        FeedFormat("response", "search responses", lambda feed: read_json_array(feed, _HITS), rows=json_rows),
        replace(CSV_FORMAT, read=_read_table),
        PARQUET,
    )
}


def event_format(feed: Feed, name: str, masker: Masker) -> FeedFormat:
    """The format of this name, or without a name that of the log (JSON lines if empty). Raises FeedError if unknown."""
    if name:
        if name not in EVENT_FORMATS:
            advice = suggest_names(name, EVENT_FORMATS, f"the formats are {', '.join(EVENT_FORMATS)}")
            raise FeedError(f"--format {name}: there is no such format; {advice}")
        return EVENT_FORMATS[name]
    head = feed.source.head.lstrip()
    if head.startswith(b"PAR1"):
        return EVENT_FORMATS["parquet"]
    if head.startswith(b"["):
        return EVENT_FORMATS["json"]
    if _RESPONSE.match(head):
        return EVENT_FORMATS["response"]
    if not head or head.startswith(b"{"):
        return EVENT_FORMATS["jsonl"]
    if open_table(feed, fewest=2) is None:
        line = feed.source.head.decode(errors="replace").lstrip().partition("\n")[0].rstrip()
        raise FeedError(
            f"{feed.source.path}: line 1: cannot be recognised: {mask_text(line, masker, _SHOWN)!r} does not begin "
            f"JSON or a table with a header; set its format with --format ({', '.join(EVENT_FORMATS)})"
        )
    return EVENT_FORMATS["csv"]


def column_check(mapping: EventMapping, masker: Masker) -> ColumnCheck:
    """The check of a table's columns: it raises FeedError where no row could be an event."""

    def check(path: str, names: Sequence[str], _columns: FeedMapping) -> None:
        present = {*names, *(name.partition(".")[0] for name in names)}
        missing = [field for field in _needed(mapping) if not _has(mapping, field, present)]
        if not any(_has(mapping, field, present) for field in _OWNERS):
            missing.append("session")
        if missing:
            known = "; ".join(f"{field}: {', '.join(mapping.fields[field].names)}" for field in missing)
            what = f"{path}: no column is the {' or the '.join(missing)} (known: {known})"
            raise FeedError(f"{what}; {_advice(mapping, missing, names, masker)}")

    return check


def _advice(mapping: EventMapping, missing: Sequence[str], names: Sequence[str], masker: Masker) -> str:
    if any(_is_value(name, masker) for name in names):
        return "the first line is not a header, it contains values such as numbers; add a line with column names"
    likely = _likely(mapping, missing, names)
    shown = ", ".join(names[:_SHOWN_NAMES])
    return f"its columns are {shown}; name it in a mapping, such as {missing[0]} = {likely!r}"


def _is_value(name: str, masker: Masker) -> bool:
    is_number = not math.isnan(number(name))
    return is_number or _VALUE.fullmatch(name) is not None or masker.mask(name) != name


def _needed(mapping: EventMapping) -> list[str]:
    kinds = {rule.kind for rule in mapping.events}
    product = [] if kinds == {EventKind.QUERY} else ["product_id"]
    return [*(["kind"] if None in kinds else []), *product, "time"]


def _has(mapping: EventMapping, field: str, present: set[str]) -> bool:
    rule = mapping.fields[field]
    found = [name in present or name.partition(".")[0] in present for name in rule.names]
    return rule.value is not None or (all(found) and bool(found) if rule.is_joined else any(found))


def _likely(mapping: EventMapping, missing: Sequence[str], names: Sequence[str]) -> str:
    wanted = (missing[0], *mapping.fields[missing[0]].names)
    return next(filter(None, (close_names(name, names) for name in wanted)), ("COLUMN",))[0]
