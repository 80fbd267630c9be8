"""Stored events: validated, pseudonymised, with a key that identifies a resent one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from shelfwise.retrieval.errors import EventError
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.retrieval.updates.validation import CONTROL, MAX_ID_BYTES, is_writable

KEY_BYTES = 16
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000


SPONSORED_MARK = "~ad:"
"""Separates the id of the answer and a sealed offer in the query id of a sponsored hit (service/sponsored/ledger.py). A
click on one is recorded and checked for bots and fraud, but is used in no other table: paid placements must not train a
ranking."""


class StoredEvent(NamedTuple):
    """One row of an event store. Times are milliseconds since 1970, UTC."""

    key: bytes
    """16 bytes of a keyed hash of its id."""
    kind: str
    time: int
    received: int
    """The time of arrival, or of the import."""
    shopper: str
    """A pseudonym, or empty."""
    session: str
    """A pseudonym, or empty."""
    query_id: str
    query: str
    product_id: str
    position: int | None
    quantity: int | None
    rating: float | None
    results: int | None
    address: str = ""
    """A pseudonym of the day of arrival, or empty."""

    @property
    def day(self) -> int:
        return self.time // DAY_MS

    @property
    def content(self) -> tuple[object, ...]:
        """The content that the client sent; a resent event has the same.

        It does not include pseudonyms, which a new key or day changes, or a time of arrival, which the client did not
        send.
        """
        time = 0 if self.time == self.received else self.time
        return self._replace(received=0, shopper="", session="", address="", time=time)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 of a time with a zone."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def moment(ms: int) -> datetime:
    """The time, in UTC, from milliseconds since 1970."""
    return EPOCH + timedelta(milliseconds=ms)


MAX_QUERY = 1_000
"""The most characters of a query."""
MAX_POSITION = 100_000
MAX_QUANTITY = 1_000_000
MAX_RESULTS = 2**31 - 1
SKEW = timedelta(minutes=5)
"""The tolerated deviation of a client's clock."""
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)

_COUNTED = frozenset({EventKind.CART, EventKind.REMOVAL, EventKind.PURCHASE})
_IDS = ("event_id", "query_id", "shopper", "session", "product_id", "address")


def validate_event(event: Event, now: datetime) -> Event:
    """The event with time and quantity filled in; raises EventError for an invalid one."""
    if not isinstance(event, Event):
        raise EventError("no event", f"expected an Event, not {type(event).__name__}; pass several one by one")
    kind = event.kind if type(event.kind) is EventKind else _kind(event.kind)
    if not _are_plain(event):
        for name in _IDS:
            _check_id(name, getattr(event, name))
    query = _query(event.query) if event.query != "" else ""
    if kind is EventKind.QUERY:
        if not query or not event.query_id:
            raise EventError("no query", "a query event needs the text and a query_id")
    elif not event.product_id:
        raise EventError("no product", f"events of kind {kind} need a product_id")
    if not (event.shopper or event.session or event.query_id):
        raise EventError("nobody's", "an event needs a shopper, a session or a query_id")
    if event.position is not None:
        _check_whole("position", event.position, 1, MAX_POSITION)
    if event.results is not None:
        _check_whole("results", event.results, 0, MAX_RESULTS)
    if event.quantity is not None:
        _check_whole("quantity", event.quantity, 1, MAX_QUANTITY)
    if event.rating is not None or kind is EventKind.RATING:
        _check_rating(event.rating)
    quantity = event.quantity or 1 if kind in _COUNTED else None
    time = _time(event.time, now)
    if kind is event.kind and query == event.query and time is event.time and quantity == event.quantity:
        return event
    return replace(event, kind=kind, query=query, time=time, quantity=quantity)


def quoted(value: object) -> str:
    """A value for a message, cut to the length of a query.

    Not shorter, since personal data is masked later, and half an address would not be recognised.
    """
    try:
        return f"{value!r:.{MAX_QUERY}}"
    except ValueError:  # more digits than Python prints
        return "a number of thousands of digits"


def _are_plain(event: Event) -> bool:
    """Whether all ids are short printable ASCII, as nearly all are; then they need no separate checks."""
    try:
        ids = event.event_id + event.query_id + event.shopper + event.session + event.product_id + event.address
        return len(ids) <= MAX_ID_BYTES and ids.isascii() and ids.isprintable()
    except (AttributeError, TypeError):
        return False


def _kind(kind: object) -> EventKind:
    try:
        return EventKind(str(kind))
    except ValueError:
        kinds = ", ".join(EventKind)
        raise EventError("unknown kind", f"{quoted(kind)}; the kinds are {kinds}") from None


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise EventError(f"bad {name}", f"{name} must be a text, not {type(value).__name__}")
    if not value:
        return
    if len(value) > MAX_ID_BYTES or not is_writable(value) or len(value.encode()) > MAX_ID_BYTES:
        raise EventError(f"bad {name}", f"over {MAX_ID_BYTES} bytes, or not a text{_shown(name, value)}")
    if CONTROL.search(value):
        raise EventError(f"bad {name}", f"it has control characters{_shown(name, value)}")


def _shown(name: str, value: str) -> str:
    """An id for a message; empty for those of persons."""
    return "" if name in ("shopper", "session", "address") else f": {quoted(value)}"


def _query(query: object) -> str:
    if not isinstance(query, str) or not is_writable(query):
        raise EventError("bad query", "a query must be a text that UTF-8 can encode")
    if len(query) > MAX_QUERY:
        raise EventError("query too long", f"{len(query):,} characters; a query may have {MAX_QUERY:,}")
    return " ".join(CONTROL.sub(" ", query).split())


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise EventError(f"bad {name}", f"{quoted(value)}; {name} must be a whole number from {least:,} to {most:,}")


def _check_rating(rating: object) -> None:
    if isinstance(rating, bool) or not isinstance(rating, int | float):
        raise EventError("bad rating", f"{quoted(rating)}; a rating event needs a number from 0 to 5")
    if not 0 <= rating <= 5:
        raise EventError("bad rating", f"{quoted(rating)}; stars must be from 0 to 5")


def _time(time: object, now: datetime) -> datetime:
    if time is None:
        return now
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise EventError("bad time", f"{quoted(time)}; a time needs a date, a time of day and a zone")
    if time - now > SKEW:
        raise EventError("in the future", f"{time.isoformat()} is after {now.isoformat(timespec='seconds')}")
    if time < OLDEST:
        raise EventError("too old", f"{time.isoformat()}; events must be from {OLDEST.date()} on")
    return time
