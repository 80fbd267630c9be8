"""Import of event logs into an event store: rows are read, mapped, checked, pseudonymised, and appended in batches.

Each batch is durable once it is appended, and an event that is already stored is counted as repeated, so an interrupted
import can be run again.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from shelfwise.indexer.events.event_mapping import EventMapping, number
from shelfwise.indexer.events.event_parser import EventRowParser, KeyedIds, SkipError
from shelfwise.indexer.feeds.base import ColumnCheck, Feed, FeedFormat, FeedNote, Record, RejectedRow
from shelfwise.indexer.feeds.csv import CSV_FORMAT, open_table, read_csv
from shelfwise.indexer.feeds.io import open_sources, total_size
from shelfwise.indexer.feeds.json import JSON_ARRAY, JSON_LINES, json_rows, read_json_array
from shelfwise.indexer.feeds.mapping import FeedMapping
from shelfwise.indexer.feeds.parquet import PARQUET
from shelfwise.indexer.feeds.reader import detect_format, get_format
from shelfwise.indexer.feeds.row_parser import FieldNames
from shelfwise.indexer.rejects import RejectedEvents, RejectExample, RejectLog, event_fields, mask_text
from shelfwise.indexer.workers import Workers
from shelfwise.retrieval.errors import EventError, FeedError, RowError, close_names
from shelfwise.retrieval.events.privacy import EventIntake, Masker, conflict_error, utc_now
from shelfwise.retrieval.events.store import AppendResult, EventStore
from shelfwise.retrieval.events.stored import StoredEvent, moment
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.records import Event, EventKind

BATCH = 10_000
"""The number of events that are appended, and made durable, together."""
_ROWS = 2_000
"""The number of rows that are parsed at once."""
_BYTES = 4_000_000
"""The size of such a batch in bytes, since a row may have a megabyte."""
_MAX_WAITING = 20
"""The most batches of rows that wait until their events are appended, however few these are."""
_MAX_REASONS = 3


@dataclass(frozen=True, slots=True)
class RejectReason:
    """The count of one reason, with the first examples."""

    count: int
    examples: tuple[RejectExample, ...]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The results for the rows of event logs. A row may make several events, or none."""

    files: tuple[str, ...]
    rows: int
    events: Mapping[str, int]
    """Number of events that are now stored, added or repeated, by kind."""
    added: int
    """The number of new events."""
    repeated: int
    """The number of events that were already stored with the same content, or occurred twice in these logs."""
    rejected: Mapping[str, RejectReason]
    """Rows and events that cannot be used, by reason, most frequent first."""
    skipped: Mapping[str, int]
    """Rows that the mapping skips on purpose, by reason."""
    notes: tuple[str, ...]
    """Problems of whole logs."""
    first: datetime | None
    """The time of the earliest stored event of these logs."""
    last: datetime | None
    products: int | None
    """The number of distinct products; None if there are too many to count."""
    shoppers: int | None
    sessions: int | None
    seconds: float
    rows_per_second: float

    @property
    def rejected_count(self) -> int:
        return sum(each.count for each in self.rejected.values())

    @property
    def failure(self) -> str:
        """The reason why nothing in the logs could be used; empty otherwise. The command then exits with 1."""
        if self.events:
            return ""
        names = ", ".join(self.files)
        if not self.rows:
            return f"{names}: no rows in it"
        reasons = [*((reason, each.count) for reason, each in self.rejected.items()), *self.skipped.items()]
        reasons.sort(key=lambda each: -each[1])
        most = ", ".join(f"{reason} ({count:,})" for reason, count in reasons[:_MAX_REASONS])
        example = next((one for each in self.rejected.values() for one in each.examples), None)
        example_note = f"; for example line {example.line:,} of {example.file}: {example.detail}" if example else ""
        return f"{names}: none of its {self.rows:,} rows can be used: {most}{example_note}"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options of reading logs. By default each format is detected, and fields have their known names."""

    mapping: EventMapping = field(default_factory=EventMapping)
    format: str = ""
    """The name of all logs' format, one of `EVENT_FORMATS`; empty detects each log's format."""
    clock: Callable[[], datetime] = utc_now
    batch: int = BATCH
    workers: int | None = None
    """The number of processes that parse rows; None means one per core."""


def import_events(
    paths: Sequence[str],
    store: EventStore,
    intake: EventIntake,
    options: ImportOptions | None = None,
    *,
    rejected: Path,
    progress: Progress | None = None,
) -> ImportReport:
    """Stores the events of several logs; unusable ones are written to the file `rejected`, without personal data.

    If nothing could be used, the report's `failure` has the reason. If nothing is rejected, there is no file.

    Raises FeedError for a log that cannot be opened (before the first row if it is missing), has no known format or
    lacks a column; and for a log that breaks off, after the events before the break are stored. Raises StoreError or
    ClusterError if the store cannot be written.
    """
    chosen = options or ImportOptions()
    progress = progress or NullProgress()
    log = RejectLog(rejected, is_partial=True)
    with log, Workers(chosen.workers) as pool:
        progress.begin("import", total_size(paths), "bytes")
        run = EventImport(store, intake, chosen, log)
        run.run(paths, progress, pool)
        report = run.report(paths)
    progress.end(f"{report.rows:,} rows read")
    return report


@dataclass(slots=True)
class RowBatch:
    """Raw rows of one log with their line numbers, and the rows that were rejected while reading."""

    file: str
    format: str
    lines: list[int] = field(default_factory=list)
    rows: list[object] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    size: int = 0

    def add(self, record: Record | RejectedRow) -> None:
        if isinstance(record, RejectedRow):
            self.rejected.append(record)
        else:
            self.lines.append(record.line)
            self.rows.append(record.row)
            self.size += _size(record.row)

    @property
    def is_full(self) -> bool:
        return len(self) >= _ROWS or self.size >= _BYTES

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)


class EventImport:
    """One running import."""

    def __init__(self, store: EventStore, intake: EventIntake, options: ImportOptions, log: RejectLog) -> None:
        self._store = store
        self._options = options
        self._log = log
        self._rejects = RejectedEvents(log, intake.pseudonyms, intake.masker)
        self._masker = intake.masker
        self._parser = BatchParser(options.mapping, intake, options.clock())
        self._counts = ImportCounts()
        self._notes: dict[str, None] = {}
        self._skipped: Counter[str] = Counter()
        self._fields: FieldNames | None = None
        self._rows = 0
        self._started = time.perf_counter()
        self._under_way: deque[RowBatch] = deque()
        self._events: list[StoredEvent] = []
        self._row_locations: list[tuple[RowBatch, int]] = []
        self._waiting_batches = 0
        self._error: FeedError | None = None

    def run(self, paths: Sequence[str], progress: Progress, pool: Workers) -> None:
        """Stores all events. A log that breaks off raises FeedError once the events before the break are stored."""
        for parsed in pool.map(self._parser.parse, self._batches(paths, progress)):
            self._collect(self._under_way.popleft(), parsed)
        self._flush()
        if self._error is not None:
            added = self._counts.added
            remainder = f"; {added:,} events before the break were stored" if added else ""
            raise FeedError(f"{self._error}{remainder}") from self._error

    def _batches(self, paths: Sequence[str], progress: Progress) -> Iterator[tuple[str, Sequence[object]]]:
        try:
            for batch in self._read(paths, progress):
                self._under_way.append(batch)
                yield batch.format, batch.rows
        except FeedError as error:
            self._error = error

    def _read(self, paths: Sequence[str], progress: Progress) -> Iterator[RowBatch]:
        check = column_check(self._options.mapping, self._masker)
        name = self._options.format
        named = get_format(name, EVENT_FORMATS) if name else None
        for source in open_sources(paths, progress.advance):
            feed = Feed(source, self._options.mapping.columns, self._note, check)
            log_format = named or detect_format(feed, EVENT_FORMATS, self._describe)
            batch = RowBatch(source.path, log_format.name)
            try:
                for record in log_format.read(feed):
                    batch.add(record)
                    if batch.is_full:
                        yield batch
                        batch = RowBatch(source.path, log_format.name)
            except FeedError:
                yield batch
                raise
            yield batch

    def _describe(self, head: bytes) -> str:
        """The first line of a log, for a message: without personal data, since it may be a row."""
        line = head.decode(errors="replace").lstrip().partition("\n")[0].rstrip()
        return repr(mask_text(line, self._masker, _SHOWN))

    def _note(self, note: FeedNote) -> None:
        self._notes[f"{note.file}: {note.field}: {note.reason}: {note.detail}"] = None

    def _collect(self, batch: RowBatch, parsed: ParsedBatch) -> None:
        self._rows += len(batch)
        self._skipped.update(parsed.skipped)
        self._fields = parsed.fields if self._fields is None else self._fields.merge(parsed.fields)
        for row in batch.rejected:
            self._rejects.add(row.file, row.line, RowError(row.reason, row.detail))
        for refused in parsed.refused:
            error = EventError(refused.reason, refused.detail)
            self._rejects.add(batch.file, batch.lines[refused.row], error, refused.event)
        self._events.extend(map(StoredEvent._make, parsed.events))
        self._row_locations.extend((batch, row) for row in parsed.rows)
        self._waiting_batches += 1
        if len(self._events) >= self._options.batch or self._waiting_batches >= _MAX_WAITING:
            self._flush()

    def _flush(self) -> None:
        """Appends the waiting events."""
        events, locations = self._events, self._row_locations
        self._events, self._row_locations, self._waiting_batches = [], [], 0
        if not events:
            return
        appended = self._store.append(events)
        for index in appended.conflicts:
            batch, row = locations[index]
            event = self._parser.event(batch.format, batch.rows[row], events[index].key)
            self._rejects.add(batch.file, batch.lines[row], conflict_error(event), event_fields(event))
        self._counts.add(events, appended)

    def report(self, paths: Sequence[str]) -> ImportReport:
        seconds = time.perf_counter() - self._started
        counts, reasons = self._counts, self._log.reasons
        for note in self._fields.notes(", ".join(paths)) if self._fields and self._rows else ():
            self._note(note)
        return ImportReport(
            files=tuple(paths),
            rows=self._rows,
            events=dict(counts.kinds.most_common()),
            added=counts.added,
            repeated=counts.repeated,
            rejected={
                reason: RejectReason(count, tuple(reasons.examples[reason]))
                for reason, count in reasons.counts.most_common()
            },
            skipped=dict(self._skipped.most_common()),
            notes=tuple(self._notes),
            first=None if counts.first is None else moment(counts.first),
            last=None if counts.last is None else moment(counts.last),
            products=counts.products.count,
            shoppers=counts.shoppers.count,
            sessions=counts.sessions.count,
            seconds=seconds,
            rows_per_second=self._rows / seconds,
        )


def _size(row: object) -> int:
    """The approximate size of a raw row: of a line, or of a table's cells. Nested rows of Parquet count little."""
    if isinstance(row, bytes):
        return len(row)
    return sum(len(value) for value in row.values() if type(value) is str) if isinstance(row, dict) else 0


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """A row, or one of its events, that cannot be used."""

    row: int
    """Position in the batch, from 0."""
    reason: str
    detail: str
    event: Mapping[str, object] | None
    """The known fields of the event, as the log has them; None for a row that could not be read."""


@dataclass(slots=True)
class ParsedBatch:
    """The events of a batch of rows."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    """Stored events as plain tuples, which pass between processes in a third of the time."""
    rows: list[int] = field(default_factory=list)
    """The index in the batch, from 0, of each event's row."""
    refused: list[RefusedEvent] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    fields: FieldNames = field(default_factory=lambda: FieldNames(frozenset(), frozenset()))
    """The user's field names that no row had, over all batches that were parsed in this process so far."""


class BatchParser:
    """Makes stored events from rows by one mapping. It is pickled as its arguments."""

    def __init__(self, mapping: EventMapping, intake: EventIntake, now: datetime) -> None:
        self._arguments = (mapping, intake, now)
        self._intake = intake
        self._now = now
        self._rows = EventRowParser(mapping, KeyedIds(intake.pseudonyms.key))

    def __reduce__(self) -> tuple[type[BatchParser], tuple[EventMapping, EventIntake, datetime]]:
        return BatchParser, self._arguments

    def parse(self, batch: tuple[str, Sequence[object]]) -> ParsedBatch:
        """The events of raw rows; the batch begins with the name of their format."""
        name, rows = batch
        decode = EVENT_FORMATS[name].rows
        parsed = ParsedBatch()
        for index, row in enumerate(rows):
            try:
                self._add(parsed, index, decode(row)[0])
            except RowError as error:
                parsed.refused.append(RefusedEvent(index, error.reason, error.detail, None))
            except SkipError as error:
                parsed.skipped[str(error)] += 1
        parsed.fields = self._rows.plans.fields
        return parsed

    def _add(self, parsed: ParsedBatch, index: int, row: Mapping[str, object]) -> None:
        try:
            events = self._rows.parse(row)
        except EventError as error:
            parsed.refused.append(RefusedEvent(index, error.reason, error.detail, self._rows.event_values(row)))
            return
        prepare: Callable[[Event, datetime], tuple[object, ...]] = self._intake.prepare
        for event in events:
            try:
                parsed.events.append(tuple(prepare(event, self._now)))
            except EventError as error:
                parsed.refused.append(RefusedEvent(index, error.reason, error.detail, event_fields(event)))
            else:
                parsed.rows.append(index)

    def event(self, name: str, row: object, key: bytes) -> Event:
        """The event with this key, from a row that was parsed before."""
        events = self._rows.parse(EVENT_FORMATS[name].rows(row)[0])
        return next(event for event in events if self._has_key(event, key))

    def _has_key(self, event: Event, key: bytes) -> bool:
        try:
            return self._intake.prepare(event, self._now).key == key
        except EventError:  # another event of the row, which was rejected when it was parsed
            return False


MAX_COUNTED = 1_000_000
"""The most distinct products, shoppers or sessions that are counted: more would take too much memory."""


class DistinctCounter:
    """Counts distinct texts, unless there are too many."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._is_full = False

    def add(self, texts: Iterable[str]) -> None:
        if not self._is_full:
            self._seen.update(texts)
            if len(self._seen) > MAX_COUNTED:
                self._is_full = True
                self._seen.clear()

    @property
    def count(self) -> int | None:
        """The number of distinct texts; None if there are too many."""
        return None if self._is_full else len(self._seen - {""})


class ImportCounts:
    """Counts over the stored events of the logs."""

    def __init__(self) -> None:
        self.added = 0
        self.repeated = 0
        self.kinds: Counter[str] = Counter()
        self.first: int | None = None
        """The earliest time, in the unit of `StoredEvent.time`."""
        self.last: int | None = None
        self.products, self.shoppers, self.sessions = DistinctCounter(), DistinctCounter(), DistinctCounter()

    def add(self, batch: Sequence[StoredEvent], appended: AppendResult) -> None:
        """Counts a batch, without the events that were refused because a different event has their id."""
        self.added += appended.added
        self.repeated += appended.duplicates
        refused = set(appended.conflicts)
        new_events = [event for index, event in enumerate(batch) if index not in refused] if refused else batch
        if not new_events:
            return
        self.kinds.update(event.kind for event in new_events)
        times = [event.time for event in new_events]
        self.first = min(times) if self.first is None else min(self.first, *times)
        self.last = max(times) if self.last is None else max(self.last, *times)
        self.products.add({event.product_id for event in new_events})
        self.shoppers.add({event.shopper for event in new_events})
        self.sessions.add({event.session for event in new_events})


# Formats of event logs: how each is recognised, read into raw rows, and decoded.

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
        FeedFormat(
            "response",
            "search responses",
            lambda feed: read_json_array(feed, _HITS),
            rows=json_rows,
            begins=lambda head: _RESPONSE.match(head) is not None,
        ),
        JSON_LINES,
        JSON_ARRAY,
        replace(CSV_FORMAT, read=_read_table),
        PARQUET,
    )
}


def column_check(mapping: EventMapping, masker: Masker) -> ColumnCheck:
    """The check of a table's columns: it raises FeedError where no row could be an event."""

    def check(path: str, names: Sequence[str], _columns: FeedMapping) -> None:
        present = {*names, *(name.partition(".")[0] for name in names)}
        kinds = {rule.kind for rule in mapping.events}
        product = [] if kinds == {EventKind.QUERY} else ["product_id"]
        needed = [*(["kind"] if None in kinds else []), *product, "time"]
        missing = [field for field in needed if not _has(mapping, field, present)]
        if not any(_has(mapping, field, present) for field in _OWNERS):
            missing.append("session")
        if missing:
            names_by_field = "; ".join(f"{field}: {', '.join(mapping.fields[field].names)}" for field in missing)
            what = f"{path}: no column is the {' or the '.join(missing)} (known: {names_by_field})"
            raise FeedError(f"{what}; {_advice(mapping, missing, names, masker)}")

    return check


def _advice(mapping: EventMapping, missing: Sequence[str], names: Sequence[str], masker: Masker) -> str:
    if any(_is_value(name, masker) for name in names):
        return "the first line is not a header, it contains values such as numbers; add a line with column names"
    spellings = (missing[0], *mapping.fields[missing[0]].names)
    likely = next(filter(None, (close_names(name, names) for name in spellings)), ("COLUMN",))[0]
    columns = ", ".join(names[:_SHOWN_NAMES])
    return f"its columns are {columns}; name it in a mapping, such as {missing[0]} = {likely!r}"


def _is_value(name: str, masker: Masker) -> bool:
    is_number = not math.isnan(number(name))
    return is_number or _VALUE.fullmatch(name) is not None or masker.mask(name) != name


def _has(mapping: EventMapping, field: str, present: set[str]) -> bool:
    rule = mapping.fields[field]
    matches = [name in present or name.partition(".")[0] in present for name in rule.names]
    return rule.value is not None or (all(matches) and bool(matches) if rule.join else any(matches))
