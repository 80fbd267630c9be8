"""Rows of a log to events as they are kept, batch by batch: in this process, or in one that works beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from indexer.events.aside import told
from indexer.events.formats import EVENT_FORMATS
from indexer.events.mapping import EventMapping
from indexer.events.plan import Keyed, SkipError
from indexer.events.rows import RowEvents
from indexer.feeds import FieldNames
from retrieval.errors import EventError, RowError
from retrieval.events.event import Event
from retrieval.events.intake import Intake


@dataclass(frozen=True, slots=True)
class Refused:
    """A row, or one of its events, that cannot be used."""

    row: int
    """Its place in the batch, from 0."""
    reason: str
    detail: str
    event: Mapping[str, object] | None
    """What there is of the event's fields, as the log has it; None for a row that could not be read."""


@dataclass(slots=True)
class Made:
    """What became of a batch of rows."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    """Stored events as plain tuples, which travel between processes in a third of the time."""
    rows: list[int] = field(default_factory=list)
    """The place in the batch, from 0, of the row that each event comes from."""
    refused: list[Refused] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    fields: FieldNames = field(default_factory=lambda: FieldNames(frozenset(), frozenset()))
    """Which of the user's names no row has had, of all batches that were made in this process so far."""


class Maker:
    """Makes stored events of rows by one mapping. It travels to a process beside as what it was made of."""

    def __init__(self, mapping: EventMapping, intake: Intake, now: datetime) -> None:
        self._parts = (mapping, intake, now)
        self._intake = intake
        self._now = now
        self._rows = RowEvents(mapping, Keyed(intake.pseudonyms.key))

    def __reduce__(self) -> tuple[type[Maker], tuple[EventMapping, Intake, datetime]]:
        return Maker, self._parts

    def made(self, batch: tuple[str, Sequence[object]]) -> Made:
        """What becomes of the raw rows of a format, which is named first."""
        name, rows = batch
        decode = EVENT_FORMATS[name].row
        made = Made()
        for place, row in enumerate(rows):
            try:
                self._make(made, place, decode(row))
            except RowError as error:
                made.refused.append(Refused(place, error.reason, error.detail, None))
            except SkipError as error:
                made.skipped[str(error)] += 1
        made.fields = self._rows.fields
        return made

    def _make(self, made: Made, place: int, row: Mapping[str, object]) -> None:
        try:
            events = self._rows.events(row)
        except EventError as error:
            made.refused.append(Refused(place, error.reason, error.detail, self._rows.shown(row)))
            return
        stored: Callable[[Event, datetime], tuple[object, ...]] = self._intake.stored
        for event in events:
            try:
                made.events.append(tuple(stored(event, self._now)))
            except EventError as error:
                made.refused.append(Refused(place, error.reason, error.detail, told(event)))
            else:
                made.rows.append(place)

    def event(self, name: str, row: object, key: bytes) -> Event:
        """The event of a row, which was made before, that has a key."""
        events = self._rows.events(EVENT_FORMATS[name].row(row))
        return next(event for event in events if self._has_key(event, key))

    def _has_key(self, event: Event, key: bytes) -> bool:
        try:
            return self._intake.stored(event, self._now).key == key
        except EventError:  # another event of the row, which was set aside when it was made
            return False
