"""Retention: events go when they are old, what was made of them too, and keys when no pseudonym is under them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from indexer.events.aside import remove_unfinished
from retrieval.events.intake import utc_now
from retrieval.events.pseudonyms import prefix
from retrieval.events.store import EventStore
from retrieval.events.stored import DAY_MS, milliseconds, moment
from service.event_log import ASIDE_FOLDER, EventLog, aside_files, aside_time

_OVERLAP = timedelta(days=1)
"""How long after a rotation an import may still be at work with the old key."""


@dataclass(frozen=True, slots=True)
class Expired:
    """What went: events of days before one (days since 1970, UTC), and the names of keys."""

    before_day: int
    events: int
    set_aside: int
    """Files of rows that imports set aside."""
    keys: tuple[str, ...]


def expire(log: EventLog, days: int, others: Collection[EventStore] = (), now: datetime | None = None) -> Expired:
    """Removes the events of all days (UTC) that ended more than so many days ago, from the other stores, too.

    Tables that were made of them are left: they are made anew by the next refresh.
    """
    now = now or utc_now()
    before = milliseconds(now) // DAY_MS - days
    stores = (log.store, *others)
    events = sum(store.expire(before) for store in stores)
    remove_unfinished(log.folder / ASIDE_FOLDER)
    old = [path for path in aside_files(log.folder) if aside_time(path) < moment(before * DAY_MS)]
    for path in old:
        path.unlink()
    pseudonyms = log.intake.pseudonyms
    in_use = {name for name in pseudonyms.names if _is_in_use(name, log, stores)}
    return Expired(before, events, len(old), pseudonyms.retire(in_use, now - _OVERLAP))


def _is_in_use(name: str, log: EventLog, stores: Collection[EventStore]) -> bool:
    begin = f'"{prefix(name)}'.encode()
    return any(store.holds_key(name) for store in stores) or any(
        begin in path.read_bytes() for path in aside_files(log.folder)
    )
