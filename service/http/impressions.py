"""What searches showed, recorded behind the answers: clicks that come with a query id then have something to be of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from retrieval.errors import EventError, ShelfwiseError
from retrieval.records import Event, EventKind, Page

_SECONDS = 0.25
_MOST_WAITING = 20_000
"""Events; what comes on top of them is counted as lost."""
_MOST_QUERY = 1_000
"""Characters of a query that an event may have."""
_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class ShopperIdentity:
    """Whose search it is, as the store calls them; both empty for one that is not to be recorded."""

    shopper: str = ""
    session: str = ""


class ImpressionRecorder:
    """Takes down queries and impressions in a thread of its own, so that no search waits for the disk."""

    def __init__(self, record: Callable[..., object]) -> None:
        """`record` is `SearchEngine.record`."""
        self._record = record
        self._waiting: list[Event] = []
        self._writing: list[Event] = []
        """Those that are being written."""
        self._changing = threading.Condition()
        self._is_closed = False
        self.lost = 0
        """Events that could not be recorded."""
        self.trouble = ""
        """Why the last ones could not."""
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Events that are not on the disk yet."""
        return len(self._waiting) + len(self._writing)

    @property
    def lag(self) -> float:
        """Seconds that the oldest of them has waited; 0 where none does."""
        with self._changing:
            oldest = next(iter((*self._writing[:1], *self._waiting[:1])), None)
        return 0.0 if oldest is None or oldest.time is None else (datetime.now(UTC) - oldest.time).total_seconds()

    def record_page(self, query_id: str, text: str, page: Page, shopper: ShopperIdentity) -> None:
        """One answer: its query, and each of its hits at its place."""
        if not (shopper.shopper or shopper.session) or len(text) > _MOST_QUERY:
            return
        events = _events(query_id, text, page, shopper)
        with self._changing:
            room = _MOST_WAITING - len(self._waiting)
            self._waiting.extend(events[:room])
            self.lost += max(0, len(events) - room)

    def close(self) -> None:
        """Returns when all of them are recorded."""
        with self._changing:
            self._is_closed = True
            self._changing.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changing:
                self._changing.wait(_SECONDS)
                self._writing, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                is_last = self._is_closed and not self._waiting
            if self._writing:
                self._write(self._writing)
                self._writing = []
            if is_last:
                return

    def _write(self, events: Sequence[Event]) -> None:
        try:
            self._record(*events)
        except EventError as error:
            # Together they are refused together: one that cannot be taken is no reason to lose the others.
            if len(events) > 1:
                for event in events:
                    self._write([event])
            else:
                self._count_lost(1, error)
        except ShelfwiseError as error:
            self._count_lost(len(events), error)

    def _count_lost(self, count: int, error: ShelfwiseError) -> None:
        self.lost += count
        self.trouble = str(error)


def _events(query_id: str, text: str, page: Page, asker: ShopperIdentity) -> list[Event]:
    now = datetime.now(UTC)
    shown = (page.page - 1) * page.size

    def event(kind: EventKind, name: str, product_id: str = "", place: int | None = None) -> Event:
        return Event(
            kind,
            product_id,
            query_id=query_id,
            query=text,
            shopper=asker.shopper,
            session=asker.session,
            position=place,
            time=now,
            event_id=f"{query_id}-{name}",
            results=page.total if kind is EventKind.QUERY else None,
        )

    places = enumerate(page.hits, shown + 1)
    impressions = [event(EventKind.IMPRESSION, str(at), hit.product.id, at) for at, hit in places]
    # What was browsed has no text, so no query: its impressions say that it was shown.
    return [event(EventKind.QUERY, "query"), *impressions] if text.strip() else impressions
