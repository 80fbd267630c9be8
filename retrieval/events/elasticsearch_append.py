"""How events get into a cluster, each once: its key is claimed, then it is written.

An id is unique in one index only, and an event that is sent again may come with another time. So each key is claimed
first, in an index of keys for all months, with a digest of what its event says; then the event is written under the
key. Whoever is broken off in between sends again, finds the claim, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from retrieval.cluster import Cluster
from retrieval.cluster_documents import BULK_DOCUMENTS, CREATED, THERE_ALREADY, flush, parts, sources
from retrieval.events import ubi
from retrieval.events.elasticsearch_indexes import EventIndexes
from retrieval.events.store import Appended
from retrieval.events.stored import StoredEvent

_SENDERS = 2


def append(cluster: Cluster, indexes: EventIndexes, events: Sequence[StoredEvent]) -> Appended:
    """Takes events that are new; all are on the disk of every copy when it returns."""
    call = _Call(cluster, indexes, events)
    keys = list(parts(call.places, BULK_DOCUMENTS))
    if len(keys) <= 1:
        return _sum(map(call.append, keys))
    with ThreadPoolExecutor(_SENDERS, thread_name_prefix="shelfwise-events") as senders:
        return _sum(senders.map(call.append, keys))


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a key stands for: a digest of what was said, and when it happened."""

    said: str
    time: int


class _Call:
    """Events that are appended in one call, by their keys."""

    def __init__(self, cluster: Cluster, indexes: EventIndexes, events: Sequence[StoredEvent]) -> None:
        self._cluster = cluster
        self._indexes = indexes
        self._events = events
        self._said = [ubi.said_digest(event) for event in events]
        self.places: dict[str, list[int]] = {}
        """Of each key in hexadecimal digits: where its events are."""
        for place, event in enumerate(events):
            self.places.setdefault(event.key.hex(), []).append(place)

    def append(self, keys: Sequence[str]) -> Appended:
        """Takes the events of some keys."""
        claimed = self._claim({key: self._claim_of(self.places[key][0]) for key in keys})
        equal = {key: [p for p in self.places[key] if self._said[p] == claimed[key].said] for key in keys}
        differing = {place for key in keys for place in self.places[key]}.difference(*equal.values())
        # One that told no time has that of the first time that it was sent, and so its month.
        first = {key: self._events[places[0]] for key, places in equal.items() if places}
        taken = self._write({key: event._replace(time=claimed[key].time) for key, event in first.items()})
        return Appended(taken, sum(map(len, equal.values())) - taken, tuple(differing))

    def _claim_of(self, place: int) -> _Claim:
        return _Claim(self._said[place], self._events[place].time)

    def _claim(self, claims: Mapping[str, _Claim]) -> dict[str, _Claim]:
        """Claims keys for what is said under them; what is said under each in the store, by whomever."""
        index = self._indexes.keys
        statuses = self._indexes.write([(index, key, msgspec.json.encode(each)) for key, each in claims.items()])
        there = [key for key, status in zip(claims, statuses, strict=True) if status == THERE_ALREADY]
        found = sources(self._cluster, index, there) if there else {}
        return {**claims, **{key: _Claim(source["said"], source["time"]) for key, source in found.items()}}

    def _write(self, events: Mapping[str, StoredEvent]) -> int:
        """Writes events that are not there; how many were not."""
        application = self._indexes.application
        named = [(self._indexes.name_of(event), key, event) for key, event in events.items()]
        statuses = self._indexes.write([(name, key, ubi.document(event, application)) for name, key, event in named])
        there = {name for (name, *_), status in zip(named, statuses, strict=True) if status == THERE_ALREADY}
        if there:
            # Whoever writes it may not have it on the disk yet.
            flush(self._cluster, sorted(there))
        return statuses.count(CREATED)


def _sum(appended: Iterable[Appended]) -> Appended:
    each = list(appended)
    differing = sorted(place for one in each for place in one.differing)
    return Appended(sum(one.taken for one in each), sum(one.repeated for one in each), tuple(differing))
