"""Retention: events go when they are old, and keys when no pseudonym is under them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from retrieval.events.intake import utc_now
from retrieval.events.stored import DAY_MS, milliseconds
from service.event_log import EventLog, aside_files


@dataclass(frozen=True, slots=True)
class Expired:
    """What went: events of days before one (days since 1970, UTC), and the names of keys."""

    before_day: int
    events: int
    set_aside: int
    """Files of rows that imports set aside."""
    keys: tuple[str, ...]


def expire(log: EventLog, days: int, now: datetime | None = None) -> Expired:
    """Removes the events of all days (UTC) that ended more than so many days ago."""
    before = milliseconds(now or utc_now()) // DAY_MS - days
    events = log.store.expire(before)
    old = [path for path in aside_files(log.folder) if path.stat().st_mtime_ns // 1_000_000 // DAY_MS < before]
    for path in old:
        path.unlink()
    pseudonyms = log.intake.pseudonyms
    in_use = {name for name in pseudonyms.names if log.store.holds_key(name)}
    return Expired(before, events, len(old), pseudonyms.retire(in_use))
