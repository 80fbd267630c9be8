"""Recording of searches and impressions, in the background of the responses; and the events that public keys may send.

A click with a query id refers to the impressions of that search.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b

from shelfwise.retrieval.errors import EventError, ShelfwiseError
from shelfwise.retrieval.events.stored import SKEW
from shelfwise.retrieval.records import Event, EventKind, Page
from shelfwise.service.http.errors import RequestError

_SECONDS = 0.25
_MAX_WAITING = 20_000
"""Maximum number of waiting events; further ones are counted as lost."""
_MAX_QUERY = 1_000
"""Maximum length of a query in an event, in characters."""
_BATCH = 2_000
"""Events written at once."""


class ImpressionRecorder:
    """Writes queries and impressions in a thread, so that no search waits for the disk."""

    def __init__(self, record: Callable[..., object], count: Callable[[Page], None] = lambda _: None) -> None:
        """`record` is `SearchEngine.record`; `count` is called with each recorded page."""
        self._record, self._count = record, count
        self._waiting: list[Event] = []
        self._writing: list[Event] = []
        self._changing = threading.Condition()
        self._is_closed = False
        self.lost = 0
        """Number of events that could not be recorded."""
        self.trouble = ""
        """The last error."""
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of events that are not on disk yet."""
        return len(self._waiting) + len(self._writing)

    @property
    def lag(self) -> float:
        """Age of the oldest waiting event in seconds; 0 if there is none."""
        with self._changing:
            oldest = next(iter((*self._writing[:1], *self._waiting[:1])), None)
        return 0.0 if oldest is None or oldest.time is None else (datetime.now(UTC) - oldest.time).total_seconds()

    def record_page(
        self,
        query_id: str,
        text: str,
        page: Page,
        *,
        shopper: str = "",
        session: str = "",
        product_id: str = "",
        address: str = "",
    ) -> None:
        """Adds a search: its query, and an impression of each hit at its position. Shopper and session are ids of the
        store; if both are empty, nothing is recorded. `product_id` is the product on whose
        page a question was asked, `address` is the network address that the search counts for."""
        if not (shopper or session) or len(text) > _MAX_QUERY:
            return
        self._count(page)
        events = _events(query_id, text, page, (shopper, session, address), product_id)
        with self._changing:
            room = _MAX_WAITING - len(self._waiting)
            self._waiting.extend(events[:room])
            self.lost += max(0, len(events) - room)

    def close(self) -> None:
        """Returns when all events are written."""
        with self._changing:
            self._is_closed = True
            self._changing.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changing:
                self._changing.wait(_SECONDS)
                self._writing, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
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
            # A batch is refused as a whole; written one by one, only the invalid event is lost.
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


def _events(query_id: str, text: str, page: Page, names: tuple[str, str, str], page_of: str) -> list[Event]:
    now = datetime.now(UTC)
    shopper, session, address = names
    first = (page.page - 1) * page.size + 1

    def event(kind: EventKind, name: str, product_id: str = "", position: int | None = None) -> Event:
        return Event(
            kind,
            product_id,
            query_id=query_id,
            query=text,
            shopper=shopper,
            session=session,
            position=position,
            time=now,
            event_id=f"{query_id}-{name}",
            results=page.total if kind is EventKind.QUERY else None,
            address=address,
        )

    hits = enumerate(page.hits, first)
    impressions = [event(EventKind.IMPRESSION, str(at), hit.product.id, at) for at, hit in hits]
    # Browsing has no query text, so there is no query event; its impressions suffice.
    return [event(EventKind.QUERY, "query", page_of), *impressions] if text.strip() else impressions


LIST_KINDS = (EventKind.QUERY, EventKind.IMPRESSION)
_UNTRUSTED = ("query", "position", "results", "time")


def public_events(
    events: Sequence[Event], address: str, now: datetime, is_answer: Callable[[str, Sequence[Event]], bool]
) -> tuple[Sequence[Event], tuple[str, ...]]:
    """The events, as they are recorded, of a sender whose word on lists and times is not taken, from a network address;
    and the names of the fields that were ignored.

    An act keeps its query id, by which the recorded list is found; what it says about the list is ignored. A list is
    accepted only as the service gave it (`Recorder.is_answer`): its query and impressions in one request, with the ids
    that the service would have chosen. A time is kept within the tolerance of clocks, and is otherwise that of arrival.
    Raises RequestError (403) for any other list.
    """
    lists: dict[str, list[Event]] = {}
    for each in events:
        if each.kind in LIST_KINDS:
            lists.setdefault(each.query_id, []).append(each)
    texts = {query_id: max(each.query for each in own) for query_id, own in lists.items()}
    for query_id, own in lists.items():
        if not is_answer(query_id, own):
            message = (
                f"a public key may send events of kind {own[0].kind} only as the service gave the answer, all of its "
                "hits in one request: give the search a shopper or a session, then the service records its list; or "
                "use a key with the scope server"
            )
            raise RequestError(403, message, field="events.kind")
    accepted = tuple(_public_event(each, address, now, texts.get(each.query_id, "")) for each in events)
    pairs = [(name, *pair) for name in _UNTRUSTED for pair in zip(events, accepted, strict=True)]
    names = (name for name, before, after in pairs if getattr(before, name) not in (getattr(after, name), ""))
    return accepted, tuple(dict.fromkeys(names))


def _public_event(event: Event, address: str, now: datetime, text: str) -> Event:
    """The event as it is recorded; `text` is the query of its answer, if the request has it."""
    time, event_id = event.time, event.event_id
    if isinstance(time, datetime) and time.utcoffset() is not None and abs(time - now) > SKEW:
        # Without an id, an event that is sent again must not differ by its time of arrival.
        time, event_id = None, event_id or blake2b(repr(event).encode("utf-8", "replace"), digest_size=16).hexdigest()
    if event.kind in LIST_KINDS:
        event_id = f"{event.query_id}-{event.position or 'query'}"
        return replace(event, query=text, event_id=event_id, time=time, address=address)
    return replace(event, query="", position=None, results=None, event_id=event_id, time=time, address=address)


def trusted_events(events: Sequence[Event]) -> Sequence[Event]:
    """The events of the store's own server; raises RequestError (400) for an address of a shopper that is none."""
    for address in {each.address for each in events} - {""}:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            message = f"{address[:60]!r} is not the IP address of a shopper, such as 192.0.2.7; leave it out"
            raise RequestError(400, message, field="events.address") from None
    return events
