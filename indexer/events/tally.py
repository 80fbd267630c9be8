"""Counts over the events of an import, taken batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from retrieval.events.store import Appended
from retrieval.events.stored import StoredEvent, moment

MOST_COUNTED = 1_000_000
"""Different products, shoppers or sessions that are told apart: more would take too much memory."""


class _Different:
    """How many different texts there are, as long as they are not too many."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._is_full = False

    def add(self, texts: Iterable[str]) -> None:
        if not self._is_full:
            self._seen.update(texts)
            if len(self._seen) > MOST_COUNTED:
                self._is_full = True
                self._seen.clear()

    @property
    def count(self) -> int | None:
        return None if self._is_full else len(self._seen - {""})


class Tally:
    """What the store has of the logs so far."""

    def __init__(self) -> None:
        self.taken = 0
        self.repeated = 0
        self._kinds: Counter[str] = Counter()
        self._first: int | None = None
        self._last: int | None = None
        self._products, self._shoppers, self._sessions = _Different(), _Different(), _Different()

    def add(self, batch: Sequence[StoredEvent], appended: Appended) -> None:
        """Counts a batch, without the events that were not taken because another one has their id."""
        self.taken += appended.taken
        self.repeated += appended.repeated
        refused = set(appended.differing)
        kept = [event for place, event in enumerate(batch) if place not in refused] if refused else batch
        if not kept:
            return
        self._kinds.update(event.kind for event in kept)
        times = [event.time for event in kept]
        self._first = min(times) if self._first is None else min(self._first, *times)
        self._last = max(times) if self._last is None else max(self._last, *times)
        self._products.add({event.product_id for event in kept})
        self._shoppers.add({event.shopper for event in kept})
        self._sessions.add({event.session for event in kept})

    @property
    def kinds(self) -> dict[str, int]:
        """Events by kind, the most frequent first."""
        return dict(self._kinds.most_common())

    @property
    def first(self) -> datetime | None:
        """The earliest time."""
        return None if self._first is None else moment(self._first)

    @property
    def last(self) -> datetime | None:
        """The latest time."""
        return None if self._last is None else moment(self._last)

    @property
    def products(self) -> int | None:
        """Different products; None where they are too many."""
        return self._products.count

    @property
    def shoppers(self) -> int | None:
        """Different shoppers; None where they are too many."""
        return self._shoppers.count

    @property
    def sessions(self) -> int | None:
        """Different sessions; None where they are too many."""
        return self._sessions.count
