"""Forgetting a shopper: out of the store of events, of the rows set aside and of every derived table, and the proof."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from retrieval.manifest import write_durably
from service.event_log import EventLog, aside_files

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed of a shopper, and what was looked through afterwards."""

    events: int
    set_aside: int
    left_events: int
    left_rows: int
    """Rows of derived tables under one of the shopper's pseudonyms."""
    files: int
    """Files whose bytes were searched for the pseudonyms."""
    found_in: tuple[str, ...]
    """Those that hold one. Nothing is left where all of these are 0 or empty."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left."""
        return not (self.left_events or self.left_rows or self.found_in)


def forget(
    log: EventLog, shopper: str, renew: Callable[[], object], rows_of: Callable[[Collection[str]], int]
) -> Forgotten:
    """Removes a shopper, named as the store's events named them.

    `renew` makes the derived tables anew without leaving old ones; `rows_of` counts their rows under pseudonyms.
    """
    pseudonyms = log.intake.pseudonyms.all_of(shopper)
    events = log.store.forget(pseudonyms)
    set_aside = sum(_without(path, pseudonyms) for path in aside_files(log.folder))
    renew()
    files = sorted(path for path in log.folder.rglob("*") if path.is_file())
    needles = [pseudonym.encode() for pseudonym in pseudonyms]
    found = tuple(str(path.relative_to(log.folder)) for path in files if _holds(path, needles))
    left = log.store.holds(pseudonyms)
    return Forgotten(events, set_aside, left, rows_of(pseudonyms), len(files), found)


def _without(path: Path, pseudonyms: Collection[str]) -> int:
    """Takes the lines of a shopper out of the rows that were set aside; how many there were."""
    kept, removed = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        event = msgspec.json.decode(line).get("event") or {}
        if event.get("shopper") in pseudonyms:
            removed += 1
        else:
            kept.append(line)
    if removed:
        write_durably(path, b"".join(kept))
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
