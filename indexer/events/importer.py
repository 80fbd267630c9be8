"""Event logs into a store of events: read, mapped, checked, made anonymous, and appended in batches.

What was taken is durable batch by batch, and an event that is there already is counted as repeated, so an import that
was broken off may simply be run again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from indexer.events.formats import EVENT_FORMATS, column_check, event_format
from indexer.events.mapping import EventMapping
from indexer.events.rejects import ImportReport, RejectedEvents, event_fields
from indexer.events.row_parser import EventRowParser, KeyedIds, SkipError
from indexer.feeds.base import Feed, FeedNote, Record, RejectedRow, ignore
from indexer.feeds.io import Progress, open_sources
from indexer.feeds.reader import FieldNames
from indexer.workers import Workers
from retrieval.errors import EventError, FeedError, RowError
from retrieval.events.privacy import EventIntake, conflict_error, utc_now
from retrieval.events.store import AppendResult, EventStore
from retrieval.events.stored import StoredEvent, moment
from retrieval.records import Event

BATCH = 10_000
"""Events that are appended, and made durable, together."""
_ROWS = 2_000
"""Rows that are made events of together."""
_BYTES = 4_000_000
"""Of long rows fewer are: a row may have a megabyte."""
_HELD = 20
"""Batches of rows that are kept at most until their events are appended, however few these are."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How logs are read; as it comes, by looking, and by the names that are known by default."""

    mapping: EventMapping = field(default_factory=EventMapping)
    format: str = ""
    """The name of all logs' format (`indexer.events.formats.EVENT_FORMATS`); empty recognises each one's."""
    clock: Callable[[], datetime] = utc_now
    batch: int = BATCH
    workers: int | None = None
    """Processes that make events beside the one that reads; one for each core where it is None."""


def import_events(
    paths: Sequence[str],
    store: EventStore,
    intake: EventIntake,
    options: ImportOptions | None = None,
    *,
    rejected: Path,
    progress: Progress = ignore,
) -> ImportReport:
    """Takes the events of several logs; what cannot be used is written to the file `rejected`, without personal data.

    `progress` counts the bytes of all logs; the total is None where one is standard input. Where nothing could be
    used, the report's `why_useless` says why. Where nothing is rejected there is no file.

    Raises FeedError for a log that cannot be opened (before the first row, when it is missing), is of no known format
    or lacks a column, and for one that breaks off, after the events before the break are in the store. Raises
    StoreError or ClusterError where the store cannot be written.
    """
    chosen = options or ImportOptions()
    with RejectedEvents(rejected, intake.pseudonyms, intake.masker) as kept, Workers(chosen.workers) as pool:
        run = EventImport(store, intake, chosen, kept)
        run.run(paths, progress, pool)
        return run.report(paths)


@dataclass(slots=True)
class RowBatch:
    """Raw rows of one log, with their lines, and those that were none already when they were read."""

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
    """One import under way."""

    def __init__(self, store: EventStore, intake: EventIntake, options: ImportOptions, rejects: RejectedEvents) -> None:
        self._store = store
        self._options = options
        self._rejects = rejects
        self._masker = intake.masker
        self._maker = BatchParser(options.mapping, intake, options.clock())
        self._tally = ImportCounts()
        self._notes: dict[str, None] = {}
        self._skipped: Counter[str] = Counter()
        self._fields: FieldNames | None = None
        self._count = 0
        self._started = time.perf_counter()
        self._under_way: deque[RowBatch] = deque()
        self._events: list[StoredEvent] = []
        self._places: list[tuple[RowBatch, int]] = []
        self._held = 0
        self._error: FeedError | None = None

    def run(self, paths: Sequence[str], progress: Progress, pool: Workers) -> None:
        """Takes all events. A log that breaks off raises its FeedError when all before the break are in the store."""
        for made in pool.map(self._maker.parse, self._sent(paths, progress)):
            self._take(self._under_way.popleft(), made)
        self._flush()
        if self._error is not None:
            taken = self._tally.added
            told = f"; {taken:,} events of what came before it were taken" if taken else ""
            raise FeedError(f"{self._error}{told}") from self._error

    def _sent(self, paths: Sequence[str], progress: Progress) -> Iterator[tuple[str, Sequence[object]]]:
        try:
            for batch in self._batches(paths, progress):
                self._under_way.append(batch)
                yield batch.format, batch.rows
        except FeedError as error:
            self._error = error

    def _batches(self, paths: Sequence[str], progress: Progress) -> Iterator[RowBatch]:
        check = column_check(self._options.mapping, self._masker)
        for source in open_sources(paths, progress):
            feed = Feed(source, self._options.mapping.columns, self._note)
            known = event_format(feed, self._options.format, self._masker)
            batch = RowBatch(source.path, known.name)
            try:
                for record in known.read(feed, check):
                    batch.add(record)
                    if batch.is_full:
                        yield batch
                        batch = RowBatch(source.path, known.name)
            except FeedError:
                yield batch
                raise
            yield batch

    def _note(self, noted: FeedNote) -> None:
        self._notes[f"{noted.file}: {noted.field}: {noted.reason}: {noted.detail}"] = None

    def _take(self, batch: RowBatch, made: ParsedBatch) -> None:
        self._count += len(batch)
        self._skipped.update(made.skipped)
        self._fields = made.fields if self._fields is None else self._fields.merge(made.fields)
        for row in batch.rejected:
            self._rejects.add(row.file, row.line, RowError(row.reason, row.detail))
        for refused in made.refused:
            error = EventError(refused.reason, refused.detail)
            self._rejects.add(batch.file, batch.lines[refused.row], error, refused.event)
        self._events.extend(map(StoredEvent._make, made.events))
        self._places.extend((batch, row) for row in made.rows)
        self._held += 1
        if len(self._events) >= self._options.batch or self._held >= _HELD:
            self._flush()

    def _flush(self) -> None:
        """Appends what has been gathered."""
        events, places = self._events, self._places
        self._events, self._places, self._held = [], [], 0
        if not events:
            return
        appended = self._store.append(events)
        for place in appended.conflicts:
            batch, row = places[place]
            event = self._maker.event(batch.format, batch.rows[row], events[place].key)
            self._rejects.add(batch.file, batch.lines[row], conflict_error(event), event_fields(event))
        self._tally.add(events, appended)

    def report(self, paths: Sequence[str]) -> ImportReport:
        """What was done."""
        seconds = time.perf_counter() - self._started
        tally = self._tally
        unseen = self._fields.notes(", ".join(paths)) if self._fields and self._count else ()
        for each in unseen:
            self._note(each)
        return ImportReport(
            files=tuple(paths),
            rows=self._count,
            events=tally.kinds,
            added=tally.added,
            repeated=tally.repeated,
            rejected=self._rejects.reasons,
            skipped=dict(self._skipped.most_common()),
            notes=tuple(self._notes),
            first=tally.first,
            last=tally.last,
            products=tally.products,
            shoppers=tally.shoppers,
            sessions=tally.sessions,
            seconds=seconds,
            rows_per_second=self._count / seconds,
        )


def _size(row: object) -> int:
    """Roughly the bytes of a raw row: what a table's cells have, or a line. Nested rows of Parquet count little."""
    if isinstance(row, bytes):
        return len(row)
    return sum(len(value) for value in row.values() if type(value) is str) if isinstance(row, dict) else 0


# Rows of a log to events as they are kept, batch by batch: in this process, or in one that works beside it.


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """A row, or one of its events, that cannot be used."""

    row: int
    """Its place in the batch, from 0."""
    reason: str
    detail: str
    event: Mapping[str, object] | None
    """What there is of the event's fields, as the log has it; None for a row that could not be read."""


@dataclass(slots=True)
class ParsedBatch:
    """What became of a batch of rows."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    """Stored events as plain tuples, which travel between processes in a third of the time."""
    rows: list[int] = field(default_factory=list)
    """The place in the batch, from 0, of the row that each event comes from."""
    refused: list[RefusedEvent] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    fields: FieldNames = field(default_factory=lambda: FieldNames(frozenset(), frozenset()))
    """Which of the user's names no row has had, of all batches that were made in this process so far."""


class BatchParser:
    """Makes stored events of rows by one mapping. It travels to a process beside as what it was made of."""

    def __init__(self, mapping: EventMapping, intake: EventIntake, now: datetime) -> None:
        self._parts = (mapping, intake, now)
        self._intake = intake
        self._now = now
        self._rows = EventRowParser(mapping, KeyedIds(intake.pseudonyms.key))

    def __reduce__(self) -> tuple[type[BatchParser], tuple[EventMapping, EventIntake, datetime]]:
        return BatchParser, self._parts

    def parse(self, batch: tuple[str, Sequence[object]]) -> ParsedBatch:
        """What becomes of the raw rows of a format, which is named first."""
        name, rows = batch
        decode = EVENT_FORMATS[name].row
        made = ParsedBatch()
        for place, row in enumerate(rows):
            try:
                self._make(made, place, decode(row))
            except RowError as error:
                made.refused.append(RefusedEvent(place, error.reason, error.detail, None))
            except SkipError as error:
                made.skipped[str(error)] += 1
        made.fields = self._rows.fields
        return made

    def _make(self, made: ParsedBatch, place: int, row: Mapping[str, object]) -> None:
        try:
            events = self._rows.parse(row)
        except EventError as error:
            made.refused.append(RefusedEvent(place, error.reason, error.detail, self._rows.event_values(row)))
            return
        stored: Callable[[Event, datetime], tuple[object, ...]] = self._intake.prepare
        for event in events:
            try:
                made.events.append(tuple(stored(event, self._now)))
            except EventError as error:
                made.refused.append(RefusedEvent(place, error.reason, error.detail, event_fields(event)))
            else:
                made.rows.append(place)

    def event(self, name: str, row: object, key: bytes) -> Event:
        """The event of a row, which was made before, that has a key."""
        events = self._rows.parse(EVENT_FORMATS[name].row(row))
        return next(event for event in events if self._has_key(event, key))

    def _has_key(self, event: Event, key: bytes) -> bool:
        try:
            return self._intake.prepare(event, self._now).key == key
        except EventError:  # another event of the row, which was rejected when it was made
            return False


# Counts over the events of an import, taken batch by batch.

MOST_COUNTED = 1_000_000
"""Different products, shoppers or sessions that are told apart: more would take too much memory."""


class DistinctCounter:
    """How many different texts there are, as long as they are not too many."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._is_full = False

    def add(self, texts: Iterable[str]) -> None:
        if not self._is_full:
            self._seen.update(texts)
            if len(self._seen) > MOST_COUNTED:
                self._is_full = True
                self._seen.clear()

    @property
    def count(self) -> int | None:
        return None if self._is_full else len(self._seen - {""})


class ImportCounts:
    """What the store has of the logs so far."""

    def __init__(self) -> None:
        self.added = 0
        self.repeated = 0
        self._kinds: Counter[str] = Counter()
        self._first: int | None = None
        self._last: int | None = None
        self._products, self._shoppers, self._sessions = DistinctCounter(), DistinctCounter(), DistinctCounter()

    def add(self, batch: Sequence[StoredEvent], appended: AppendResult) -> None:
        """Counts a batch, without the events that were not taken because another one has their id."""
        self.added += appended.added
        self.repeated += appended.duplicates
        refused = set(appended.conflicts)
        kept = [event for place, event in enumerate(batch) if place not in refused] if refused else batch
        if not kept:
            return
        self._kinds.update(event.kind for event in kept)
        times = [event.time for event in kept]
        self._first = min(times) if self._first is None else min(self._first, *times)
        self._last = max(times) if self._last is None else max(self._last, *times)
        self._products.add({event.product_id for event in kept})
        self._shoppers.add({event.shopper for event in kept})
        self._sessions.add({event.session for event in kept})

    @property
    def kinds(self) -> dict[str, int]:
        """Events by kind, the most frequent first."""
        return dict(self._kinds.most_common())

    @property
    def first(self) -> datetime | None:
        """The earliest time."""
        return None if self._first is None else moment(self._first)

    @property
    def last(self) -> datetime | None:
        """The latest time."""
        return None if self._last is None else moment(self._last)

    @property
    def products(self) -> int | None:
        """Different products; None where they are too many."""
        return self._products.count

    @property
    def shoppers(self) -> int | None:
        """Different shoppers; None where they are too many."""
        return self._shoppers.count

    @property
    def sessions(self) -> int | None:
        """Different sessions; None where they are too many."""
        return self._sessions.count
