"""Erasure of a shopper and retention of events."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from shelfwise.indexer.rejects import remove_unfinished
from shelfwise.retrieval.errors import StoreDamagedError, StoreLockedError
from shelfwise.retrieval.events.privacy import prefix, utc_now
from shelfwise.retrieval.events.store import EventStore
from shelfwise.retrieval.events.stored import DAY_MS, milliseconds, moment
from shelfwise.retrieval.store.files import scratch_path, write_durably
from shelfwise.retrieval.updates.journal import lock_folder
from shelfwise.service.events.event_log import REJECTS_FOLDER, EventLog, read_rejects, reject_files, rejects_time

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """The erased data of a shopper, and the result of the search for remains."""

    events: int
    rejected_rows: int
    remaining_events: int
    remaining_rows: int
    """Number of rows in derived tables with one of the shopper's pseudonyms."""
    files: int
    """Number of files whose bytes were searched for the pseudonyms."""
    found_in: tuple[str, ...]
    """Files that contain one."""

    @property
    def is_complete(self) -> bool:
        return not (self.remaining_events or self.remaining_rows or self.found_in)


def erase_pseudonyms(
    log: EventLog,
    pseudonyms: Collection[str],
    renew: Callable[[], object],
    rows_of: Callable[[Collection[str]], int],
    others: Collection[EventStore] = (),
) -> ErasureReport:
    """Removes the events of a shopper, given the pseudonyms under every key, from the log and the other stores.

    `renew` recreates the derived tables without keeping old ones; `rows_of` counts their rows with pseudonyms. Models
    trained before are not trained further: see `erasures`.
    """
    rejected = log.folder / REJECTS_FOLDER
    remove_unfinished(rejected)
    owners = (row.owner for path in reject_files(log.folder) for _, row in read_rejects(path, _Row))
    sessions = {owner.session for owner in owners if owner.shopper in pseudonyms}
    rejected_rows = 0
    if rejected.is_dir():
        with lock_folder(rejected, None):
            rejected_rows = sum(_without(path, pseudonyms, sessions - {""}) for path in reject_files(log.folder))
    is_known = any(store.holds(pseudonyms) for store in (log.store, *others))
    # Twice: an erasure that is killed counts, as does a training that reads the events meanwhile.
    if is_known:
        _count_erasure(log.folder)
    events = sum(store.forget(pseudonyms) for store in (log.store, *others))
    if is_known:
        _count_erasure(log.folder)
    try:
        renew()
    except StoreLockedError as error:
        message = (
            f"{events:,} events were removed, but tables still contain the shopper: {error}; then run forget again"
        )
        raise StoreLockedError(message) from error
    files = sorted(path for path in log.folder.rglob("*") if path.is_file())
    needles = [pseudonym.encode() for pseudonym in pseudonyms]
    found = tuple(str(path.relative_to(log.folder)) for path in files if _holds(path, needles))
    left = sum(store.holds(pseudonyms) for store in (log.store, *others))
    return ErasureReport(events, rejected_rows, left, rows_of(pseudonyms), len(files), found)


_ERASURES_FILE = "erasures.json"


def erasures(folder: Path) -> int:
    """A number, initially 0, that grows with each erasure of a shopper; `folder` is that of an index directory's
    events. A model trained under a smaller number may contain traces of an erased shopper, so no training starts from
    its weights. Raises StoreDamagedError for a file that cannot be read."""
    path = folder / _ERASURES_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=int)
    except FileNotFoundError:
        return 0
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreDamagedError(
            f"{path} cannot be read ({error}); write a large number into it, such as 1000"
        ) from error


def _count_erasure(folder: Path) -> None:
    write_durably(folder / _ERASURES_FILE, msgspec.json.encode(erasures(folder) + 1))


class _Owner(msgspec.Struct):
    shopper: str = ""
    session: str = ""


class _Row(msgspec.Struct):
    event: _Owner | None = None

    @property
    def owner(self) -> _Owner:
        return self.event or _Owner()


def _without(path: Path, pseudonyms: Collection[str], sessions: Collection[str]) -> int:
    """Removes the lines of a shopper, and those without a shopper in the same sessions; returns their number."""
    kept, removed = [], 0
    for line, row in read_rejects(path, _Row):
        owner = row.owner
        if owner.shopper in pseudonyms or (not owner.shopper and owner.session in sessions):
            removed += 1
        else:
            kept.append(line)
    if removed:
        write_durably(path, b"".join(kept))
    scratch_path(path).unlink(missing_ok=True)
    return removed


def _holds(path: Path, needles: Collection[bytes]) -> bool:
    longest = max(map(len, needles))
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            rest += chunk
            if any(needle in rest for needle in needles):
                return True
            rest = rest[1 - longest :]
    return False


_OVERLAP = timedelta(days=1)
"""Time after a rotation during which an import may still use the old key."""


def expire(log: EventLog, days: int, others: Collection[EventStore] = (), now: datetime | None = None) -> int:
    """Removes the events of all days (UTC) that ended more than a number of days ago, also from the other stores, and
    keys of pseudonyms that are no longer used; returns the number of events.

    Derived tables are not changed: the next refresh recreates them.
    """
    now = now or utc_now()
    before = milliseconds(now) // DAY_MS - days
    stores = (log.store, *others)
    events = sum(store.expire(before) for store in stores)
    remove_unfinished(log.folder / REJECTS_FOLDER)
    for path in reject_files(log.folder):
        if rejects_time(path) < moment(before * DAY_MS):
            path.unlink()
    pseudonyms = log.intake.pseudonyms
    rejected = [path.read_bytes() for path in reject_files(log.folder)]
    in_use = {
        name
        for name in pseudonyms.names
        if any(store.holds_key(name) for store in stores)
        or any(f'"{prefix(name)}'.encode() in content for content in rejected)
    }
    pseudonyms.retire(in_use, now - _OVERLAP)
    return events
