"""An event as it is kept: checked, without personal data, under a key that tells a resent one; and tables of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import polars as pl

from retrieval.events.event import EventKind

KEY_BYTES = 16
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000


class StoredEvent(NamedTuple):
    """One row of a store of events. Times are milliseconds since 1970, UTC."""

    key: bytes
    """16 bytes of its client's id; nothing of the id can be read from them."""
    kind: str
    time: int
    received: int
    """When it came in: of an imported log, when it was imported."""
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

    @property
    def day(self) -> int:
        """Days since 1970, UTC."""
        return self.time // DAY_MS

    @property
    def said(self) -> tuple[object, ...]:
        """What its client said: an event that is sent again says the same.

        Not who it was, since a new key for pseudonyms would change that; and no time where it is when the event came
        in, as the client has told none then.
        """
        return self._replace(received=0, shopper="", session="", time=0 if self.time == self.received else self.time)


_TIME = pl.Datetime("ms", "UTC")
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.Binary,
    "kind": pl.Enum([kind.value for kind in EventKind]),
    "time": _TIME,
    "received": _TIME,
    "shopper": pl.String,
    "session": pl.String,
    "query_id": pl.String,
    "query": pl.String,
    "product_id": pl.String,
    "position": pl.Int32,
    "quantity": pl.Int32,
    "rating": pl.Float64,
    "results": pl.Int32,
}
EVENT_SCHEMA = pl.Schema(_COLUMNS)
"""The columns of a table of events: what a store reads out, what is exported, and what learning starts from."""


def event_table(events: Iterable[tuple[object, ...]]) -> pl.DataFrame:
    """Events as a table with the columns of `EVENT_SCHEMA`, in their order."""
    plain = _COLUMNS | {"kind": pl.String, "time": pl.Int64, "received": pl.Int64}
    return pl.DataFrame(list(events), schema=plain, orient="row").cast(EVENT_SCHEMA)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 of a time with a zone."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def moment(ms: int) -> datetime:
    """The time, in UTC, of milliseconds since 1970."""
    return EPOCH + timedelta(milliseconds=ms)
