"""From an event as a store tells it to one that can be kept: checked, its ids replaced, its query masked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from retrieval.errors import EventError
from retrieval.events.checking import sound
from retrieval.events.event import Event
from retrieval.events.masking import Masker
from retrieval.events.pseudonyms import Pseudonyms
from retrieval.events.stored import StoredEvent, milliseconds

_BETWEEN = "\x1f"
"""Between the values that an event's key is made of: no id has it."""
_NEVER = datetime.min.replace(tzinfo=UTC)


class Intake:
    """What every event goes through before it is kept. Safe to share between threads."""

    def __init__(self, pseudonyms: Pseudonyms, masker: Masker) -> None:
        self.pseudonyms = pseudonyms
        self.masker = masker
        self._received = (_NEVER, 0)
        """The last time of arrival, which many events share, and its milliseconds."""

    def __reduce__(self) -> tuple[object, ...]:
        # A worker process opens the same keys; what is remembered stays here.
        return _opened, (self.pseudonyms.path, self.masker.regions)

    def stored(self, event: Event, now: datetime) -> StoredEvent:
        """The event as it is kept; `now` is when it came in. Raises EventError where it cannot be taken."""
        event = sound(event, now)
        time = milliseconds(event.time or now)
        received = self._received
        if received[0] is not now:
            received = self._received = (now, milliseconds(now))
        pseudonyms = self.pseudonyms
        return StoredEvent(
            pseudonyms.key(event.event_id or _content(event, time)),
            event.kind.value,
            time,
            received[1],
            pseudonyms.shopper(event.shopper),
            pseudonyms.session(event.session),
            event.query_id,
            self.masker.masked(event.query),
            event.product_id,
            event.position,
            event.quantity,
            event.rating,
            event.results,
        )


def _opened(keys: Path, regions: tuple[str, ...]) -> Intake:
    return Intake(Pseudonyms(keys, make=False), Masker(regions))


def differing(event: Event) -> EventError:
    """The error for an event whose id another one has."""
    what = f"event_id {event.event_id!r}" if event.event_id else "an event"
    return EventError("another event's id", f"{what} was taken before and said otherwise; give each event its own id")


def utc_now() -> datetime:
    """The clock that events are taken by."""
    return datetime.now(UTC)


def _content(event: Event, time: int) -> str:
    values = (event.kind.value, time, event.query_id, event.query, event.shopper, event.session, event.product_id)
    numbers = (event.position, event.quantity, event.rating, event.results)
    return _BETWEEN.join(map(str, (*values, *numbers)))
